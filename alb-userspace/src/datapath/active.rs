//! Active flows of every target, and of every listener: the kernel's own arrays, mapped, so that
//! a counter can be corrected by an atomic addition while packets change it.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use alb_common::target::TargetState;

/// The mapped counters, by index.
#[derive(Debug)]
pub struct Active {
    first: NonNull<AtomicU64>,
    len: usize,
}

// The kernel rounds elements up to 8 bytes, and `active` is the only field.
const _: () = assert!(size_of::<TargetState>() == size_of::<AtomicU64>());

// SAFETY: the mapping belongs to the process, and is used through atomics only.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl Send for Active {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl Sync for Active {}

impl Active {
    /// Maps an array of `len` counters (`BPF_F_MMAPABLE`, Linux 5.5).
    #[expect(unsafe_code, reason = "a system call")]
    pub(super) fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let bytes = len * size_of::<AtomicU64>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file, wherever the kernel likes; it refuses one that is
        // larger than the array.
        let mapped = unsafe {
            libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { first, len })
    }

    /// Active flows of a target or listener, by the packet path's count.
    pub fn get(&self, index: u32) -> u64 {
        self.counter(index).map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    /// Adds to them.
    pub(super) fn add(&self, index: u32, add: i64) {
        if let Some(counter) = self.counter(index) {
            counter.fetch_add(add.cast_unsigned(), Ordering::SeqCst);
        }
    }

    #[expect(unsafe_code, reason = "shared memory behind a pointer")]
    fn counter(&self, index: u32) -> Option<&AtomicU64> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.len)?;
        // SAFETY: within the `len` elements that are mapped for as long as `self` lives.
        let counter = unsafe { self.first.add(index) };
        // SAFETY: aligned, since a mapping begins at a page; the kernel changes it by atomic
        // additions only.
        Some(unsafe { counter.as_ref() })
    }
}

impl Drop for Active {
    #[expect(unsafe_code, reason = "a system call")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing borrows from it any more.
        let unmapped =
            unsafe { libc::munmap(self.first.as_ptr().cast(), self.len * size_of::<AtomicU64>()) };
        debug_assert_eq!(unmapped, 0, "it was mapped");
    }
}
