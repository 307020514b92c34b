//! The HTTP proxy from outside: raw and ordinary clients, origins that misbehave, the whole daemon
//! between them.

pub(crate) mod setting;

mod identity;
mod limits;
mod load;
mod retries;
mod smuggling;
mod streaming;
mod timeouts;
mod upgrade;
