//! The TC host: its packet, its entry point, its actions. For devices without native XDP.

use core::ffi::c_void;

use alb_common::checksum;
use alb_ebpf::{
    Host, Outcome,
    host::{clamp, timestamp},
    ipv6::MOST_EXTENSION_BYTES,
    packet::Packet,
    parts, process, process6, unknown,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{
        bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_tail, bpf_skb_pull_data,
    },
    macros::classifier,
    programs::TcContext,
};

/// Ethernet, IPv4 and TCP headers without tags and options.
const PLAIN: usize = 14 + 20 + 20;
/// The same with a tag, all options, and a quoted packet's headers.
const MOST: usize = 14 + 4 + 60 + 60;
/// [`PLAIN`] of IPv6.
const PLAIN6: usize = 14 + 40 + 20;
/// [`MOST`] of IPv6: with extension headers.
const MOST6: usize = 14 + 4 + 40 + MOST_EXTENSION_BYTES + 60;

/// Mark of what we have sent over loopback, which comes in again at once.
const OURS: u32 = 0x00a1_b000;

struct TcPacket(TcContext);

impl TcPacket {
    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }

    /// Brings the headers into the part that can be accessed directly. With almost every packet
    /// they are there: stacks and drivers put them at the front. IPv6's are left to
    /// [`Self::gather6`].
    #[inline(always)]
    fn gather(&self) {
        // Looked at first: lengths are not what the verifier takes for a check of an access.
        if let Some(head) = self.window::<PLAIN>(0)
            && (head.u16::<12>() == 0x86ddu16.to_be()
                || head.u16::<12>() == 0x0800u16.to_be() && head.u8::<14>() == 0x45)
        {
            return;
        }
        self.pull(MOST);
    }

    /// [`Self::gather`] of IPv6.
    #[inline(always)]
    fn gather6(&self) {
        if let Some(head) = self.window::<PLAIN6>(0)
            && head.u16::<12>() == 0x86ddu16.to_be()
            && head.u8::<20>() == 6
        {
            return;
        }
        self.pull(MOST6);
    }

    /// Makes so many bytes accessible, or all that there are.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn pull(&self, most: usize) {
        let here = self.end() - self.start();
        if here >= most || here >= self.len() {
            return;
        }
        let len = if self.len() < most { self.len() } else { most };
        // SAFETY: the context is the program's own, and no window is alive. What is not there
        // afterwards counts as cut off.
        unsafe { bpf_skb_pull_data(self.skb(), len as u32) };
    }
}

impl Packet for TcPacket {
    const OFFLOADS: bool = true;

