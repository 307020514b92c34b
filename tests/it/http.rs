//! The HTTP proxy from outside: raw and ordinary clients, origins that misbehave, the whole daemon
//! between them.

pub(crate) mod setting;

mod balance;
mod checks;
mod clients;
mod cookies;
mod draining;
mod ends;
mod families;
mod groups;
mod https;
mod identity;
mod limits;
mod load;
mod log;
mod mirror;
mod passive;
mod pool;
mod retries;
mod routes;
mod smuggling;
mod streaming;
mod timeouts;
mod upgrade;
