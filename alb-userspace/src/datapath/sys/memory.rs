//! Arrays of the kernel in this process's memory (`BPF_F_MMAPABLE`, Linux 5.5): the only way to
//! change part of an element by an atomic operation, and by far the fastest to read many.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

use alb_common::flow_table::{Lined, shared::Line};

/// What a process may share with the kernel.
///
/// # Safety
///
/// Reached through atomics and nothing else, so that others may change it at any moment, and any bits
/// are a value; of a size, a multiple of 8, that the kernel's elements are whole numbers of: they lie one
/// after the other.
#[expect(unsafe_code, reason = "a promise about a layout")]
pub(in crate::datapath) unsafe trait Shared: Sync {}

// SAFETY: an atomic of 8 bytes.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl Shared for AtomicU64 {}
// SAFETY: atomics of 4 bytes, an even number of them, and one of 8, without padding.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl<A: Lined> Shared for Line<A> {}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// A mapped array.
#[derive(Debug)]
pub(in crate::datapath) struct Mapping<T> {
    first: NonNull<T>,
    len: usize,
    access: Access,
}

// SAFETY: the mapping belongs to the process, and is used through atomics only.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl<T: Shared> Send for Mapping<T> {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl<T: Shared> Sync for Mapping<T> {}

impl<T: Shared> Mapping<T> {
    /// Maps an array map of `len` values. The descriptor must be one that can write, whatever the
    /// mapping is for: the kernel maps nothing for one that can only read.
    #[expect(unsafe_code, reason = "a system call")]
    pub(in crate::datapath) fn map(
        fd: BorrowedFd<'_>,
        len: usize,
        access: Access,
    ) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping of a file, wherever the kernel likes; it refuses one that is
        // larger than the array.
        let mapped = unsafe {
            libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { first, len, access })
    }

    /// The elements, to be read: a mapping for reading has no others.
    #[expect(unsafe_code, reason = "shared memory behind a pointer")]
    pub(in crate::datapath) fn to_read(&self) -> &[T] {
        // SAFETY: so many elements are mapped for as long as `self` lives; aligned, since a mapping
        // begins at a page; whoever else changes them, they are atomics.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }

    /// The elements, to be changed; `None` if it is for reading.
    pub(in crate::datapath) fn to_write(&self) -> Option<&[T]> {
        (self.access == Access::Write).then(|| self.to_read())
    }
}

impl<T> Drop for Mapping<T> {
    #[expect(unsafe_code, reason = "a system call")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing borrows from it any more.
        let unmapped =
            unsafe { libc::munmap(self.first.as_ptr().cast(), self.len * size_of::<T>()) };
        debug_assert_eq!(unmapped, 0, "it was mapped");
    }
}
