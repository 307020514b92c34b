//! The rows that are not about IPv4 headers, over IPv6: the same files, read another time.

#![allow(dead_code, reason = "what only rows about IPv4 headers use")]
#![allow(clippy::duplicate_mod, reason = "the same rows over the other family")]

const FAMILY: crate::family::Family = crate::family::Family::Ipv6;

#[path = "rows/closing.rs"]
mod closing;
#[path = "rows/draining.rs"]
mod draining;
#[path = "rows/established.rs"]
mod established;
#[path = "rows/flow.rs"]
mod flow;
#[path = "rows/flow_log.rs"]
mod flow_log;
#[path = "rows/limited.rs"]
mod limited;
#[path = "rows/limits.rs"]
mod limits;
#[path = "rows/locals.rs"]
mod locals;
#[path = "rows/neighbours.rs"]
mod neighbours;
#[path = "rows/opening.rs"]
mod opening;
#[path = "rows/selecting.rs"]
mod selecting;
#[path = "rows/snat_ports.rs"]
mod snat_ports;
#[path = "rows/syn_cookies.rs"]
mod syn_cookies;
#[path = "rows/world.rs"]
mod world;

mod headers;
mod icmp;
mod keys;
