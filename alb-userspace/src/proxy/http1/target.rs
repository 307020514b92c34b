//! Request targets and authorities (RFC 9112 §3.2, RFC 3986): which forms are taken, and what
//! of them is looked at. Nothing is decoded or changed; pure.

use crate::proxy::{message::Scheme, refusal::Malformed};

/// A request target that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Target<'a> {
    /// `path[?query]`, or `*`.
    pub(in crate::proxy) origin: &'a [u8],
    /// Authority of an absolute-form.
    pub(in crate::proxy) authority: Option<&'a [u8]>,
}

/// Splits and checks the target of a request that is neither CONNECT nor TRACE.
pub(in crate::proxy) fn parse<'a>(
    target: &'a [u8],
    method: &[u8],
    scheme: Scheme,
) -> Result<Target<'a>, Malformed> {
    characters(target)?;
    match target {
        [b'/', ..] => {
            check_segments(target)?;
            Ok(Target { origin: target, authority: None })
        }
        b"*" if method == b"OPTIONS" => Ok(Target { origin: target, authority: None }),
        _ => absolute(target, method, scheme),
    }
}

fn absolute<'a>(target: &'a [u8], method: &[u8], scheme: Scheme) -> Result<Target<'a>, Malformed> {
    let colon = target.iter().position(|byte| *byte == b':').ok_or(Malformed::Target)?;
    let rest = target[colon..].strip_prefix(b"://").ok_or(Malformed::Target)?;
    let expected: &[u8] = match scheme {
        Scheme::Http => b"http",
        Scheme::Https => b"https",
    };
    if !target[..colon].eq_ignore_ascii_case(expected) {
        return Err(Malformed::Target);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    if authority.contains(&b'@') {
        return Err(Malformed::Target);
    }
    check_authority(authority)?;
    let origin = match origin {
        [] if method == b"OPTIONS" => b"*",
        [] => b"/",
        [b'/', ..] => {
            check_segments(origin)?;
            origin
        }
        // A query without a path has no origin-form that is the same bytes.
        _ => return Err(Malformed::Target),
    };
    Ok(Target { origin, authority: Some(authority) })
}

/// Printable ASCII without `#`. What else RFC 3986 forbids (`|`, `{`, `"`) browsers send.
fn characters(target: &[u8]) -> Result<(), Malformed> {
    match target.iter().find(|byte| !matches!(byte, 0x21..=0x7e) || **byte == b'#') {
        None => Ok(()),
        Some(_) => Err(Malformed::Target),
    }
}

/// Refuses `.` and `..` segments however they are spelled. `\`, `%2f` and `%5c` count as
/// separators and `;` as an end, because servers exist that read them so.
pub(in crate::proxy) fn check_segments(origin: &[u8]) -> Result<(), Malformed> {
    let mut rest = origin;
    loop {
        let Some((&first, after)) = rest.split_first() else { return Ok(()) };
        rest = match (first, after) {
            (b'?', _) => return Ok(()),
            (b'/' | b'\\', _) => after,
            (b'%', [b'2', b'f' | b'F', tail @ ..] | [b'5', b'c' | b'C', tail @ ..]) => tail,
            _ => {
                rest = after;
                continue;
            }
        };
        // Here `rest` begins a segment.
        let mut dots = 0;
        let mut tail = rest;
        while let [b'.', more @ ..] | [b'%', b'2', b'e' | b'E', more @ ..] = tail {
            dots += 1;
            tail = more;
        }
        let ends = matches!(
            tail,
            [] | [b'/' | b'\\' | b'?' | b';', ..]
                | [b'%', b'2', b'f' | b'F', ..]
                | [b'%', b'5', b'c' | b'C', ..]
                | [b'%', b'3', b'b' | b'B', ..]
        );
        if ends && (dots == 1 || dots == 2) {
            return Err(Malformed::DotSegment);
        }
    }
}

/// `host[:port]`: a name of letters, digits, `-`, `.`, `_` and `~`, an IPv4 address, or an IPv6
/// address in brackets.
pub(in crate::proxy) fn check_authority(authority: &[u8]) -> Result<(), Malformed> {
    let (host_ends, bracketed) = match authority {
        [b'[', ..] => {
            let end = authority.iter().position(|byte| *byte == b']');
            (end.ok_or(Malformed::HostInvalid)? + 1, true)
        }
        _ => (authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len()), false),
    };
    let (host, port) = authority.split_at(host_ends);
    let host_ok = if bracketed {
        let inner = &host[1..host.len() - 1];
        std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    } else {
        let plain =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        !host.is_empty() && host.len() <= 255 && host.iter().all(plain)
    };
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => port_number(digits).is_some(),
        _ => false,
    };
    if host_ok && port_ok { Ok(()) } else { Err(Malformed::HostInvalid) }
}

fn port_number(digits: &[u8]) -> Option<u16> {
    if !matches!(digits.len(), 1..=5) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |sum: u32, digit| sum * 10 + u32::from(digit & 0x0f));
    u16::try_from(number).ok()
}

/// Whether two valid authorities name the same, the scheme's own port being optional.
pub(in crate::proxy) fn same_authority(one: &[u8], other: &[u8], scheme: Scheme) -> bool {
    fn without_default(authority: &[u8], scheme: Scheme) -> &[u8] {
        let port: &[u8] = match scheme {
            Scheme::Http => b":80",
            Scheme::Https => b":443",
        };
        authority.strip_suffix(port).unwrap_or(authority)
    }
    without_default(one, scheme).eq_ignore_ascii_case(without_default(other, scheme))
}
