//! Active flows of every target: the kernel's own array, mapped, so that a counter can be
//! corrected by an atomic addition while packets change it.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use alb_common::{limits::MAX_TARGETS, target::TargetState};

/// The mapped counters, by target index.
#[derive(Debug)]
pub struct Active {
    first: NonNull<AtomicU64>,
}

const LEN: usize = MAX_TARGETS;
const BYTES: usize = LEN * size_of::<AtomicU64>();
// The kernel rounds elements up to 8 bytes, and `active` is the only field.
const _: () = assert!(size_of::<TargetState>() == size_of::<AtomicU64>());

// SAFETY: the mapping belongs to the process, and is used through atomics only.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl Send for Active {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "shared memory behind a pointer")]
unsafe impl Sync for Active {}

impl Active {
    /// Maps `TARGET_STATES` (`BPF_F_MMAPABLE`, Linux 5.5).
    #[expect(unsafe_code, reason = "a system call")]
    pub(super) fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file, wherever the kernel likes; it refuses one that is
        // larger than the array.
        let mapped = unsafe {
            libc::mmap(ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { first })
    }

    /// Active flows of a target, by the packet path's count.
    pub fn get(&self, target: u32) -> u64 {
        self.counter(target).map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    /// Adds to them.
    pub(super) fn add(&self, target: u32, add: i64) {
        if let Some(counter) = self.counter(target) {
            counter.fetch_add(add.cast_unsigned(), Ordering::SeqCst);
        }
    }

    #[expect(unsafe_code, reason = "shared memory behind a pointer")]
    fn counter(&self, target: u32) -> Option<&AtomicU64> {
        let index = usize::try_from(target).ok().filter(|index| *index < LEN)?;
        // SAFETY: within the `LEN` elements that are mapped for as long as `self` lives.
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
        let unmapped = unsafe { libc::munmap(self.first.as_ptr().cast(), BYTES) };
        debug_assert_eq!(unmapped, 0, "it was mapped");
    }
}
