//! HTTP/2 over real sockets: the `h2` crate as client where a client behaves, raw frames where it
//! does not.

mod draining;
mod floods;
mod lab;
mod mirrors;
mod raw;
mod reload;
mod requests;
mod seeing;
mod streaming;
mod strictness;
mod timeouts;
mod trailers;
