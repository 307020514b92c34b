//! HTTP/2 in front of clients, over TLS: framing and flow control are the `h2` crate's, what a
//! client may ask of it is bounded here. Targets are spoken to in HTTP/1.1, by the same routing,
//! forwarding and connections as requests that came in HTTP/1.
//!
//! A connection is one task: its streams are futures within it, so that what is read at once is
//! answered in one write. `meter` sees every frame, `request` is the pure check of heads.

mod account;
mod answer;
mod budget;
mod clock;
mod connection;
mod download;
mod echo;
mod exchange;
mod frames;
mod meter;
mod relay;
pub mod request;
mod settings;
mod stream;
mod streams;
mod upload;
mod watch;

pub use connection::serve;

#[cfg(test)]
mod tests;
