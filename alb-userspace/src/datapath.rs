//! The datapath compiler and loader: snapshot → tables → plan → map operations → kernel.
//!
//! `tables`, `wide`, `replies`, `indices`, `extents` and `plan` are pure. Only `kernel`,
//! `shape`, `maps`, `flow_ring`, `sys`, `trace/trial` and `capture` know of BPF system calls or name
//! aya.

mod claim;
mod engine;
pub mod pins;

pub mod indices;
pub mod replies;
mod served;
pub mod tables;

pub mod contents;
pub mod extents;
pub mod filter;
mod local_cache;
pub mod plan;

pub mod active;
mod apply;
pub mod by_index;
pub mod capture;
mod carry;
pub mod collect;
mod flow_ring;
pub mod flows;
pub mod kernel;
pub mod maps;
mod provoke;
mod reconcile;
mod segment;
mod shape;
mod sys;
pub mod trace;
mod traffic;
mod verifier;
pub mod wide;

pub use engine::{Engine, EngineError, Swept};
pub use flow_ring::FlowRing;
