//! What httparse leaves open of a head: that every line ends with CR LF, how long the start line
//! and the fields are, and whether a head that was partial can be complete by now. Pure.

use std::mem::MaybeUninit;

use httparse::Header;
use memchr::{memchr, memchr_iter};

use crate::proxy::{message::Field, refusal::Malformed};

/// Fields of a head; more than these go to the heap.
pub type Fields<'a> = smallvec::SmallVec<[Field<'a>; 48]>;

/// Slots that httparse fills without one allocation, the default of `limits.headers`.
pub(super) const SLOTS: usize = 128;

/// Room for `count` fields: the given slots, or a vector when they do not do.
pub(super) fn slots<'s, 'b>(
    few: &'s mut [MaybeUninit<Header<'b>>; SLOTS],
    many: &'s mut Vec<MaybeUninit<Header<'b>>>,
    count: usize,
) -> &'s mut [MaybeUninit<Header<'b>>] {
    if count <= SLOTS {
        return &mut few[..count];
    }
    many.resize_with(count, MaybeUninit::uninit);
    many
}

/// Copies what httparse found into `fields`, and checks that each line before a field and the
/// last two of the head end with CR LF. Returns the length of the start line without its end.
pub(super) fn collect<'b>(
    head: &'b [u8],
    headers: &[Header<'b>],
    fields: &mut Fields<'b>,
) -> Result<usize, Malformed> {
    let offset = |name: &str| name.as_ptr() as usize - head.as_ptr() as usize;
    if !head.ends_with(b"\r\n\r\n") {
        return Err(Malformed::LineEnding);
    }
    for header in headers {
        if head[..offset(header.name)].ends_with(b"\r\n") {
            fields.push(Field { name: header.name.as_bytes(), value: header.value });
        } else {
            return Err(Malformed::LineEnding);
        }
    }
    let fields_at = headers.first().map_or(head.len() - 2, |first| offset(first.name));
    Ok(fields_at - 2)
}

/// The word for what httparse disliked in a head.
pub(super) fn reason(head: &[u8], error: httparse::Error) -> Malformed {
    use httparse::Error;
    match error {
        Error::HeaderName => {
            let folded =
                memchr_iter(b'\n', head).any(|at| matches!(head.get(at + 1), Some(b' ' | b'\t')));
            if folded { Malformed::Folding } else { Malformed::FieldName }
        }
        Error::HeaderValue => Malformed::FieldValue,
        Error::NewLine => Malformed::LineEnding,
        Error::Version | Error::Status | Error::Token | Error::TooManyHeaders => {
            Malformed::RequestLine
        }
    }
}

/// Length of the start line as far as it is known.
pub(super) fn start_line(buf: &[u8]) -> usize {
    memchr(b'\n', buf).unwrap_or(buf.len())
}

/// Tells when it is worth parsing again, so that a head that trickles in costs one scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    scanned: usize,
}

impl Progress {
    /// Whether `buf`, which begins with the head and only ever grows, is worth parsing. The first
    /// time always, then only once an empty line is in it.
    pub fn is_ready(&mut self, buf: &[u8]) -> bool {
        let first = self.scanned == 0;
        let from = self.scanned.saturating_sub(3);
        self.scanned = buf.len();
        first
            || memchr_iter(b'\n', &buf[from..]).any(|at| {
                let rest = &buf[from + at + 1..];
                rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
            })
    }
}
