//! Read buffers of one size that a worker's connections borrow while they have bytes in work. An
//! idle connection holds none. Knows nothing of protocols.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one buffer; copying 64 KiB at a time costs least per byte.
pub const SIZE: usize = 65_536;
/// Unused buffers a worker keeps.
const SPARE: usize = 64;
/// Bytes that wait for more in memory of their own size: whoever sends the first ones of a head
/// and stops, on thousands of connections, is not to hold a buffer each.
const FEW: usize = 2_048;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not used up. Without bytes it may be without memory.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Always initialised; empty = not allocated.
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Bytes that are there.
    pub fn data(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Bytes that are there, to be changed.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// How many bytes are there.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.len() == self.memory.len() && self.memory.len() >= SIZE
    }

    /// The first `len` bytes were used up.
    pub fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end, "no more is used up than is there");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The last `len` bytes are none.
    pub fn shorten(&mut self, len: usize) {
        self.end -= len;
        self.consume(0);
    }

    /// Doubles a full buffer, up to `most` bytes; false = it has them.
    pub fn grow(&mut self, most: usize) -> bool {
        if self.memory.len() >= most {
            return false;
        }
        let mut memory = vec![0; (self.memory.len() * 2).min(most)].into_boxed_slice();
        memory[..self.len()].copy_from_slice(self.data());
        (self.start, self.end) = (0, self.len());
        give(std::mem::replace(&mut self.memory, memory));
        true
    }

    /// Gives most of the memory back if few bytes need it, for a wait that may be long.
    pub fn tighten(&mut self) {
        let len = self.len();
        if self.memory.len() == SIZE && len <= SIZE / 2 {
            let memory = Box::from(self.data());
            (self.start, self.end) = (0, len);
            give(std::mem::replace(&mut self.memory, memory));
        }
    }

    /// Gives the memory back if no byte needs it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.memory.is_empty() {
            give(std::mem::take(&mut self.memory));
        }
    }

    /// Reads once, behind the bytes that are there; 0 = the end, or no room.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_some(reader, cx, usize::MAX)
    }

    /// The same, with at most so many bytes.
    pub fn poll_fill_some<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.memory.len() < SIZE {
            let mut memory = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(fresh);
            memory[..self.len()].copy_from_slice(self.data());
            (self.start, self.end) = (0, self.len());
            self.memory = memory;
        } else if self.end == self.memory.len() && self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let end = self.end.saturating_add(most).min(self.memory.len());
        let mut space = ReadBuf::new(&mut self.memory[self.end..end]);
        let polled = Pin::new(reader).poll_read(cx, &mut space);
        let len = space.filled().len();
        if polled.is_pending() {
            self.release();
            if self.len() <= FEW {
                self.tighten();
            }
        }
        ready!(polled)?;
        self.end += len;
        Poll::Ready(Ok(len))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        (self.start, self.end) = (0, 0);
        self.release();
    }
}

fn fresh() -> Box<[u8]> {
    vec![0; SIZE].into_boxed_slice()
}

fn give(memory: Box<[u8]>) {
    // At the end of a thread the pool may be gone before the last buffer.
    let _given = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if memory.len() == SIZE && pool.len() < SPARE {
            pool.push(memory);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fill(buffer: &mut Buffer, mut bytes: &[u8]) -> usize {
        std::future::poll_fn(|cx| buffer.poll_fill(&mut bytes, cx)).await.unwrap()
    }

    #[tokio::test]
    async fn bytes_go_in_at_the_end_and_out_at_the_beginning() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, b"hello world").await, 11);
        buffer.consume(6);
        assert_eq!(buffer.data(), b"world");
        buffer.shorten(1);
        assert_eq!(buffer.data(), b"worl");
        buffer.consume(4);
        buffer.release();
        assert!(buffer.memory.is_empty(), "an empty buffer holds no memory");
    }

    #[tokio::test]
    async fn few_bytes_need_little_memory_while_they_wait() {
        let mut buffer = Buffer::default();
        fill(&mut buffer, &vec![b'a'; SIZE / 2 + 2]).await;
        buffer.tighten();
        assert_eq!(buffer.memory.len(), SIZE, "many bytes stay where they are");
        buffer.consume(2);
        buffer.tighten();
        assert_eq!((buffer.memory.len(), buffer.len()), (SIZE / 2, SIZE / 2));
        assert!(buffer.data().iter().all(|byte| *byte == b'a'));
        assert_eq!(fill(&mut buffer, b"b").await, 1, "there is room again");
        assert_eq!((buffer.memory.len(), buffer.len()), (SIZE, SIZE / 2 + 1));
        assert!(buffer.data().ends_with(b"ab"));
    }

    #[tokio::test]
    async fn whoever_sends_little_and_stops_holds_little() {
        let (mut client, mut server) = tokio::io::duplex(SIZE);
        let mut buffer = Buffer::default();
        let mut text = Vec::new();
        for piece in [&b"GET / HT"[..], b"TP/1.1\r\n", &[b'x'; FEW]] {
            tokio::io::AsyncWriteExt::write_all(&mut client, piece).await.unwrap();
            text.extend_from_slice(piece);
            let mut pending = false;
            while !pending {
                let polled = std::future::poll_fn(|cx| {
                    Poll::Ready(buffer.poll_fill(&mut server, cx).is_pending())
                });
                pending = polled.await;
            }
            assert_eq!(buffer.data(), text);
            assert!(!buffer.is_full(), "there is room for more");
            let held = if text.len() <= FEW { text.len() } else { SIZE };
            assert_eq!(buffer.memory.len(), held);
        }
    }

    #[tokio::test]
    async fn room_is_made_by_moving_and_by_growing() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, &vec![b'a'; SIZE + 5]).await, SIZE);
        assert!(buffer.is_full());
        assert_eq!(fill(&mut buffer, b"b").await, 0, "no room");
        buffer.consume(1);
        assert_eq!(fill(&mut buffer, b"bc").await, 1);
        assert!(buffer.grow(SIZE + 1) && !buffer.grow(SIZE + 1));
        assert_eq!(fill(&mut buffer, b"c").await, 1);
        assert!(buffer.data().ends_with(b"abc") && buffer.len() == SIZE + 1);
    }
}
