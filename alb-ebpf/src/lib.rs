//! The packet path, in the order a packet takes it.
//!
//! Everything generic over [`packet::Packet`] also builds and tests on the host; what touches
//! maps or helpers is for the BPF target alone.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features, reason = "see atomic.rs"))]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    reason = "BPF: a call costs stack and verifier states, and numbers are of packet size"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a map key passed by value is one more copy on a stack of 512 bytes"
)]

pub mod packet;
pub mod parse;

pub mod family;
pub mod ipv4;
pub mod ipv6;

pub mod icmp;
pub mod icmp6;
pub mod mss;
pub mod reset;
pub mod rewrite;

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
pub use kernel::{
    balance::{Outcome, process, process6, unknown},
    host::{self, Host},
    parts,
};

#[cfg(not(target_arch = "bpf"))]
pub mod builder;

pub mod bench;
