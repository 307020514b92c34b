//! The `bpf(2)` commands on links, and the pinning of programs. aya 0.14 gives neither the interface of a link nor a way to
//! put a program on it that this process has not loaded itself.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{address, bpf, call, number};

const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;
/// `BPF_F_RDONLY` of linux/bpf.h.
const READ_ONLY: u32 = 1 << 3;
/// `BPF_F_REPLACE` of linux/bpf.h.
const REPLACE: u32 = 1 << 2;

/// `bpf_attr` for `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
#[derive(Default)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// `bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `bpf_attr` for `BPF_LINK_DETACH`.
#[repr(C)]
struct DetachAttr {
    link: u32,
}

/// The start of `bpf_link_info`, with the fields that an XDP or tcx link has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::datapath) struct LinkInfo {
    kind: u32,
    id: u32,
    /// Id of the program that runs on it.
    pub(in crate::datapath) program: u32,
    pad: u32,
    /// Interface; 0 when the device is gone.
    pub(in crate::datapath) ifindex: u32,
    rest: [u32; 3],
}

/// Opens what is pinned at a path.
pub(in crate::datapath) fn open(path: &Path) -> io::Result<OwnedFd> {
    get(path, 0)
}

/// Opens a map that is pinned at a path, for reading only.
pub(in crate::datapath) fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    get(path, READ_ONLY)
}

fn get(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PathAttr { path: address(path.as_ptr()), flags, ..PathAttr::default() };
    let fd = call(OBJ_GET, &mut attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
    #[expect(unsafe_code, reason = "the system call returns a bare number")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins what a descriptor stands for at a path that is not there yet.
pub(in crate::datapath) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr =
        PathAttr { path: address(path.as_ptr()), fd: number(object), ..PathAttr::default() };
    bpf(OBJ_PIN, &mut attr)
}

/// What runs on a link, and where.
pub(in crate::datapath) fn info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let len = u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?;
    let mut attr = InfoAttr { fd: number(link), len, info: address(&raw mut info) };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Puts another program on a link, in one step; `ENOLINK` if its device is gone.
pub(in crate::datapath) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr =
        UpdateAttr { link: number(link), program: number(program), ..UpdateAttr::default() };
    bpf(LINK_UPDATE, &mut attr)
}

/// The same if another is what runs there by now; `EPERM` if it is not.
pub(in crate::datapath) fn replace(
    link: BorrowedFd<'_>,
    before: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut attr = UpdateAttr {
        link: number(link),
        program: number(program),
        flags: REPLACE,
        old_program: number(before),
    };
    bpf(LINK_UPDATE, &mut attr)
}

/// Takes a link off its device, in one step.
pub(in crate::datapath) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_DETACH, &mut DetachAttr { link: number(link) })
}
