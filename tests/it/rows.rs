//! Ring 2: rows of packets through the packet path in the kernel. Every row compares the whole
//! frame, and the counters that moved.

const FAMILY: crate::family::Family = crate::family::Family::Ipv4;

mod world;

mod closing;
mod draining;
mod established;
mod filtering;
mod flow;
mod flow_log;
mod hostile;
mod icmp;
mod limited;
mod limits;
mod locals;
mod neighbours;
mod opening;
mod proxied;
mod selecting;
mod snat_ports;
mod stateless;
mod syn_cookies;
