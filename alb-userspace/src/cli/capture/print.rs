//! A captured packet in words: the comments of the file, and a line for people.

use std::fmt::Write as _;

use alb_common::{Verdict, tcp::flag};

use crate::datapath::capture::{Captured, Frame, Said};

/// What has become of a packet: `forward (new_flow) by eth1: SYN that opened a flow`.
pub(super) fn fate(packet: &Captured, leaves_by: Option<&str>) -> String {
    let Captured { reason, events, .. } = packet;
    let mut text = format!("{} ({})", reason.verdict().label(), reason.label());
    if let Some(name) = leaves_by {
        // Writing to a string cannot fail.
        let _written = write!(text, " by {name}");
    }
    let _written = write!(text, ": {}", reason.help());
    for event in events {
        let _written = write!(text, "; {} ({})", event.help(), event.label());
    }
    text
}

/// What a packet that leaves is: `new_flow, came by eth0`.
pub(super) fn origin(packet: &Captured, came_by: &str) -> String {
    let what = match packet.reason.verdict() {
        Verdict::Reset => "RST: ",
        Verdict::Reply => "reply: ",
        Verdict::Forward | Verdict::Pass | Verdict::Drop => "",
    };
    format!("{what}{}, came by {came_by}", packet.reason.label())
}

/// A line for people.
pub(super) fn line(packet: &Captured, at: u64, came_by: &str, leaves_by: Option<&str>) -> String {
    let second = at / 1_000_000_000 % 86_400;
    let (hour, minute, micros) = (second / 3_600, second / 60 % 60, at / 1_000 % 1_000_000);
    let mut line = format!(
        "{hour:02}:{minute:02}:{:02}.{micros:06} {came_by} {}: {}",
        second % 60,
        said(&packet.before),
        fate(packet, leaves_by)
    );
    if let Some(after) = &packet.after {
        let _written = write!(line, " | {}", said(after));
    }
    line.push('\n');
    line
}

/// Addresses, and what kind of a packet it is.
fn said(frame: &Frame) -> String {
    let Some(Said { from, to, protocol, flags }) = frame.said() else {
        let kind = match frame.bytes.get(12..14) {
            Some([0x08, 0x06]) => "ARP",
            _ => "frame",
        };
        return format!("{kind}, {} bytes", frame.len);
    };
    let ends = if from.port() == 0 && to.port() == 0 {
        format!("{} → {}", from.ip(), to.ip())
    } else {
        format!("{from} → {to}")
    };
    let kind = match (protocol, flags) {
        (6, Some(flags)) => tcp(flags),
        (6, None) => "TCP".to_owned(),
        (1 | 58, _) => "ICMP".to_owned(),
        (17, _) => "UDP".to_owned(),
        (other, _) => format!("protocol {other}"),
    };
    format!("{ends} {kind}, {} bytes", frame.len)
}

fn tcp(flags: u8) -> String {
    const NAMES: [(u8, &str); 5] = [
        (flag::SYN, "SYN"),
        (flag::FIN, "FIN"),
        (flag::RST, "RST"),
        (PSH, "PSH"),
        (flag::ACK, "ACK"),
    ];
    let there = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    let names = there.collect::<Vec<_>>().join("-");
    if names.is_empty() { "no flags".to_owned() } else { names }
}

/// The push flag (RFC 9293 §3.1), which the packet path never looks at.
const PSH: u8 = 8;

#[cfg(test)]
mod tests {
    use alb_common::{Reason, reason::Event};

    use super::*;
    use crate::datapath::capture::Hook;

    fn frame(from: [u8; 4], to: [u8; 4], ports: [u8; 4], flags: u8) -> Frame {
        let ip = [&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0][..], &from, &to].concat();
        let tcp = [&ports[..], &[0; 8], &[0x50, flags], &[0; 6]].concat();
        Frame { bytes: [&[0; 12][..], &[8, 0], &ip, &tcp].concat(), len: 54 }
    }

    #[test]
    fn packets_are_told_in_a_line() {
        let (client, vip, target) = ([198, 18, 0, 100], [198, 18, 0, 10], [198, 18, 1, 21]);
        let ports = [0x9c, 0x40, 0, 80];
        let mut packet = Captured {
            came: 0,
            left: 0,
            reason: Reason::NewFlow,
            events: vec![Event::PortReclaimed],
            hook: Hook::Xdp,
            action: 4,
            ifindex: 3,
            before: frame(client, vip, ports, flag::SYN),
            after: Some(frame(vip, target, ports, flag::SYN)),
        };
        let at = (86_400 + 3_661) * 1_000_000_000 + 123_456_789;
        assert_eq!(
            line(&packet, at, "eth0", Some("eth1")),
            "01:01:01.123456 eth0 198.18.0.100:40000 → 198.18.0.10:80 SYN, 54 bytes: forward (new_flow) \
             by eth1: SYN that opened a flow; the SNAT port of a finished flow is taken over \
             (port_reclaimed) | 198.18.0.10:40000 → 198.18.1.21:80 SYN, 54 bytes\n"
        );
        assert_eq!(origin(&packet, "eth0"), "new_flow, came by eth0");

        (packet.reason, packet.events) = (Reason::NoListener, Vec::new());
        packet.after = Some(frame(vip, client, [0, 80, 0x9c, 0x40], flag::RST | flag::ACK));
        assert_eq!(origin(&packet, "eth0"), "RST: no_listener, came by eth0");
        assert!(line(&packet, at, "eth0", Some("eth0")).ends_with(
            "SYN, 54 bytes: reset (no_listener) by eth0: TCP to a VIP port without a listener | \
             198.18.0.10:80 → 198.18.0.100:40000 RST-ACK, 54 bytes\n"
        ));

        (packet.reason, packet.after) = (Reason::NotIp, None);
        packet.before.bytes[12..14].copy_from_slice(&[8, 6]);
        assert!(
            line(&packet, at, "eth0", None).contains("eth0 ARP, 54 bytes: pass (not_ip): frame")
        );
    }
}
