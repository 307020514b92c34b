//! Active flows of every target, and of every listener: the kernel's own arrays, mapped, so that
//! a counter can be corrected by an atomic addition while packets change it.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use alb_common::target::TargetState;

use super::sys::memory::{Access, Mapping};

/// The mapped counters, by index.
#[derive(Debug)]
pub struct Active(Mapping<AtomicU64>);

// The kernel rounds elements up to 8 bytes, and `active` is the only field.
const _: () = assert!(size_of::<TargetState>() == size_of::<AtomicU64>());

impl Active {
    /// Maps an array of `len` counters.
    pub(super) fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Mapping::map(fd, len, Access::Write).map(Self)
    }

    /// Active flows of a target or listener, by the packet path's count.
    pub fn get(&self, index: u32) -> u64 {
        let counter = self.0.to_read().get(index as usize);
        counter.map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    /// Adds to them.
    pub(super) fn add(&self, index: u32, add: i64) {
        let counters = self.0.to_write();
        if let Some(counter) = counters.and_then(|counters| counters.get(index as usize)) {
            counter.fetch_add(add.cast_unsigned(), Ordering::SeqCst);
        }
    }
}
