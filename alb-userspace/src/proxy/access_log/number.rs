//! Numbers and addresses as text, without the weight of `fmt` where lines are made.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Appends a decimal number.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends seconds with six decimals.
pub(super) fn seconds(value: Duration, out: &mut Vec<u8>) {
    number(value.as_secs(), out);
    let mut micros = u64::from(value.subsec_micros());
    let mut decimals = [0; 6];
    for place in decimals.iter_mut().rev() {
        *place = digit(micros % 10);
        micros /= 10;
    }
    out.push(b'.');
    out.extend_from_slice(&decimals);
}

/// Appends the address without its port. An IPv4 client of an IPv6 socket is shown as IPv4.
pub(super) fn ip(value: SocketAddr, out: &mut Vec<u8>) {
    match value.ip().to_canonical() {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(u64::from(part), out);
            }
        }
        IpAddr::V6(address) => {
            let written = write!(out, "{address}");
            debug_assert!(written.is_ok(), "writing to memory cannot fail");
        }
    }
}

/// Appends address and port, IPv6 in brackets.
pub(super) fn address(value: SocketAddr, out: &mut Vec<u8>) {
    let bracketed = value.ip().to_canonical().is_ipv6();
    if bracketed {
        out.push(b'[');
    }
    ip(value, out);
    if bracketed {
        out.push(b']');
    }
    out.push(b':');
    number(u64::from(value.port()), out);
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value % 10).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn as_fmt_has_it(value: u64, micros in 0_u64..100_000_000_000, v4: [u8; 4], v6: [u8; 16], port: u16) {
            prop_assert_eq!(text(|out| number(value, out)), value.to_string());
            let time = Duration::from_micros(micros);
            let expected = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(text(|out| seconds(time, out)), expected);
            let v4 = SocketAddr::from((v4, port));
            prop_assert_eq!(text(|out| address(v4, out)), v4.to_string());
            let v6 = SocketAddr::from((v6, port));
            prop_assert_eq!(text(|out| address(v6, out)), v6.to_string());
        }
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket() {
        let mapped: SocketAddr = "[::ffff:198.18.0.1]:80".parse().unwrap();
        assert_eq!(text(|out| address(mapped, out)), "198.18.0.1:80");
    }
}
