//! Packet programs of a few instructions: one that passes everything, which the peer of an XDP device
//! needs on a veth, and which is somebody else's where none should be replaced; and one that does as
//! little as can be done to send packets on.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use alb_common::abi::TC_PROGRAM;
use aya::programs::{SchedClassifier, TcAttachType};

use crate::{
    daemon::{BPFFS, PIN_PREFIX},
    netns::Namespace,
};

const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_TYPE_XDP: u32 = 6;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 4],
    kern_version: u32,
    prog_flags: u32,
}

/// The start of `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The program takes frames of several buffers (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18).
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// Tests run side by side: each call has a pin of its own.
static NEXT_PIN: AtomicU32 = AtomicU32::new(0);

/// Attaches the program in native mode; it stays until the interface goes.
pub fn attach_pass(namespace: &Namespace, device: &str) {
    // r0 = XDP_PASS; exit
    attach(namespace, device, &[0x0000_0002_0000_00b7, EXIT]);
}

/// Attaches a program that sends every IPv4 packet on to another device, to and from these stations,
/// in native mode; it stays until the interface goes.
pub fn attach_redirect(
    namespace: &Namespace,
    device: &str,
    to: u32,
    [receiver, sender]: [[u8; 6]; 2],
) {
    let [r0, r1, r2, r3, r4] = [0, 1, 2, 3, 4];
    let half = |two: &[u8]| i32::from(u16::from_ne_bytes([two[0], two[1]]));
    let word = |four: &[u8]| i32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
    let ipv4 = half(&[8, 0]);
    let program = [
        instruction(LOAD_WORD, r2, r1, 0, 0), // data
        instruction(LOAD_WORD, r3, r1, 4, 0), // its end
        instruction(MOVE, r4, r2, 0, 0),
        instruction(ADD, r4, 0, 0, 14),
        instruction(JUMP_IF_GREATER, r4, r3, 10, 0),
        instruction(LOAD_HALF, r4, r2, 12, 0),
        instruction(JUMP_IF_NOT, r4, 0, 8, ipv4),
        instruction(STORE_WORD, r2, 0, 0, word(&receiver)),
        instruction(STORE_HALF, r2, 0, 4, half(&receiver[4..])),
        instruction(STORE_HALF, r2, 0, 6, half(&sender)),
        instruction(STORE_WORD, r2, 0, 8, word(&sender[2..])),
        instruction(SET, r1, 0, 0, to.cast_signed()),
        instruction(SET, r2, 0, 0, 0),
        instruction(CALL, 0, 0, 0, REDIRECT),
        EXIT,
        instruction(SET, r0, 0, 0, PASS),
        EXIT,
    ];
    attach(namespace, device, &program);
}

const EXIT: u64 = 0x95;
const SET: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const STORE_WORD: u8 = 0x62;
const STORE_HALF: u8 = 0x6a;
const JUMP_IF_GREATER: u8 = 0x2d;
const JUMP_IF_NOT: u8 = 0x55;
const CALL: u8 = 0x85;
/// The helper `bpf_redirect`.
const REDIRECT: i32 = 23;
/// `XDP_PASS`.
const PASS: i32 = 2;

/// An instruction (RFC 9669 §3): operation, destination and source register, offset, number.
fn instruction(operation: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = number.to_le_bytes();
    u64::from_le_bytes([operation, from << 4 | to, low, high, a, b, c, d])
}

/// Attaches a program in native mode.
fn attach(namespace: &Namespace, device: &str, instructions: &[u64]) {
    let program = load(instructions).expect("loading a few instructions");
    let number = NEXT_PIN.fetch_add(1, Ordering::Relaxed);
    let name = format!("{PIN_PREFIX}{}-pass{number}", std::process::id());
    let path = PathBuf::from(BPFFS).join(name);
    drop(fs::remove_file(&path));
    pin(&program, &path).expect("pinning a program");
    namespace.ip(&format!("link set dev {device} xdpdrv pinned {}", path.display()));
    fs::remove_file(&path).expect("removing the pin");
}

/// The id of the program on the interface, at whichever hook it is.
pub fn on(namespace: &Namespace, device: &str) -> Option<u32> {
    attached(namespace, device).or_else(|| at_tc(namespace, device))
}

/// The id of the packet path's program at TC ingress, by a link or by a filter.
pub fn at_tc(namespace: &Namespace, device: &str) -> Option<u32> {
    // A kernel before 6.6 has no links there to ask for.
    let links = namespace.enter(|| SchedClassifier::query_tcx(device, TcAttachType::Ingress));
    let links = links.map(|(_, programs)| programs).unwrap_or_default();
    let ours = links.iter().find(|program| program.name_as_str() == Some(TC_PROGRAM));
    if let Some(program) = ours {
        return Some(program.id());
    }
    let filters = namespace.tc(&format!("filter show dev {device} ingress"));
    let ours = filters.lines().find(|line| line.contains(TC_PROGRAM))?;
    ours.split_whitespace().skip_while(|&word| word != "id").nth(1)?.parse().ok()
}

/// The id of the XDP program on the interface.
pub fn attached(namespace: &Namespace, device: &str) -> Option<u32> {
    let link = namespace.ip(&format!("link show {device}"));
    let mut words = link.split_whitespace().skip_while(|word| !word.starts_with("prog/xdp"));
    words.nth(2)?.parse().ok()
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let attributes = ProgLoad {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        // Without it a device refuses a large MTU.
        prog_flags: XDP_HAS_FRAGS,
        ..ProgLoad::default()
    };
    let descriptor = bpf(PROG_LOAD, &attributes)?;
    #[expect(unsafe_code, reason = "the system call returns a bare number")]
    // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn pin(program: &OwnedFd, path: &std::path::Path) -> io::Result<()> {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let bpf_fd = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let attributes = ObjPin { pathname: name.as_ptr().addr() as u64, bpf_fd, file_flags: 0 };
    bpf(OBJ_PIN, &attributes).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    #[expect(unsafe_code, reason = "no library loads a program without an object file")]
    // SAFETY: the pointer and size describe `attributes`, and what those point to (instructions,
    // licence, path) outlives the call in both callers.
    let outcome = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        i32::try_from(outcome).map_err(io::Error::other)
    }
}
