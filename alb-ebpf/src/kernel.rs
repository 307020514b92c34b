//! The half of the packet path that needs maps and helpers.
//!
//! Functions named `alb_…` are global in the sense of BPF: the verifier looks at each once, for
//! all arguments, instead of again for every state that a call can be reached in. So what is a
//! loop, or called from several places, is one. They return a number, and take the context, numbers
//! and pointers to whole values that may be null.

pub(crate) mod balance;
pub mod host;

mod control;
mod copy;
mod established;
mod handshake;

mod filter;
mod open;
mod select;
mod snat;

mod close;
mod flow_log;
mod lines;
mod lines6;
mod ring;

mod atomic;
mod budget;
mod clock;
mod count;
mod maps;
mod neighbour;
pub mod parts;
mod steps;
mod syn;
mod tables;
mod tables6;
