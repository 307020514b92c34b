//! The datapath compiler and loader: snapshot → tables → plan → map operations → kernel.
//!
//! `tables`, `schedule`, `maglev`, `indices`, `extents` and `plan` are pure. Only `kernel`,
//! `maps` and `sys` know of BPF system calls, and only `kernel` names aya.

mod engine;
pub mod pins;

pub mod indices;
pub mod maglev;
pub mod schedule;
pub mod tables;

pub mod contents;
pub mod extents;
pub mod plan;

mod apply;
pub mod collect;
pub mod kernel;
pub mod maps;
mod sys;
mod traffic;
mod verifier;

pub use engine::{Engine, EngineError, Swept};
