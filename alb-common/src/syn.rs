//! Floods of SYNs: when a client has to prove itself before it gets a flow, and how it does.
//!
//! A SYN is answered with a SYN-ACK whose acknowledgment is deliberately wrong, and carries a
//! cookie. A stack that did send the SYN answers with a RST whose sequence number is that
//! acknowledgment (RFC 9293 §3.10.7.3), and sends its SYN again; who forged the source address
//! never sees the cookie. So a client is known without a sequence number ever being translated.

use crate::{abi::plain, expiry::ticks};

/// Ticks, shifted right by this, number the windows in which SYNs are counted: 1.07 s each.
const WINDOW_SHIFT: u32 = 6;
/// Clients have to prove themselves for so many windows after the last in which too many SYNs came.
const WINDOWS: u32 = 2;
/// Ticks, shifted right by this, number the epochs of cookies: 8.6 s each. One is good in its own
/// and the next.
const EPOCH_SHIFT: u32 = 9;
/// Ticks for which a client that has proven itself need not again.
const PROVEN_FOR: u32 = ticks(60);
/// Places of `PROVEN`, 8 bytes each. Two clients that share one prove themselves in turns.
pub const PLACES: usize = 1 << 16;
/// Bits of a word of `PROVEN` that are the tick; the others are the client's.
const TICK_BITS: u32 = 24;

/// SYNs of one CPU, in all or towards one target, that nothing has come of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SynRate {
    /// Number of the window.
    pub window: u32,
    /// SYNs in it, less handshakes that were completed.
    pub pending: u32,
    /// Number of the first window in which clients need not prove themselves any more; 0 = they
    /// never had to.
    pub until: u32,
}

plain!(SynRate, 12: window: u32, pending: u32, until: u32);

impl SynRate {
    /// Counts a SYN: whether its client has to prove itself, because more than `limit` are pending
    /// or lately were.
    #[inline(always)]
    pub const fn begun(&mut self, now: u32, limit: u32) -> bool {
        let window = now >> WINDOW_SHIFT;
        if self.window != window {
            self.window = window;
            self.pending = 0;
        }
        self.pending = self.pending.wrapping_add(1);
        if self.pending > limit {
            self.until = window.wrapping_add(WINDOWS);
        }
        window < self.until
    }

    /// Counts a handshake that was completed, or a client that has proven itself.
    #[inline(always)]
    pub const fn done(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }
}

/// Number of the epoch of cookies.
#[inline(always)]
pub const fn epoch(now: u32) -> u32 {
    now >> EPOCH_SHIFT
}

/// The acknowledgment that carries a cookie: no stack takes it for one of its SYN, or of what it
/// may have sent with it.
#[inline(always)]
pub const fn acknowledgment(cookie: u32, isn: u32) -> u32 {
    if cookie.wrapping_sub(isn) <= MOST_SENT { cookie ^ FLIPPED } else { cookie }
}

/// Whether the sequence number of a RST shows that its sender has seen the cookie.
#[inline(always)]
pub const fn shows(sequence: u32, cookie: u32) -> bool {
    sequence == cookie || sequence == cookie ^ FLIPPED
}

const MOST_SENT: u32 = 1 << 16;
const FLIPPED: u32 = 1 << 31;

/// The place in `PROVEN` of a client with this hash.
#[inline(always)]
pub const fn place(hash: u64) -> u32 {
    hash as u32 & (PLACES as u32 - 1)
}

/// What is kept there of a client that has just proven itself.
#[inline(always)]
pub const fn proof(hash: u64, now: u32) -> u64 {
    hash & !TICKS | now as u64 & TICKS
}

/// Whether a word of `PROVEN` says that the client with this hash has proven itself of late.
#[inline(always)]
pub const fn is_proven(word: u64, hash: u64, now: u32) -> bool {
    let age = (now.wrapping_sub(word as u32)) & TICKS as u32;
    word != 0 && (word ^ hash) & !TICKS == 0 && age <= PROVEN_FOR
}

const TICKS: u64 = (1 << TICK_BITS) - 1;

/// SipHash-2-4 (Aumasson, Bernstein 2012) of five words: a keyed hash that nobody can foretell
/// without the key.
#[inline(always)]
pub const fn siphash(key: [u64; 2], words: [u64; 5]) -> u64 {
    let [k0, k1] = key;
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let [first, second, third, fourth, fifth] = words;
    state = absorb(absorb(absorb(state, first), second), third);
    // The last word is the length of the message.
    state = absorb(absorb(absorb(state, fourth), fifth), 40 << 56);
    state[2] ^= 0xff;
    state = round(round(round(round(state))));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
const fn absorb(mut state: [u64; 4], word: u64) -> [u64; 4] {
    state[3] ^= word;
    state = round(round(state));
    state[0] ^= word;
    state
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::hash::Hasher as _;

    use super::*;

    #[test]
    fn it_is_siphash() {
        #[expect(deprecated, reason = "the only one with keys of the standard library")]
        for n in 0..100_u64 {
            let words = [n, n << 32, !n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 7];
            let mut hasher = std::hash::SipHasher::new_with_keys(n, 99);
            for word in words {
                hasher.write(&word.to_le_bytes());
            }
            assert_eq!(siphash([n, 99], words), hasher.finish(), "{n}");
        }
    }

    #[test]
    fn too_many_have_to_prove_themselves_until_it_is_over() {
        let window = |n: u32| n << WINDOW_SHIFT;
        let mut rate = SynRate::default();
        for _ in 0..3 {
            assert!(!rate.begun(window(5), 3));
        }
        assert!(rate.begun(window(5), 3), "the fourth");
        for (now, expected) in [(6, true), (7, false), (8, false)] {
            assert_eq!(rate.begun(window(now), 3), expected, "{now}");
        }
    }

    #[test]
    fn what_is_completed_does_not_count() {
        let mut rate = SynRate::default();
        for _ in 0..1_000 {
            assert!(!rate.begun(100, 3));
            rate.done();
        }
        rate.done();
        assert_eq!(rate.pending, 0);
    }

    #[test]
    fn an_acknowledgment_is_never_right_and_always_shows() {
        for (cookie, isn) in [
            (5_000, 4_999),
            (5_000, 5_000),
            (5_000, 5_001),
            (0, u32::MAX),
            (0xffff, 0),
            (0x8000_0000, 0),
            (7, 0x8000_0006),
        ] {
            let sent = acknowledgment(cookie, isn);
            assert!(sent.wrapping_sub(isn) > MOST_SENT, "{cookie} {isn}");
            assert!(shows(sent, cookie) && !shows(sent.wrapping_add(1), cookie));
        }
    }

    #[test]
    fn a_proof_is_the_client_s_and_ends() {
        let (hash, now) = (0x1234_5678_9abc_def0, 0xffff_fff0);
        let word = proof(hash, now);
        for (hash, later, expected) in [
            (hash, 0, true),
            (hash, PROVEN_FOR, true),
            (hash, PROVEN_FOR + 1, false),
            (hash ^ 1 << 63, 0, false),
            (hash ^ 1 << TICK_BITS, 0, false),
        ] {
            assert_eq!(is_proven(word, hash, now.wrapping_add(later)), expected, "{later}");
        }
        assert!(!is_proven(0, 0, 0), "an empty place");
        assert_eq!(place(hash), 0xdef0);
    }
}
