//! Copy buffers of a worker: taken for as long as bytes are in them, so that an idle connection
//! holds none.

use std::{cell::RefCell, ops::Range};

/// Bytes one buffer holds. Smaller ones cost a system call more for each of them.
const SIZE: usize = 64 * 1024;
/// Buffers a worker keeps for later.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer with the part of it that is still to be written.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: Range<usize>,
}

impl Buffer {
    pub(super) fn take() -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        Self { bytes: free.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()), filled: 0..0 }
    }

    /// One that holds these bytes.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { filled: 0..bytes.len(), bytes: bytes.into_boxed_slice() }
    }

    /// What is to be written.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.filled.clone()]
    }

    /// Room for more.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled.end..]
    }

    /// So many bytes were put into the room.
    pub(super) fn add(&mut self, count: usize) {
        self.filled.end += count;
    }

    /// So many bytes were written.
    pub(super) fn consume(&mut self, count: usize) {
        self.filled.start += count;
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        FREE.with_borrow_mut(|free| {
            if bytes.len() == SIZE && free.len() < KEPT {
                free.push(bytes);
            }
        });
    }
}
