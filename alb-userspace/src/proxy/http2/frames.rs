//! Where frames begin in a stream of bytes, and of what type they are (RFC 9113 §4.1). Pure; looks
//! at the nine bytes of each frame's header and skips the rest.

/// Bytes of the client's preface before the first frame (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's header.
const HEADER: usize = 9;

/// Frame types that matter here (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a frame costs us beside the bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something is asked for or sent: has its price elsewhere (streams, windows).
    Work,
    /// `RST_STREAM`.
    Reset,
    /// PING, SETTINGS, PRIORITY, GOAWAY and unknown ones.
    Control,
    /// CONTINUATION, or DATA without data that ends nothing.
    Empty,
    /// `WINDOW_UPDATE`.
    Window,
}

/// Reads frame headers from bytes that come in pieces.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to come that are no frame header.
    skip: usize,
    header: [u8; HEADER],
    /// Bytes of `header` that are there.
    filled: usize,
    /// A header block was begun and not ended.
    in_block: bool,
    /// The payload that is being skipped belongs to a header block.
    block_payload: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            filled: 0,
            in_block: false,
            block_payload: false,
        }
    }
}

impl Frames {
    /// Whether a header block waits for its rest.
    pub(super) fn in_header_block(&self) -> bool {
        self.in_block || (self.block_payload && self.skip > 0)
    }

    /// Calls `seen` for each frame that begins in these bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Kind)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER {
                self.filled = 0;
                seen(self.begin());
            }
        }
    }

    fn begin(&mut self) -> Kind {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        self.block_payload = matches!(kind, HEADERS | CONTINUATION);
        if self.block_payload {
            self.in_block = flags & END_HEADERS == 0;
        }
        match kind {
            DATA if length == 0 && flags & END_STREAM == 0 => Kind::Empty,
            DATA | HEADERS => Kind::Work,
            RST_STREAM => Kind::Reset,
            WINDOW_UPDATE => Kind::Window,
            CONTINUATION => Kind::Empty,
            _ => Kind::Control,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + length, 0xff);
        frame
    }

    fn kinds(bytes: &[u8], piece: usize) -> (Vec<Kind>, bool) {
        let (mut frames, mut kinds) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.feed(piece, |kind| kinds.push(kind));
        }
        (kinds, frames.in_header_block())
    }

    #[test]
    fn each_type_has_its_kind() {
        for (kind, flags, length, expected) in [
            (0, 0, 0, Kind::Empty),
            (0, END_STREAM, 0, Kind::Work),
            (0, 0, 5, Kind::Work),
            (1, END_HEADERS, 5, Kind::Work),
            (2, 0, 5, Kind::Control),
            (3, 0, 4, Kind::Reset),
            (4, 0, 0, Kind::Control),
            (6, 0, 8, Kind::Control),
            (7, 0, 8, Kind::Control),
            (8, 0, 4, Kind::Window),
            (9, 0, 5, Kind::Empty),
            (200, 0, 5, Kind::Control),
        ] {
            let bytes = [vec![0; PREFACE], frame(kind, flags, length)].concat();
            assert_eq!(kinds(&bytes, 1000).0, [expected], "type {kind}");
        }
    }

    #[test]
    fn header_blocks_end_with_their_last_byte() {
        let preface = vec![0; PREFACE];
        let whole = [preface.clone(), frame(1, END_HEADERS, 5)].concat();
        assert!(!kinds(&whole, 7).1);
        assert!(kinds(&whole[..whole.len() - 1], 7).1, "a part of HEADERS");
        let begun = [preface.clone(), frame(1, 0, 5)].concat();
        assert!(kinds(&begun, 7).1, "CONTINUATION is to come");
        let ended = [begun, frame(9, END_HEADERS, 3)].concat();
        assert!(!kinds(&ended, 7).1);
        assert!(!kinds(&[preface, frame(0, 0, 9)].concat()[..30], 7).1, "a part of DATA");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..300_usize), 0..20),
            piece in 1..50_usize,
        ) {
            let frames = frames.iter().flat_map(|(kind, flags, len)| frame(*kind, *flags, *len));
            let bytes: Vec<u8> = vec![0; PREFACE].into_iter().chain(frames).collect();
            prop_assert_eq!(kinds(&bytes, piece), kinds(&bytes, usize::MAX));
        }
    }
}
