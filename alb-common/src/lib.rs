//! The contract between the kernel and the userspace half of ALB.
//!
//! Everything both sides must agree on, and nothing else: the layout of map keys and values,
//! capacities, the reasons packets are counted under, and the formulas (checksum, hash, TCP
//! phase, expiry) that either side may evaluate. No dependencies, no I/O.
//!
//! Modules in the order a packet meets them.

#![no_std]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "BPF: a call costs stack and verifier states, and `From` is not const"
)]

pub mod abi;
pub mod capture;
pub mod checksum;
pub mod clock;
pub mod expiry;
pub mod filter;
pub mod flow;
pub mod flow_log;
pub mod flow_table;
pub mod hash;
pub mod interface;
pub mod limits;
pub mod local;
pub mod net;
pub mod reason;
pub mod selection;
pub mod service;
pub mod settings;
pub mod syn;
pub mod target;
pub mod tcp;

pub use reason::{Reason, Verdict};
