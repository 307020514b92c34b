//! The node's interfaces, addresses, routes and neighbours, by netlink and by ARP. Knows
//! addresses to reach and to own; nothing of backends, health or BPF.

pub mod arp;
mod interface;
mod neighbour;
mod netlink;
mod next_hop;
mod route;
mod vip;
mod vip_keeper;

pub use interface::{Interface, Interfaces};
pub use netlink::{Error, Netlink};
pub use next_hop::{NextHop, NextHopTable, NextHops};
pub use vip::{Vip, VipChanges};
pub use vip_keeper::{VipKeeper, VipStatus, mac_text};

/// A MAC address in transmission order.
pub type MacAddr = [u8; 6];
