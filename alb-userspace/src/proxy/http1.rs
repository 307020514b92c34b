//! HTTP/1.0 and 1.1 in front of clients. The pure half is heads (`request`, `response`) and
//! bodies (`body`, `chunked`): bytes in, checked borrows of them out. `serve` is the loop.

pub mod body;
pub mod chunked;
pub(super) mod framing;
mod lines;
mod nominated;
pub mod request;
pub mod response;
mod serve;
pub(super) mod target;

pub use lines::{Fields, Progress};
pub use serve::{Stream, refuse, serve};
pub(in crate::proxy) use target::check_segments;
