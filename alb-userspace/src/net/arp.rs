//! Speaking ARP, and of neighbour discovery the same two words, on an interface: announcing an
//! address, and asking whether it is in use. (RFC 826, RFC 5227, RFC 4861 §7.2.6, RFC 4862 §5.4.)

mod frame;
mod neighbour;
mod socket;

use std::{net::IpAddr, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use self::{
    frame::{Arp, Operation},
    socket::{Heard, LinkSocket},
};
use super::{Error, Interface, MacAddr};

/// Times an address is announced; the first is at once.
const ANNOUNCEMENTS: u32 = 3;
/// From one announcement to the next: a lost frame, or a switch that learns late, is made
/// good for.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// Times it is asked who has an address.
const PROBES: u32 = 3;
/// Bytes of an answer that are looked at: an advertisement with its first option.
const LONGEST: usize = 14 + 40 + 24 + 8;

/// Tells everyone on the link that `addresses` are at this interface now. Takes two seconds
/// in all; the first round is sent before anything is awaited.
pub async fn announce(interface: &Interface, addresses: &[IpAddr]) -> Result<(), Error> {
    let socket = LinkSocket::open(interface, Heard::Arp)?;
    let mut rounds = interval(ANNOUNCE_EVERY);
    for _ in 0..ANNOUNCEMENTS {
        rounds.tick().await;
        for address in addresses {
            match address {
                // Both forms: some hosts update their cache from one only, some from the other.
                IpAddr::V4(address) => {
                    for operation in [Operation::Request, Operation::Reply] {
                        let told = Arp::announcement(operation, interface.mac, *address);
                        socket.send(&told.to_frame()).await?;
                    }
                }
                IpAddr::V6(address) => {
                    socket.send(&neighbour::advertisement(interface.mac, *address)).await?;
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
    address: IpAddr,
    within: Duration,
) -> Result<Option<MacAddr>, Error> {
    let mac = interface.mac;
    let (heard, question) = match address {
        IpAddr::V4(address) => (Heard::Arp, Arp::probe(mac, address).to_frame().to_vec()),
        IpAddr::V6(address) => (Heard::Advertisements, neighbour::probe(mac, address)),
    };
    let owner = |frame: &[u8]| match address {
        IpAddr::V4(address) => Arp::parse(frame)?.claims(address, mac),
        IpAddr::V6(address) => neighbour::claims(frame, address, mac),
    };
    let socket = LinkSocket::open(interface, heard)?;
    let deadline = Instant::now() + within;
    let mut probes = interval(within / PROBES);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frame = [0; LONGEST];
    let asking = async {
        loop {
            tokio::select! {
                _ = probes.tick() => socket.send(&question).await?,
                heard = socket.receive(&mut frame) => {
                    if let Some(owner) = owner(heard?) {
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
