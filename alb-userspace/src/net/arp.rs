//! Speaking ARP on an interface, and of neighbour discovery one word: announcing an address, and
//! asking whether it is in use. (RFC 826, RFC 5227, RFC 4861 §7.2.6.)

mod advertisement;
mod frame;
mod socket;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use self::{
    frame::{Arp, Operation},
    socket::ArpSocket,
};
use super::{Error, Interface, MacAddr};

/// Times an address is announced; the first is at once.
const ANNOUNCEMENTS: u32 = 3;
/// From one announcement to the next: a lost frame, or a switch that learns late, is made
/// good for.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// Times it is asked who has an address.
const PROBES: u32 = 3;

/// Tells everyone on the link that `addresses` are at this interface now. Takes two seconds
/// in all; the first round is sent before anything is awaited.
pub async fn announce(interface: &Interface, addresses: &[IpAddr]) -> Result<(), Error> {
    let socket = ArpSocket::open(interface)?;
    let mut rounds = interval(ANNOUNCE_EVERY);
    for _ in 0..ANNOUNCEMENTS {
        rounds.tick().await;
        for address in addresses {
            match address {
                // Both forms: some hosts update their cache from one only, some from the other.
                IpAddr::V4(address) => {
                    for operation in [Operation::Request, Operation::Reply] {
                        socket.send(&Arp::announcement(operation, interface.mac, *address)).await?;
                    }
                }
                IpAddr::V6(address) => {
                    socket.send_frame(&advertisement::frame(interface.mac, *address)).await?;
                }
            }
        }
    }
    Ok(())
}

/// Asks whether another host on the link has `address`, and waits for an answer as long as
/// `within` (RFC 5227 recommends some seconds; a link without spanning tree answers within
/// milliseconds). Returns the MAC of who has it.
pub async fn in_use(
    interface: &Interface,
    address: Ipv4Addr,
    within: Duration,
) -> Result<Option<MacAddr>, Error> {
    let socket = ArpSocket::open(interface)?;
    let deadline = Instant::now() + within;
    let mut probes = interval(within / PROBES);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let asking = async {
        loop {
            tokio::select! {
                _ = probes.tick() => socket.send(&Arp::probe(interface.mac, address)).await?,
                heard = socket.receive() => {
                    if let Some(owner) = heard?.and_then(|arp| arp.claims(address, interface.mac)) {
                        return Ok(owner);
                    }
                }
            }
        }
    };
    match timeout_at(deadline, asking).await {
        Ok(answer) => answer.map(Some),
        Err(_elapsed) => Ok(None),
    }
}
