//! Sharing, and strangers.

use std::net::TcpListener;

use super::*;

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

#[test]
fn sockets_share_an_address_that_is_not_there_yet() {
    let first = bind("198.18.0.10:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let second = bind(address).unwrap();
    listen(first).unwrap();
    listen(second).unwrap();
}

#[test]
fn a_stranger_is_found_on_the_address_and_on_all_of_them() {
    for ip in [[127, 0, 0, 1], [0, 0, 0, 0]] {
        let stranger = TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap();
        let address = loopback(stranger.local_addr().unwrap().port());
        let error = probe(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let (listener, balancer) = ("web".into(), "shop".into());
        let text = BindError { listener, balancer, address, source: error }.to_string();
        for part in ["listener web of load balancer shop", &address.to_string(), "ss -ltnp"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn even_a_stranger_who_shares_is_found() {
    let stranger = listen(bind(loopback(0)).unwrap()).unwrap();
    let address = stranger.local_addr().unwrap();
    assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(stranger);
    probe(address).unwrap();
}
