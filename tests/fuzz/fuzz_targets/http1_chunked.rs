//! A chunked body says the same whole and in pieces, with its framing and without.
#![no_main]

use alb_userspace::proxy::{http1::body::Body, message::BodyKind};
use libfuzzer_sys::fuzz_target;

/// What is sent on, whether the body ended, and whether it was refused.
fn relay(input: &[u8], step: usize, bare: bool) -> (Vec<u8>, bool, bool) {
    let mut body = Body::new(BodyKind::Chunked);
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        let span = if bare { body.take_data(&mut buffer) } else { body.take(&mut buffer) };
        let Ok(span) = span else { return (out, false, true) };
        buffer.truncate(buffer.len() - span.removed);
        out.extend(buffer.drain(..span.len));
        if span.ended {
            return (out, true, false);
        }
    }
    (out, false, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    for bare in [false, true] {
        let whole = relay(bytes, bytes.len().max(1), bare);
        let pieces = relay(bytes, usize::from(step).max(1), bare);
        // Pieces before the defect may have been sent on.
        assert_eq!((whole.1, whole.2), (pieces.1, pieces.2));
        if !whole.2 {
            assert_eq!(whole.0, pieces.0);
        }
    }
});
