//! The userspace half of ALB, in the order data flows:
//!
//! ```text
//! config ──▶ model ──▶ state (snapshot) ──▶ datapath ──▶ BPF maps ──▶ alb-ebpf
//!                        ▲        └──────▶ health (what to probe)
//!                        └── target states ◀── health
//! control, api, metrics: read the snapshot and the datapath's counters
//! ```

pub mod api;
pub mod balance;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod doctor;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;
pub mod model;
pub mod net;
pub mod proxy;
pub mod report;
pub mod security;
pub mod state;
