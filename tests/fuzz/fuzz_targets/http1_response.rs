//! Any bytes are a response head, too few, or bad; what is accepted ends its lines with CR LF.
#![no_main]

use alb_userspace::proxy::http1::{Fields, response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (head, upgrade, bytes) = input;
    let asked = response::Asked { head, upgrade };
    let mut fields = Fields::new();
    let Ok(Some(found)) = response::parse(bytes, asked, &mut fields) else { return };
    let text = &bytes[..found.len];
    assert!(text.starts_with(b"HTTP/1.") && text.ends_with(b"\r\n\r\n"));
    for (at, byte) in text.iter().enumerate() {
        assert!(*byte != b'\n' || text[at - 1] == b'\r', "bare LF");
    }
    assert!((100..=599).contains(&found.head.status));
});
