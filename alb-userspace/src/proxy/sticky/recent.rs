//! What was written last, so that answers of one second share a signature. Each thread has its
//! own; a value is found by the keys it was made with, or made anew.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::proxy::message::Scheme;

/// Places for values; two targets that fall on one place take turns in it.
const PLACES: usize = 512;

thread_local! {
    static PLACED: RefCell<Vec<Option<Placed>>> = const { RefCell::new(Vec::new()) };
}

/// What a value depends on, for the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) target: usize,
    pub(super) scheme: Scheme,
    /// Seconds since 1970; 0 = with the browser.
    pub(super) expires: u32,
}

#[derive(Debug)]
struct Placed {
    keys: usize,
    of: Of,
    text: Vec<u8>,
}

/// The values of one set of keys.
#[derive(Debug)]
pub(super) struct Recent(usize);

impl Recent {
    pub(super) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Appends the value; `make` appends it if it is not at hand.
    pub(super) fn write(&self, of: Of, out: &mut Vec<u8>, make: impl FnOnce(&mut Vec<u8>)) {
        let Self(keys) = *self;
        PLACED.with_borrow_mut(|placed| {
            if placed.is_empty() {
                placed.resize_with(PLACES, || None);
            }
            // Neighbours of one backend fall on different places.
            let spread = keys.wrapping_mul(0x9e37_79b9).wrapping_add(of.target);
            let place = &mut placed[spread % PLACES];
            match place {
                Some(had) if had.keys == keys && had.of == of => {
                    out.extend_from_slice(&had.text);
                }
                _ => {
                    let start = out.len();
                    make(out);
                    *place = Some(Placed { keys, of, text: out[start..].to_vec() });
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_until_anything_differs() {
        let (one, other) = (Recent::new(), Recent::new());
        let of = Of { target: 3, scheme: Scheme::Https, expires: 100 };
        let mut made = 0;
        let mut ask = |recent: &Recent, of: Of| {
            let mut out = b"before ".to_vec();
            recent.write(of, &mut out, |out| {
                made += 1;
                out.extend_from_slice(made.to_string().as_bytes());
            });
            String::from_utf8(out).unwrap()
        };
        assert_eq!(ask(&one, of), "before 1");
        assert_eq!(ask(&one, of), "before 1");
        assert_eq!(ask(&one, Of { expires: 101, ..of }), "before 2");
        assert_eq!(ask(&one, Of { scheme: Scheme::Http, expires: 101, ..of }), "before 3");
        assert_eq!(ask(&one, Of { target: 4, ..of }), "before 4");
        assert_eq!(ask(&other, of), "before 5");
    }
}
