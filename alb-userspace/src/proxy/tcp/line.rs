//! The PROXY protocol, version 1: one line that tells a target who its client is.
//! `HAProxy`'s proxy-protocol.txt §2.1.

use std::net::{IpAddr, SocketAddr};

/// `PROXY TCP4 198.51.100.7 198.18.0.10 40000 443\r\n`.
pub(super) fn header(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (from, to) = (client.ip().to_canonical(), local.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        // A line has one family for both; receivers ignore what follows this word.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return b"PROXY UNKNOWN\r\n".to_vec();
        }
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let rows = [
            (
                "198.51.100.7:40000",
                "198.18.0.10:443",
                "PROXY TCP4 198.51.100.7 198.18.0.10 40000 443",
            ),
            (
                "[2001:db8::7]:1",
                "[2001:db8::10]:65535",
                "PROXY TCP6 2001:db8::7 2001:db8::10 1 65535",
            ),
            (
                "[::ffff:198.51.100.7]:5",
                "198.18.0.10:80",
                "PROXY TCP4 198.51.100.7 198.18.0.10 5 80",
            ),
            ("198.51.100.7:5", "[2001:db8::10]:80", "PROXY UNKNOWN"),
            (
                "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "PROXY TCP6 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            ),
        ];
        for (client, local, expected) in rows {
            let line = header(client.parse().unwrap(), local.parse().unwrap());
            assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\r\n"));
            assert!(line.len() <= 107, "longer than receivers must take");
        }
    }
}
