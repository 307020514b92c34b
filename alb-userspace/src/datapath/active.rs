//! Active flows of every target, and of every listener: the kernel's own arrays, mapped, so that
//! a counter can be corrected by an atomic addition while packets change it.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use super::sys::memory::{Access, Mapping};

/// The mapped counters, by index.
#[derive(Debug)]
pub struct Active(Mapping<AtomicU64>);

impl Active {
    /// Maps an array map of `len` counters, in however many elements.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Mapping::map(fd, len, Access::Write).map(Self)
    }

    /// Active flows of a target or listener, by the packet path's count.
    pub fn get(&self, index: u32) -> u64 {
        let counter = self.0.to_read().get(index as usize);
        counter.map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    /// Adds to them.
    pub fn add(&self, index: u32, add: i64) {
        if let Some(counter) = self.counter(index) {
            counter.fetch_add(add.cast_unsigned(), Ordering::SeqCst);
        }
    }

    /// Replaces them. What packets add meanwhile is lost, so only of an index that no flow names.
    pub fn set(&self, index: u32, active: u64) {
        if let Some(counter) = self.counter(index) {
            counter.store(active, Ordering::SeqCst);
        }
    }

    fn counter(&self, index: u32) -> Option<&AtomicU64> {
        self.0.to_write()?.get(index as usize)
    }
}
