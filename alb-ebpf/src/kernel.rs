//! The half of the packet path that needs maps and helpers.

pub(crate) mod balance;

mod established;
mod handshake;

mod filter;
mod open;
mod select;
mod snat;

mod close;
mod ring;

mod atomic;
mod clock;
mod count;
mod maps;
mod neighbour;
