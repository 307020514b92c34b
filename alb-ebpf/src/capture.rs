//! The programs of `alb capture`, in an object of their own. While somebody captures, one of them is
//! where the packet path's program was, and runs that one, between a look at the packet as it comes
//! and one at what has become of it. On other targets an empty program, so that the workspace builds.

#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "BPF: a call costs stack and verifier states, and numbers are of packet size"
)]

#[cfg(target_arch = "bpf")]
mod around;
#[cfg(target_arch = "bpf")]
mod object;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
