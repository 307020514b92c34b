//! The `bpf(2)` commands on maps that aya 0.14 has not got in the shape needed here: typed by
//! [`Plain`], and in batches (Linux 5.6). This, `sys/link.rs` and `sys/memory.rs` are the only files of
//! the daemon with unsafe code for it.

pub(super) mod filter;
pub(super) mod link;
pub(super) mod memory;

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd},
    thread::sleep,
    time::Duration,
};

use alb_common::abi::Plain;

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;

/// `BPF_ANY` of `bpf(2)`: create or replace.
pub(super) const ANY: u64 = 0;

/// `bpf_attr` for `BPF_MAP_*_ELEM`.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `bpf_attr` for `BPF_MAP_*_BATCH`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<()> {
    call(command, attr).map(drop)
}

/// As [`bpf`], for commands that return a descriptor.
#[expect(unsafe_code, reason = "a system call")]
fn call<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is one of the structs here and in `link`, laid out as the kernel's
    // `bpf_attr` for the command; the callers fill its pointers with buffers of the sizes that
    // the command reads and writes, and those outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<A>()) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

/// Returns when no packet is in a program any more that was in one before: the kernel's grace period.
pub(super) fn wait_for_packets() {
    /// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h, which is `synchronize_rcu()`.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes numbers.
    #[expect(unsafe_code, reason = "a system call")]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        // Not to be had with `nohz_full`: far longer than a packet takes.
        sleep(Duration::from_millis(100));
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// What the kernel wrote as so many bytes; `None` if they are fewer or more.
#[expect(unsafe_code, reason = "bytes become a value")]
pub(super) fn value<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as many bytes as `T` has; every bit pattern is one, and the read is unaligned.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Reads the element of a map that is not per CPU; `None` if there is none.
pub(super) fn lookup<K: Plain, V: Plain>(fd: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::zeroed();
    let mut attr = ElementAttr {
        map: number(fd),
        key: address(key),
        value: address(value.as_mut_ptr()),
        ..ElementAttr::default()
    };
    match bpf(MAP_LOOKUP_ELEM, &mut attr) {
        Ok(()) => {
            // SAFETY: zeroed, then written by the kernel; every bit pattern of a `Plain` type
            // is a valid value.
            #[expect(unsafe_code, reason = "the kernel wrote it")]
            let value = unsafe { value.assume_init() };
            Ok(Some(value))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads an element of several values: a per-CPU one, with one for each possible CPU, or one that is
/// an array of `count`, which the kernel relies on. `V`'s size is a multiple of 8, as the kernel rounds up to.
pub(super) fn lookup_all<K: Plain, V: Plain + Default>(
    fd: BorrowedFd<'_>,
    key: &K,
    count: usize,
) -> io::Result<Vec<V>> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let mut values = vec![V::default(); count];
    let mut attr = ElementAttr {
        map: number(fd),
        key: address(key),
        value: address(values.as_mut_ptr()),
        ..ElementAttr::default()
    };
    bpf(MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(values)
}

/// Writes such an element: as many values as [`lookup_all`] reads.
pub(super) fn update_all<K: Plain, V: Plain>(
    fd: BorrowedFd<'_>,
    key: &K,
    values: &[V],
) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let mut attr = ElementAttr {
        map: number(fd),
        key: address(key),
        value: address(values.as_ptr()),
        flags: ANY,
        ..ElementAttr::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attr)
}

/// Writes an element.
pub(super) fn update<K: Plain, V: Plain>(
    fd: BorrowedFd<'_>,
    key: &K,
    value: &V,
    flags: u64,
) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: number(fd),
        key: address(key),
        value: address(value),
        flags,
        ..ElementAttr::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attr)
}

/// Deletes an element; `false` if there was none.
pub(super) fn delete<K: Plain>(fd: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = ElementAttr { map: number(fd), key: address(key), ..ElementAttr::default() };
    match bpf(MAP_DELETE_ELEM, &mut attr) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes many elements. On an error some of them may be written.
pub(super) fn update_batch<K: Plain, V: Plain>(
    fd: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    assert_eq!(keys.len(), values.len(), "a value for every key");
    let Ok(count) = u32::try_from(keys.len()) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    if count == 0 {
        return Ok(());
    }
    let mut attr = BatchAttr {
        map: number(fd),
        keys: address(keys.as_ptr()),
        values: address(values.as_ptr()),
        count,
        ..BatchAttr::default()
    };
    bpf(MAP_UPDATE_BATCH, &mut attr)
}

/// Calls `visit` with every element of a hash, array or trie map, in batches. Elements that are
/// added or removed meanwhile may or may not be seen.
pub(super) fn for_each<K: Plain + Default, V: Plain + Default>(
    fd: BorrowedFd<'_>,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    /// More than a bucket of a hash map ever holds: one bucket must fit.
    const BATCH: u32 = 4_096;
    let mut keys = vec![K::default(); BATCH as usize];
    let mut values = vec![V::default(); BATCH as usize];
    // The kernel's cursor: a bucket number for hash maps, the last key for the others.
    const { assert!(size_of::<K>() <= size_of::<[u64; 5]>()) };
    let (mut from, mut to) = ([0u64; 5], [0u64; 5]);
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            map: number(fd),
            from: if first { 0 } else { address(&raw const from) },
            to: address(&raw mut to),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: BATCH,
            ..BatchAttr::default()
        };
        let result = bpf(MAP_LOOKUP_BATCH, &mut attr);
        let last = match result {
            Ok(()) => false,
            // The end; `count` elements are valid.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = attr.count as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            visit(key, value);
        }
        if last {
            return Ok(());
        }
        first = false;
        from = to;
    }
}
