//! What the packet path remembers of a TCP connection: a few flags in each direction's entry.

/// TCP header flags (RFC 9293 §3.1), as in byte 13 of the header.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
    /// Urgent pointer counts.
    pub const URG: u8 = 0x20;
}

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to target.
    Forward,
    /// Target to client.
    Reverse,
}

/// State of a flow, kept the same in both of its entries except for `REVERSE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowFlags(pub u8);

impl FlowFlags {
    /// The entry is the target-to-client one.
    pub const REVERSE: u8 = 1;
    /// Half-open: the target's SYN-ACK passed.
    pub const SYN_ACK: u8 = 2;
    /// Established: the sender of this direction's packets was told with a RST that the flow is
    /// over. (An established entry has no use for [`Self::SYN_ACK`].)
    pub const CUT: u8 = Self::SYN_ACK;
    /// The client's FIN passed.
    pub const FIN_CLIENT: u8 = 4;
    /// The target's FIN passed.
    pub const FIN_TARGET: u8 = 8;
    /// A RST of the client passed, and nothing else of it since.
    pub const RST_CLIENT: u8 = 16;
    /// The target closed first, so it is the one in TIME-WAIT.
    pub const TARGET_FIRST: u8 = 32;
    /// The client closed first and has acknowledged the target's FIN: neither side waits for
    /// anything. In a half-open entry: the handshake is complete, but the table was full.
    pub const DONE: u8 = 64;
    /// A RST of the target passed, and nothing else of it since.
    pub const RST_TARGET: u8 = 128;
    /// A RST passed.
    pub const RST: u8 = Self::RST_CLIENT | Self::RST_TARGET;

    /// In a reverse entry: the flow is gone, but its target is in TIME-WAIT, so the entry holds its
    /// port. (No flow has both: [`Self::DONE`] says that the client closed first.)
    const HELD: u8 = Self::TARGET_FIRST | Self::DONE;

    const STATE: u8 =
        Self::FIN_CLIENT | Self::FIN_TARGET | Self::RST | Self::TARGET_FIRST | Self::DONE;

    /// Whether a flag is set.
    #[inline(always)]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Of a reverse entry: no packet is of its flow any more, and another may have its forward key;
    /// only its port is held.
    #[inline(always)]
    pub const fn is_held(self) -> bool {
        self.0 & Self::HELD == Self::HELD
    }

    /// Whether the target of a closed flow is in TIME-WAIT, as far as it can be told.
    #[inline(always)]
    pub const fn leaves_time_wait(self) -> bool {
        self.closed() && self.0 & (Self::TARGET_FIRST | Self::RST) == Self::TARGET_FIRST
    }

    /// The flags of a reverse entry that is to hold the port of its flow, which
    /// [`leaves_time_wait`](Self::leaves_time_wait), and is gone.
    #[inline(always)]
    #[must_use]
    pub const fn held(self) -> Self {
        Self(self.0 | Self::HELD)
    }

    /// With a flag set.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, flag: u8) -> Self {
        Self(self.0 | flag)
    }

    /// Both sides are done: only repeated FINs and ACKs may follow.
    #[inline(always)]
    pub const fn closed(self) -> bool {
        const BOTH: u8 = FlowFlags::FIN_CLIENT | FlowFlags::FIN_TARGET;
        self.has(Self::RST) || self.0 & BOTH == BOTH
    }

    /// Both sides have closed, the client first, and its ACK of the target's FIN is due.
    #[inline(always)]
    pub const fn awaits_last_ack(self) -> bool {
        self.closed() && self.0 & (Self::RST | Self::TARGET_FIRST | Self::DONE) == 0
    }

    /// Whether a packet with these TCP flags may change the state: all that most packets are
    /// asked.
    #[inline(always)]
    pub const fn concerns(self, direction: Direction, tcp: u8) -> bool {
        tcp & (flag::FIN | flag::RST) != 0
            || self.awaits_last_ack()
            || self.has(Self::rst_of(direction))
    }

    /// The flag for a RST in this direction.
    #[inline(always)]
    const fn rst_of(direction: Direction) -> u8 {
        match direction {
            Direction::Forward => Self::RST_CLIENT,
            Direction::Reverse => Self::RST_TARGET,
        }
    }

    /// The states of both entries of a flow put together: one of them may have been written
    /// over on another CPU.
    #[inline(always)]
    #[must_use]
    pub const fn joined(self, other: Self) -> Self {
        Self(self.0 | other.0 & Self::STATE & !Self::RST)
    }

    /// This entry's direction.
    #[inline(always)]
    pub const fn direction(self) -> Direction {
        if self.has(Self::REVERSE) { Direction::Reverse } else { Direction::Forward }
    }

    /// The state of `self` in the entry of the other direction, which keeps its own `REVERSE`
    /// and `SYN_ACK`.
    #[inline(always)]
    #[must_use]
    pub const fn copied_to(self, other: Self) -> Self {
        Self((other.0 & !Self::STATE) | (self.0 & Self::STATE))
    }

    /// The state after a packet with these TCP flags in this direction.
    ///
    /// Sequence numbers are not looked at, so a RST may be forged. Its receiver ignores such a
    /// one, and its alleged sender goes on: any later packet of his withdraws it.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, direction: Direction, tcp: u8) -> Self {
        let mut next = self.0;
        if tcp & flag::RST != 0 {
            return Self(next | Self::rst_of(direction));
        }
        next &= !Self::rst_of(direction);
        if tcp & flag::FIN != 0 {
            match direction {
                Direction::Forward => next |= Self::FIN_CLIENT,
                Direction::Reverse => {
                    // Simultaneous closes count as the target's: it may be in TIME-WAIT then.
                    if !self.has(Self::FIN_CLIENT) {
                        next |= Self::TARGET_FIRST;
                    }
                    next |= Self::FIN_TARGET;
                }
            }
        }
        Self(next)
    }
}

