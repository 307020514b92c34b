//! Our addresses, by the cache of them and by the table behind it.

use std::net::Ipv4Addr;

use alb_common::{
    Reason,
    abi::map,
    local::{self as local_cache, Held6},
    net::Be32,
    service::local,
};
use alb_ebpf::builder::Tcp;

use super::{
    FAMILY,
    flow::Flow,
    world::{VIP, WEB, World, passed, reset},
};
use crate::family::{Family, addr6};

fn to(dst: (Ipv4Addr, u16)) -> Tcp {
    Tcp { dst, ..Flow::default().syn().0 }
}

fn place(addr: Ipv4Addr) -> u32 {
    match FAMILY {
        Family::Ipv4 => local_cache::place(addr.into()),
        Family::Ipv6 => local_cache::place6(addr6(addr.into())),
    }
}

#[test]
fn addresses_that_share_a_place_of_the_cache_are_told_apart() {
    let mut world = World::new();
    let mut beside = (Ipv4Addr::new(198, 19, 0, 0).to_bits()..).map(Ipv4Addr::from_bits);
    let mut next = || beside.find(|addr| place(*addr) == place(VIP)).expect("an address");
    let (other, stranger) = (next(), next());
    match FAMILY {
        Family::Ipv4 => world.prog.insert(map::LOCALS, Be32::from(other), local::VIP),
        Family::Ipv6 => world.prog.insert(map::LOCALS6, addr6(other.into()), local::VIP),
    }
    let asked = to((other, WEB));
    world.check("the table knows it", &asked, &reset(Reason::NoListener, &asked));
    let foreign = to((stranger, WEB));
    world.check("nobody's", &foreign, &passed(Reason::NotOurs, &foreign.frame()));
    let own = to((VIP, 9));
    world.check("the cache knows it", &own, &reset(Reason::NoListener, &own));
    match FAMILY {
        Family::Ipv4 => world.prog.set(map::LOCAL_CACHE, place(VIP), 0_u64),
        Family::Ipv6 => world.prog.set(map::LOCAL_CACHE6, place(VIP), Held6::default()),
    }
    world.check("an empty place", &own, &passed(Reason::NotOurs, &own.frame()));
}
