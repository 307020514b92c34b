//! Texts of the kernel to values: pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// State LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Options that are set, without `CONFIG_`.
pub(super) fn kernel_options(text: &str) -> BTreeMap<String, String> {
    let option = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(option).collect()
}

/// `CapEff` of `/proc/PID/status`; none if it is not there.
pub(super) fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// `1,5-7` as inclusive ranges.
pub(super) fn port_ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.trim().parse().ok().zip(last.trim().parse().ok())
    };
    text.trim().split(',').filter_map(range).collect()
}

/// Listening sockets of `/proc/net/tcp` or `tcp6`.
pub(super) fn listening(text: &str) -> Vec<SocketAddr> {
    let socket = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        if state != LISTEN {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        Some(SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?))
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// The kernel prints an address as words in host byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut octets = [0; 16];
    for (number, octets) in octets.chunks_exact_mut(4).enumerate() {
        octets.copy_from_slice(&word(number * 8)?);
    }
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let options = kernel_options("# CONFIG_A is not set\nCONFIG_BPF=y\nCONFIG_N=\"x=y\"\n");
        assert_eq!(options.get("BPF").map(String::as_str), Some("y"));
        assert_eq!(options.get("N").map(String::as_str), Some("\"x=y\""));
        assert_eq!(options.len(), 2);
        assert_eq!(capabilities("Name:\talb\nCapEff:\t0000000000003000\n"), 1 << 12 | 1 << 13);
        assert_eq!(capabilities(""), 0);
        assert_eq!(port_ranges("\n"), []);
        assert_eq!(port_ranges("80,10000-32767\n"), [(80, 80), (10_000, 32_767)]);
    }

    #[test]
    fn sockets() {
        let v4 = "  sl  local_address rem_address   st tx_queue\n   \
                  0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000\n   \
                  1: 0A0012C6:1F90 020012C6:9C40 01 00000000:00000000 00:00000000\n";
        assert_eq!(listening(v4), ["127.0.0.1:22".parse().unwrap()]);
        let v6 = "  sl  local_address\n   0: B80D0120000000000000000001000000:0050 \
                  00000000000000000000000000000000:0000 0A 0 0\n";
        assert_eq!(listening(v6), ["[2001:db8::1]:80".parse().unwrap()]);
    }
}
