//! The two hooks: what a packet is to them, and the programs.

use core::ffi::c_void;

use alb_common::capture::{HOOK_TC, HOOK_XDP};
use aya_ebpf::{
    bindings::{
        __sk_buff, TC_ACT_REDIRECT,
        xdp_action::{XDP_REDIRECT, XDP_TX},
        xdp_md,
    },
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use super::{CAPTURED_TC, CAPTURED_XDP, Host, after, before, is_in_hand, settings, take};

struct Xdp(*mut xdp_md);

impl Host for Xdp {
    const HOOK: u32 = HOOK_XDP;

    #[inline(always)]
    fn take(&self, at: u32, size: u32) -> u32 {
        alb_xdp_take(self.0, at, size)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn copy(&self, to: *mut c_void, len: u32) -> bool {
        // SAFETY: the context is the program's own; the caller has room for the bytes.
        unsafe { bpf_xdp_load_bytes(self.0, 0, to, len) == 0 }
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        0
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn is_sent(action: u32) -> bool {
        matches!(action, XDP_TX | XDP_REDIRECT)
    }
}

struct Tc(*mut __sk_buff);

impl Host for Tc {
    const HOOK: u32 = HOOK_TC;

    #[inline(always)]
    fn take(&self, at: u32, size: u32) -> u32 {
        alb_tc_take(self.0, at, size)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn copy(&self, to: *mut c_void, len: u32) -> bool {
        // SAFETY: the context is the program's own; the caller has room for the bytes.
        unsafe { bpf_skb_load_bytes(self.0.cast(), 0, to, len) == 0 }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn tag(&self) -> u32 {
        // SAFETY: the context is the program's own.
        let skb = unsafe { &*self.0 };
        if skb.vlan_present == 0 { 0 } else { skb.vlan_proto & 0xffff | skb.vlan_tci << 16 }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn is_sent(action: u32) -> bool {
        action == TC_ACT_REDIRECT as u32
    }
}

/// What is returned where there is no program to run. It is read, so that neither the compiler nor
/// the verifier takes it for the only thing that is ever returned.
#[inline(always)]
fn otherwise() -> u32 {
    settings().map_or(0, |settings| settings.otherwise)
}

macro_rules! globals {
    ($host:ident, $context:ident, $raw:ty, $map:ident, $before:ident, $run:ident, $after:ident, $take:ident) => {
        #[inline(never)]
        #[expect(unsafe_code, reason = "a symbol of its own")]
        #[unsafe(no_mangle)]
        extern "C" fn $before(context: *mut $raw) -> u64 {
            before(&$host(context));
            0
        }

        #[inline(never)]
        #[expect(unsafe_code, reason = "a symbol of its own, and a helper call")]
        #[unsafe(no_mangle)]
        extern "C" fn $run(context: *mut $raw) -> u32 {
            // SAFETY: nothing is held over the call.
            unsafe { $map.tail_call(&$context::new(context), 0) };
            otherwise()
        }

        #[inline(never)]
        #[expect(unsafe_code, reason = "a symbol of its own")]
        #[unsafe(no_mangle)]
        extern "C" fn $after(context: *mut $raw, action: u32) -> u64 {
            if is_in_hand() {
                after(&$host(context), action);
            }
            0
        }

        #[inline(never)]
        #[expect(unsafe_code, reason = "a symbol of its own")]
        #[unsafe(no_mangle)]
        extern "C" fn $take(context: *mut $raw, at: u32, size: u32) -> u32 {
            take(&$host(context), at, size)
        }
    };
}

globals!(
    Xdp,
    XdpContext,
    xdp_md,
    CAPTURED_XDP,
    alb_xdp_before,
    alb_xdp_run,
    alb_xdp_after,
    alb_xdp_take
);
globals!(
    Tc,
    TcContext,
    __sk_buff,
    CAPTURED_TC,
    alb_tc_before,
    alb_tc_run,
    alb_tc_after,
    alb_tc_take
);

/// Around the packet path at XDP.
#[expect(unreachable_pub, clippy::needless_pass_by_value, reason = "the macro wants it")]
#[xdp(frags)]
pub fn alb_capture_xdp(ctx: XdpContext) -> u32 {
    alb_xdp_before(ctx.ctx);
    let action = alb_xdp_run(ctx.ctx);
    alb_xdp_after(ctx.ctx, action);
    action
}

/// Around it at TC ingress.
#[expect(unreachable_pub, clippy::needless_pass_by_value, reason = "the macro wants it")]
#[classifier]
pub fn alb_capture_tc(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    alb_tc_before(skb);
    let action = alb_tc_run(skb);
    alb_tc_after(skb, action);
    action.cast_signed()
}