    #[inline(always)]
    fn start(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn truncate(&mut self, len: usize) -> bool {
        // SAFETY: the context is the program's own. No window is alive: they borrow `self`.
        unsafe { bpf_skb_change_tail(self.skb(), len as u32, 0) == 0 }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn tags_aside(&self) -> usize {
        // SAFETY: the context is the program's own.
        usize::from(unsafe { (*self.skb()).vlan_present } != 0)
    }

    #[inline(always)]
    fn ip_len(&self, l3: usize, said: usize) -> usize {
        if said == 0 && self.segment_size() != 0 { self.len() - l3 } else { said }
    }

    #[inline(always)]
    fn longest(&self, ip_len: u32, headers: u32) -> u32 {
        match self.segment_size() {
            0 => ip_len,
            size => headers + size,
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn correct(&mut self, offset: usize, pseudo: u16, segment: u16) {
        let at = offset as u32;
        if pseudo != 0 {
            // SAFETY: the context is the program's own, no window is alive. Size 0: the number is
            // a difference. It cannot fail where the checksum was accessed before.
            unsafe {
                let flags = u64::from(BPF_F_PSEUDO_HDR);
                bpf_l4_csum_replace(self.skb(), at, 0, pseudo.into(), flags);
            }
        }
        // SAFETY: as above.
        unsafe {
            bpf_l4_csum_replace(self.skb(), at, 0, segment.into(), 0);
        }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn mark(&self) {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb()).mark = OURS }
    }

    #[inline(always)]
    fn sum(&self, offset: usize, words: usize) -> u16 {
        sum(self.skb(), offset, words)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a helper call")]
    fn rewritten(&mut self, delta: u16) {
        // SAFETY: the context is the program's own. Where there is no such sum, it refuses.
        unsafe {
            bpf_csum_update(self.skb(), delta.into());
        }
    }
}

/// The words that [`Packet::sum`] may be asked for: of a header and a quoted packet's.
const MOST_WORDS: usize = (20 + 8 + 60 + 8) / 4;

/// Where a packet begins and ends.
struct Bounds(usize, usize);

impl Packet for Bounds {
    #[inline(always)]
    fn start(&self) -> usize {
        self.0
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.1
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.1 - self.0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn truncate(&mut self, _: usize) -> bool {
        false
    }
}

/// A call of its own: the compiler would conclude from its checks that later ones are needless,
/// and the verifier does not follow. The bounds are read volatile, or the compiler hands them over
/// instead of the context, cut to 32 bits, after which they are no packet pointers.
#[inline(never)]
#[expect(unsafe_code, reason = "context access")]
fn sum(skb: *mut __sk_buff, offset: usize, words: usize) -> u16 {
    // SAFETY: the context is the program's own.
    let data = unsafe { &raw const (*skb).data };
    // SAFETY: as above.
    let data = unsafe { data.read_volatile() } as usize;
    // SAFETY: as above.
    let end = unsafe { &raw const (*skb).data_end };
    // SAFETY: as above.
    let end = unsafe { end.read_volatile() } as usize;
    let packet = Bounds(data, end);
    let mut sum = 0u64;
    let mut word = 0;
    while word < MOST_WORDS && word < words {
        let Some(window) = packet.window::<4>(offset + word * 4) else { break };
        sum += u64::from(window.u32::<0>());
        word += 1;
    }
    checksum::fold(sum)
}

impl TcPacket {
    /// Whether it has been through here; nobody behind us is to see the mark.
    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn is_back(&self) -> bool {
        // SAFETY: the context is the program's own.
        let is_back = unsafe { (*self.skb()).mark } == OURS;
        if is_back {
            // SAFETY: as above.
            unsafe { (*self.skb()).mark = 0 }
        }
        is_back
    }

    /// TCP data in each packet that a super-packet is cut into; 0 = it is none.
    #[inline(always)]
    #[expect(unsafe_code, reason = "context access")]
    fn segment_size(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb()).gso_size }
    }
}

impl Host for TcPacket {
    const CALLS: bool = true;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn timestamp(&self, l4: u32, header_len: u32) -> u64 {
        alb_tc_timestamp(self.skb(), l4, header_len)
    }

    #[inline(always)]
    fn clamp(&mut self, l4: u32, header_len: u32, most: u32) {
        alb_tc_clamp(self.skb(), l4, header_len, most);
    }
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_tc_timestamp(context: *mut __sk_buff, l4: u32, header_len: u32) -> u64 {
    timestamp(&TcPacket(TcContext::new(context)), l4, header_len)
}

#[inline(never)]
#[expect(unsafe_code, reason = "a symbol of its own")]
#[unsafe(no_mangle)]
extern "C" fn alb_tc_clamp(context: *mut __sk_buff, l4: u32, header_len: u32, most: u32) -> u64 {
    clamp(&mut TcPacket(TcContext::new(context)), l4, header_len, most)
}

/// The packet path at TC ingress. What it passes goes on to the programs behind it.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[classifier]
pub fn alb_tc(ctx: TcContext) -> i32 {
    let mut packet = TcPacket(ctx);
    if packet.is_back() {
        return TC_ACT_UNSPEC;
    }
    packet.gather();
    let outcome = process(&mut packet);
    if !matches!(outcome, Outcome::Other) {
        return action(&packet, outcome);
    }
    parts::tc(&packet.0);
    action(&packet, unknown())
}

/// IPv6, and whatever is no IP at all: [`alb_tc`] comes here with it.
#[expect(unreachable_pub, reason = "the macro wants it")]
#[classifier]
pub fn alb_tc6(ctx: TcContext) -> i32 {
    let mut packet = TcPacket(ctx);
    packet.gather6();
    let outcome = process6(&mut packet);
    action(&packet, outcome)
}

#[inline(always)]
fn action(packet: &TcPacket, outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Pass | Outcome::Other => TC_ACT_UNSPEC,
        Outcome::Drop => TC_ACT_SHOT,
        Outcome::Redirect => TC_ACT_REDIRECT,
        // SAFETY: takes an index and flags.
        #[expect(unsafe_code, reason = "a helper call")]
        Outcome::Reflect => unsafe { bpf_redirect(packet.ifindex(), 0) as i32 },
    }
}
