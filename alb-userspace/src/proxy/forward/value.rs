//! What the balancer knows of a request, as header fields carry it. Numbers and addresses are
//! put down without the formatting machinery: they are written for every request.

use std::net::{IpAddr, SocketAddr};

use crate::proxy::{
    message::RequestHead,
    peer::Peer,
    route::{SystemValue, host_of, port_of},
};

/// Appends one of the values, except the chain of `X-Forwarded-For`: of that, the client.
pub(super) fn write(value: SystemValue, head: &RequestHead<'_>, peer: &Peer, out: &mut Vec<u8>) {
    match value {
        SystemValue::For => address(peer.client.ip(), out),
        SystemValue::ClientPort => number(peer.client.port().into(), out),
        SystemValue::Host => host_with_port(head, peer.local, out),
        SystemValue::Port => number(peer.local.port().into(), out),
        SystemValue::Proto => out.extend_from_slice(head.scheme.as_str().as_bytes()),
        SystemValue::LbIp => address(peer.local.ip(), out),
    }
}

/// The host the client asked for, always with a port: that of the scheme if it named none.
fn host_with_port(head: &RequestHead<'_>, local: SocketAddr, out: &mut Vec<u8>) {
    let host = host_of(head.authority);
    if host.is_empty() {
        return authority(local, out);
    }
    out.extend_from_slice(host);
    out.push(b':');
    number(port_of(head.authority).unwrap_or(head.scheme.default_port()).into(), out);
}

/// An address and its port, as `Host` has them.
pub(super) fn authority(local: SocketAddr, out: &mut Vec<u8>) {
    match local.ip() {
        IpAddr::V4(_) => address(local.ip(), out),
        IpAddr::V6(_) => {
            out.push(b'[');
            address(local.ip(), out);
            out.push(b']');
        }
    }
    out.push(b':');
    number(local.port().into(), out);
}

/// An address without brackets.
pub(super) fn address(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            for (octet, dot) in [(a, true), (b, true), (c, true), (d, false)] {
                number(octet.into(), out);
                if dot {
                    out.push(b'.');
                }
            }
        }
        IpAddr::V6(v6) => {
            use std::io::Write as _;
            let written = write!(out, "{v6}");
            debug_assert!(written.is_ok(), "a vector takes everything");
        }
    }
}

/// A decimal number.
pub(super) fn number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_addresses_are_as_display_has_them(n: u64, v4: u32, v6: u128) {
            let mut out = Vec::new();
            number(n, &mut out);
            prop_assert_eq!(out, n.to_string().into_bytes());
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                let mut out = Vec::new();
                address(ip, &mut out);
                prop_assert_eq!(out, ip.to_string().into_bytes());
            }
        }
    }

    #[test]
    fn zero_is_a_digit() {
        let mut out = Vec::new();
        number(0, &mut out);
        assert_eq!(out, b"0");
    }
}
