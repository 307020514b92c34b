//! The XDP host: its packet, its entry point, its actions.

use core::ffi::c_void;

use alb_ebpf::{
    Host, Outcome,
    host::{clamp, timestamp},
    packet::Packet,
    parts, process, process6, unknown,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
        xdp_md,
    },
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    macros::xdp,
    programs::XdpContext,
};

struct XdpPacket(XdpContext);

impl Packet for XdpPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn len(&self) -> usize {
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as usize }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn truncate(&mut self, len: usize) -> bool {
        let delta = len as i64 - self.len() as i64;
        // SAFETY: the context is the program's own. No window is alive: they borrow `self`.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, delta as i32) == 0 }
    }
}

impl Host for XdpPacket {
    const CALLS: bool = false;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn timestamp(&self, l4: u32, header_len: u32) -> u64 {
        alb_xdp_timestamp(self.0.ctx, l4, header_len)
    }

    #[inline(always)]
    fn clamp(&mut self, l4: u32, header_len: u32, most: u32) {
        alb_xdp_clamp(self.0.ctx, l4, header_len, most);
    }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_xdp_timestamp(context: *mut xdp_md, l4: u32, header_len: u32) -> u64 {
    timestamp(&XdpPacket(XdpContext::new(context)), l4, header_len)
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_xdp_clamp(context: *mut xdp_md, l4: u32, header_len: u32, most: u32) -> u64 {
    clamp(&mut XdpPacket(XdpContext::new(context)), l4, header_len, most)
}

/// The packet path at XDP. `frags`: frames of several buffers come too (Linux 5.18).
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn alb_xdp(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket(ctx);
    let outcome = process(&mut packet);
    if !matches!(outcome, Outcome::Other) {
        return action(outcome);
    }
    parts::xdp(&packet.0);
    action(unknown())
}

/// IPv6, and whatever is no IP at all: [`alb_xdp`] comes here with it.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[xdp(frags)]
pub fn alb_xdp6(ctx: XdpContext) -> u32 {
    action(process6(&mut XdpPacket(ctx)))
}

#[inline(always)]
fn action(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Pass | Outcome::Other => XDP_PASS,
        Outcome::Drop => XDP_DROP,
        Outcome::Reflect => XDP_TX,
        Outcome::Redirect => XDP_REDIRECT,
    }
}
