//! Byte strings of strangers, made harmless.

/// Appends `bytes` as the inside of a JSON string (RFC 8259 §7). What is not UTF-8 becomes
/// U+FFFD: JSON has no other bytes.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    // Nearly everything is plain, and asking all bytes together is quicker than one by one.
    if bytes.iter().fold(0, |any, byte| any | special(*byte) | u8::from(*byte < b' ')) == 0 {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        json_text(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// 1 for a quote, a backslash, DEL and what is not ASCII. Without branches, so that many bytes are
/// asked by one instruction.
fn special(byte: u8) -> u8 {
    u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte >= 0x7f)
}

fn json_text(text: &[u8], out: &mut Vec<u8>) {
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex(*control));
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// Appends `bytes` as a field between blanks: printable ASCII, everything else (and blanks,
/// quotes and backslashes) as `\xHH`; `-` for nothing, `\x2D` for a lone dash.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        b"" => return out.push(b'-'),
        b"-" => return out.extend_from_slice(b"\\x2D"),
        _ => {}
    }
    if bytes.iter().fold(0, |any, byte| any | special(*byte) | u8::from(*byte <= b' ')) == 0 {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\' {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&hex(*byte));
        }
    }
}

/// Appends `bytes` as the inside of a field between quotes: printable ASCII and blanks, everything
/// else (and quotes and backslashes) as `\xHH`. Apache and nginx write it so, but for the quote:
/// Apache's `\"` ends the field for readers that look for the next quote, nginx's `\x22` does not.
pub(super) fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().fold(0, |any, byte| any | special(*byte) | u8::from(*byte < b' ')) == 0 {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&hex(*byte));
        }
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = vec![b'"'];
            super::json(&bytes, &mut out);
            out.push(b'"');
            let read: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn json_keeps_text(text in "\\PC*") {
            let mut out = vec![b'"'];
            super::json(text.as_bytes(), &mut out);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn text_is_one_field_that_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            super::text(&bytes, &mut out);
            prop_assert!(!out.is_empty() && out.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(if out == b"-" { Vec::new() } else { read_back(&out) }, bytes);
        }

        #[test]
        fn a_quoted_field_ends_at_its_quote(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            super::quoted(&bytes, &mut out);
            prop_assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'"'));
            prop_assert_eq!(read_back(&out), bytes);
        }
    }

    fn read_back(mut rest: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while let [first, after @ ..] = rest {
            if *first == b'\\' {
                let digits = std::str::from_utf8(&after[1..3]).unwrap();
                read.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[3..];
            } else {
                read.push(*first);
                rest = after;
            }
        }
        read
    }
}
