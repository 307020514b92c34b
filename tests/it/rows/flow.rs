//! One flow's four kinds of frame: as the client and the target send them, and as the balancer
//! must send them on.

use std::net::Ipv4Addr;

use alb_common::{Reason, flow::FlowKey, tcp::flag};
use alb_ebpf::builder::Tcp;

use super::world::{
    BALANCER_MAC, CLIENT, CLIENT_MAC, Expect, ONE, SNAT, VIP, WEB, World, key, sent, target,
    target_mac,
};

/// Sequence numbers: the client's first, the target's first.
pub(super) const CLIENT_ISN: u32 = 1_000;
pub(super) const TARGET_ISN: u32 = 0xffff_fff0;

/// A flow and the headers that all its frames share.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) client: (Ipv4Addr, u16),
    pub(super) vip: (Ipv4Addr, u16),
    pub(super) snat: (Ipv4Addr, u16),
    pub(super) target: u32,
    pub(super) client_mac: [u8; 6],
    pub(super) tags: Vec<(u16, u16)>,
    pub(super) ip_options: Vec<u8>,
    pub(super) options: Vec<u8>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            client: CLIENT,
            vip: (VIP, WEB),
            snat: (SNAT, CLIENT.1),
            target: 0,
            client_mac: CLIENT_MAC,
            tags: vec![],
            ip_options: vec![],
            options: vec![],
        }
    }
}

impl Flow {
    /// A flow of this client port, translated to the same.
    pub(super) fn from(port: u16) -> Self {
        Self { client: (CLIENT.0, port), snat: (SNAT, port), ..Self::default() }
    }

    fn base(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Tcp {
        Tcp {
            tags: self.tags.clone(),
            ip_options: self.ip_options.clone(),
            options: self.options.clone(),
            flags,
            seq,
            ack,
            data: data.to_vec(),
            ..Tcp::default()
        }
    }

    /// From the client: before and after.
    pub(super) fn forward(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> (Tcp, Tcp) {
        let before = Tcp {
            to: BALANCER_MAC,
            from: self.client_mac,
            src: self.client,
            dst: self.vip,
            ..self.base(flags, seq, ack, data)
        };
        let after = Tcp {
            to: target_mac(self.target),
            from: BALANCER_MAC,
            src: self.snat,
            dst: target(self.target),
            ttl: before.ttl - 1,
            ..before.clone()
        };
        (before, after)
    }

    /// From the target: before and after.
    pub(super) fn reverse(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> (Tcp, Tcp) {
        let before = Tcp {
            to: BALANCER_MAC,
            from: target_mac(self.target),
            src: target(self.target),
            dst: self.snat,
            ..self.base(flags, seq, ack, data)
        };
        let after = Tcp {
            to: self.client_mac,
            from: BALANCER_MAC,
            src: self.vip,
            dst: self.client,
            ttl: before.ttl - 1,
            ..before.clone()
        };
        (before, after)
    }

    pub(super) fn syn(&self) -> (Tcp, Tcp) {
        self.forward(flag::SYN, CLIENT_ISN, 0, &[])
    }

    pub(super) fn syn_ack(&self) -> (Tcp, Tcp) {
        self.reverse(flag::SYN | flag::ACK, TARGET_ISN, CLIENT_ISN + 1, &[])
    }

    /// The third packet of the handshake.
    pub(super) fn ack(&self) -> (Tcp, Tcp) {
        self.forward(flag::ACK, CLIENT_ISN + 1, TARGET_ISN.wrapping_add(1), &[])
    }

    /// Anything later from the client.
    pub(super) fn later(&self, flags: u8, data: &[u8]) -> (Tcp, Tcp) {
        self.forward(flags, CLIENT_ISN + 1, TARGET_ISN.wrapping_add(1), data)
    }

    /// The ACK of the target's FIN.
    pub(super) fn last_ack(&self) -> (Tcp, Tcp) {
        self.forward(flag::ACK, CLIENT_ISN + 2, TARGET_ISN.wrapping_add(2), &[])
    }

    /// Anything later from the target.
    pub(super) fn answer(&self, flags: u8, data: &[u8]) -> (Tcp, Tcp) {
        self.reverse(flags, TARGET_ISN.wrapping_add(1), CLIENT_ISN + 1, data)
    }

    /// Of the listener with one target, from and to this port.
    pub(super) fn to_one(port: u16) -> Self {
        Self { vip: (VIP, ONE), ..Self::from(port) }
    }

    /// Key of the client's packets.
    pub(super) fn key(&self) -> FlowKey {
        key(&self.syn().0)
    }

    /// Key of the target's packets.
    pub(super) fn reverse_key(&self) -> FlowKey {
        key(&self.syn_ack().0)
    }
}

impl World {
    /// One packet that must be sent on as given.
    #[track_caller]
    pub(super) fn pass_on(&self, name: &str, (before, after): (Tcp, Tcp), reason: Reason) {
        self.step(name, &before.frame(), &sent(reason, &after));
    }

    /// One packet and what is expected of it.
    #[track_caller]
    pub(super) fn check(&self, name: &str, packet: &Tcp, expected: &Expect) {
        self.step(name, &packet.frame(), expected);
    }

    /// Completes a handshake.
    #[track_caller]
    pub(super) fn open(&self, flow: &Flow) {
        self.pass_on("SYN", flow.syn(), Reason::NewFlow);
        self.pass_on("SYN-ACK", flow.syn_ack(), Reason::HandshakeReverse);
        self.pass_on("ACK", flow.ack(), Reason::Promoted);
    }

    /// Both sides close, the client first.
    #[track_caller]
    pub(super) fn close_by_client(&self, flow: &Flow) {
        let fin = flag::FIN | flag::ACK;
        self.pass_on("client's FIN", flow.later(fin, &[]), Reason::FlowForward);
        self.pass_on("target's FIN", flow.answer(fin, &[]), Reason::FlowReverse);
        self.pass_on("last ACK", flow.later(flag::ACK, &[]), Reason::FlowForward);
    }

    /// Both sides close, the target first.
    #[track_caller]
    pub(super) fn close_by_target(&self, flow: &Flow) {
        let fin = flag::FIN | flag::ACK;
        self.pass_on("target's FIN", flow.answer(fin, &[]), Reason::FlowReverse);
        self.pass_on("client's FIN", flow.later(fin, &[]), Reason::FlowForward);
        self.pass_on("last ACK", flow.answer(flag::ACK, &[]), Reason::FlowReverse);
    }
}
