//! `BPF_PROG_TEST_RUN` of a TC program. By hand, because aya 0.14 cannot ask the kernel to sum the
//! packet as a device would (`CHECKSUM_COMPLETE`) and to check that sum afterwards.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::programs::SchedClassifier;

use super::Action;

const PROG_TEST_RUN: libc::c_int = 10;
/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` (Linux 6.16).
const CHECKSUM_COMPLETE: u32 = 4;
/// Offset of `ifindex` in `struct __sk_buff`.
const IFINDEX: usize = 40;
const OK: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

/// `bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_len: u32,
    out_len: u32,
    data: u64,
    out: u64,
    repeat: u32,
    duration: u32,
    context_len: u32,
    context_out_len: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    reserved: u32,
}

/// Ethernet and IPv4 headers: of less the kernel may refuse to make a packet.
const LEAST: usize = 14 + 20;

/// Runs the program on a frame; `None` if that is too short to be a packet. Panics if the kernel
/// finds the packet's sum wrong afterwards; of a packet that is cut it has none.
pub(super) fn run(
    program: &SchedClassifier,
    frame: &[u8],
    ifindex: Option<u32>,
    is_cut: bool,
) -> Option<(Action, Vec<u8>)> {
    let is_invalid = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    let flags = if is_cut { 0 } else { CHECKSUM_COMPLETE };
    let result = match attempt(program, frame, ifindex, flags) {
        // A kernel that does not know the flag.
        Err(error) if is_invalid(&error) && flags != 0 => attempt(program, frame, ifindex, 0),
        result => result,
    };
    match result {
        Err(error) if is_invalid(&error) && frame.len() < LEAST => None,
        result => Some(result.expect("the kernel runs the program and finds the sum right")),
    }
}

fn attempt(
    program: &SchedClassifier,
    frame: &[u8],
    ifindex: Option<u32>,
    flags: u32,
) -> io::Result<(Action, Vec<u8>)> {
    let mut out = vec![0u8; frame.len() + 256];
    let mut context = [0u8; IFINDEX + 4];
    context[IFINDEX..].copy_from_slice(&ifindex.unwrap_or(0).to_ne_bytes());
    let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let descriptor = program.fd().map_err(io::Error::other)?.as_fd().as_raw_fd();
    let mut attributes = TestRun {
        program: descriptor.cast_unsigned(),
        data_len: size(frame.len())?,
        out_len: size(out.len())?,
        data: frame.as_ptr().expose_provenance() as u64,
        out: out.as_mut_ptr().expose_provenance() as u64,
        repeat: 1,
        context_len: size(context.len())?,
        context: context.as_ptr().expose_provenance() as u64,
        flags,
        ..TestRun::default()
    };
    #[expect(unsafe_code, reason = "a system call")]
    // SAFETY: the pointer and size describe `attributes`, whose pointers are to buffers of the
    // sizes beside them that outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, size_of::<TestRun>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attributes.out_len as usize);
    let action = match attributes.result {
        OK => Action::Pass,
        SHOT => Action::Drop,
        REDIRECT => Action::Redirect,
        other => panic!("the program returned {other}"),
    };
    Ok((action, out))
}
