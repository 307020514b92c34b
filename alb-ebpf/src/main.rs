//! The BPF programs: one thin entry point a hook. On other targets an empty program, so that
//! the workspace builds.

#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "BPF: a call costs stack and verifier states, and numbers are of packet size"
)]

#[cfg(target_arch = "bpf")]
mod object;
#[cfg(target_arch = "bpf")]
mod tc;
#[cfg(target_arch = "bpf")]
mod xdp;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