/// Whether some stack sends this combination. Without SYN, RST or ACK (null, FIN and Christmas
/// tree scans), and SYN with FIN or RST, are none.
#[inline(always)]
pub const fn plausible(tcp: u8) -> bool {
    if tcp & flag::SYN != 0 {
        tcp & (flag::FIN | flag::RST) == 0
    } else {
        tcp & (flag::ACK | flag::RST) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, flag::*, *};

    fn check(packets: &[(Direction, u8)], expected: u8, closed: bool) {
        let flags = packets
            .iter()
            .fold(FlowFlags::default(), |flags, (direction, tcp)| flags.after(*direction, *tcp));
        assert_eq!(flags, FlowFlags(expected), "{packets:?}");
        assert_eq!(flags.closed(), closed, "{packets:?}");
    }

    #[test]
    fn closing() {
        use FlowFlags as F;
        check(&[(Forward, ACK), (Reverse, ACK | PSH)], 0, false);
        check(&[(Forward, FIN | ACK)], F::FIN_CLIENT, false);
        check(&[(Forward, FIN | ACK), (Forward, FIN | ACK)], F::FIN_CLIENT, false);
        check(
            &[(Forward, FIN | ACK), (Reverse, FIN | ACK), (Reverse, ACK)],
            F::FIN_CLIENT | F::FIN_TARGET,
            true,
        );
        check(
            &[(Forward, FIN | ACK), (Reverse, FIN | ACK), (Forward, FIN | ACK), (Forward, ACK)],
            F::FIN_CLIENT | F::FIN_TARGET,
            true,
        );
        check(
            &[(Reverse, FIN | ACK), (Forward, FIN | ACK), (Forward, ACK)],
            F::FIN_CLIENT | F::FIN_TARGET | F::TARGET_FIRST,
            true,
        );
        check(
            &[(Reverse, FIN | ACK), (Forward, FIN | ACK)],
            F::FIN_CLIENT | F::FIN_TARGET | F::TARGET_FIRST,
            true,
        );
        check(&[(Reverse, RST)], F::RST_TARGET, true);
        check(&[(Forward, RST | ACK)], F::RST_CLIENT, true);
        check(&[(Forward, RST), (Reverse, ACK)], F::RST_CLIENT, true);
        check(&[(Forward, RST), (Forward, ACK)], 0, false);
        check(&[(Forward, RST), (Reverse, RST), (Forward, SYN)], F::RST_TARGET, true);
    }

    #[test]
    fn copying_keeps_the_entry_s_own_flags() {
        let forward = FlowFlags(FlowFlags::FIN_CLIENT);
        let reverse = FlowFlags(FlowFlags::REVERSE | FlowFlags::SYN_ACK);
        let copied = forward.copied_to(reverse);
        assert_eq!(copied.direction(), Reverse);
        assert!(copied.has(FlowFlags::FIN_CLIENT) && copied.has(FlowFlags::SYN_ACK));
    }

    #[test]
    fn flag_combinations() {
        for tcp in [SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, ACK | URG] {
            assert!(plausible(tcp), "{tcp:#x}");
        }
        for tcp in [0, FIN, PSH, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK] {
            assert!(!plausible(tcp), "{tcp:#x}");
        }
    }
}
