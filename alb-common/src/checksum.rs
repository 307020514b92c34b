//! Internet checksum, incremental (RFC 1624) and whole (RFC 1071).
//!
//! One's-complement sums do not care about byte order as long as every word is read the same
//! way (RFC 1071 §2 B), so all of this works on words as they stand in memory.

/// Folds a sum of 16-bit or 32-bit words to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // Three halvings bring any 64-bit sum below 0x1_0001, one more carry ends it.
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What replacing `old` by `new` adds to a sum: RFC 1624 eqn. 3, `~m + m'`.
#[inline(always)]
pub const fn replace32(old: u32, new: u32) -> u64 {
    (!old) as u64 + new as u64
}

/// As [`replace32`] for a 16-bit word.
#[inline(always)]
pub const fn replace16(old: u16, new: u16) -> u64 {
    (!old) as u64 + new as u64
}

/// The checksum after `delta` was added to the sum it covers: RFC 1624 eqn. 3,
/// `HC' = ~(~HC + ~m + m')`.
#[inline(always)]
pub const fn update(check: u16, delta: u64) -> u16 {
    // Folded first: two 64-bit sums could carry out of the top.
    !fold((!check) as u64 + fold(delta) as u64)
}

/// The checksum of a sum of words: its complement.
#[inline(always)]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The sum of a byte string as 16-bit words in memory order, the last byte padded with zero.
/// For tests and userspace; the packet path sums words it has at hand.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(2);
    let mut total = 0;
    for word in &mut chunks {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = chunks.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    /// Bit-by-bit reference: end-around carry after each addition (RFC 1071 §4.1).
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(u16::from_ne_bytes([word[0], *word.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(u16::from_be(fold(sum(&words))), 0xddf2);
    }

    proptest! {
        #[test]
        fn whole(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(finish(sum(&bytes)), reference(&bytes));
        }

        #[test]
        fn incremental_equals_whole(
            mut bytes in proptest::collection::vec(any::<u8>(), 8..64),
            new in any::<[u8; 4]>(),
            at in 0usize..2,
        ) {
            // An all-zero packet cannot occur: a header has a version.
            bytes[7] |= 1;
            let before = finish(sum(&bytes));
            let range = at * 2..at * 2 + 4;
            let old: [u8; 4] = bytes[range.clone()].try_into().unwrap();
            bytes[range].copy_from_slice(&new);
            let delta = replace32(u32::from_ne_bytes(old), u32::from_ne_bytes(new));
            prop_assert_eq!(update(before, delta), finish(sum(&bytes)));
        }

        #[test]
        fn fold_is_total(sum in any::<u64>()) {
            let mut wide = u128::from(sum);
            while wide > 0xffff {
                wide = (wide & 0xffff) + (wide >> 16);
            }
            // 0 and 0xffff are the same number in one's complement.
            prop_assert_eq!(u128::from(fold(sum)) % 0xffff, wide % 0xffff);
        }
    }
}
