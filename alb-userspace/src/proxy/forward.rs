//! What crosses the balancer: the head of the request as the target gets it, and the fields of
//! the answer as the client gets it. Pure, one pass over the fields, no allocation but the
//! growth of the output. Knows nothing of sockets and of how bodies are framed on the wire.
//!
//! Hop-by-hop fields never cross: `Connection` and what it lists, `Keep-Alive`,
//! `Proxy-Connection`, `Proxy-Authorization`, `Proxy-Authenticate`, `Transfer-Encoding` (made
//! anew), `TE` except `trailers`, `Upgrade` unless the connection is being upgraded, and
//! `HTTP2-Settings`. The request field `Proxy` goes too: CGI would take it for a setting. No
//! `Via` and no `Server` is added.

mod name;
mod request;
mod request_id;
mod response;
mod value;

pub use request::{Outgoing, write_request};
pub use request_id::{RequestId, RequestIds};
pub(super) use response::set_fields;
pub use response::{Returning, response_fields, write_response};

#[cfg(test)]
mod tests;
