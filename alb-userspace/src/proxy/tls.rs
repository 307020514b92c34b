//! TLS of https and tls listeners: which certificate a client gets, what is negotiated, what a
//! refused handshake is called. Knows nothing of requests, and reads no file but the ticket seed.

mod accept;
mod context;
mod counts;
mod failure;
pub mod files;
mod policy;
mod table;
mod tickets;
mod verify;

pub use self::{
    accept::{Accepted, Presented, Refused, Stream, accept},
    context::{Context, ContextError},
    counts::{Counts, Tally},
    failure::Failure,
    tickets::{Tickets, TicketsError},
};

#[cfg(test)]
pub(super) mod tests;
