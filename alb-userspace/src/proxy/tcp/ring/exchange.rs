//! What becomes of the two ways of a conversation as data: what the kernel says comes in, what
//! it is to do goes out. Knows no ring and no socket.

use std::collections::VecDeque;

/// A message of at least this much speaks for the other engine, which has larger buffers, bytes.
pub(super) const LARGE: u32 = 4096;

/// One way: the side that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::tcp) enum Way {
    /// From the client to the target.
    Up,
    /// Back.
    Down,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::Up, Self::Down];

    pub(super) fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Bytes that came, in a buffer of the ring's.
pub(super) trait Piece {
    fn len(&self) -> u32;
    /// So many of them were sent.
    fn consume(&mut self, count: u32);
}

/// What a read came to.
#[derive(Debug)]
pub(super) enum Came<P> {
    Bytes(P),
    /// The side sends no more.
    End,
    /// The side reset the connection.
    Failed,
    /// Nothing, and nothing is wrong: no buffer was free, or the read was called off.
    Nothing,
}

/// What the kernel is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op<P> {
    /// Read, again and again.
    Read(Way),
    /// Send what the way is `sending`; never wait for room.
    Send(Way),
    /// Read no more.
    Cancel(Way),
    /// Have the buffer back.
    Return(P),
}

#[derive(Debug)]
struct Lane<P> {
    /// A read is under way.
    reads: bool,
    /// Calling it off is under way.
    cancels: bool,
    sending: Option<P>,
    /// What came meanwhile, in order.
    held: VecDeque<P>,
    failed: bool,
    came: u64,
    sent: u64,
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Self {
            reads: false,
            cancels: false,
            sending: None,
            held: VecDeque::new(),
            failed: false,
            came: 0,
            sent: 0,
        }
    }
}

/// Both ways. It goes on while messages are small and the receivers take them; for all else it
/// is to be left, and is over when the kernel has nothing of it any more.
#[derive(Debug)]
pub(super) struct Exchange<P> {
    lanes: [Lane<P>; 2],
    leaving: bool,
}

impl<P: Piece> Exchange<P> {
    pub(super) fn begin(ops: &mut Vec<Op<P>>) -> Self {
        let mut exchange = Self { lanes: Default::default(), leaving: false };
        for way in Way::BOTH {
            exchange.go_on(way, ops);
        }
        exchange
    }

    /// A read said something; it goes on by itself if there is `more`.
    pub(super) fn came(&mut self, way: Way, what: Came<P>, more: bool, ops: &mut Vec<Op<P>>) {
        let lane = self.lane(way);
        lane.reads = more;
        let leaves = match what {
            Came::Bytes(piece) => {
                lane.came += u64::from(piece.len());
                let is_large = piece.len() >= LARGE;
                lane.held.push_back(piece);
                is_large
            }
            Came::End => true,
            Came::Failed => {
                lane.failed = true;
                true
            }
            Came::Nothing => false,
        };
        if leaves {
            self.leave(ops);
        } else {
            self.go_on(way, ops);
        }
    }

    /// So many bytes of what was `sending` were taken; 0 if it failed.
    pub(super) fn sent(&mut self, way: Way, count: u32, ops: &mut Vec<Op<P>>) {
        let lane = self.lane(way);
        let Some(mut piece) = lane.sending.take() else { return };
        lane.sent += u64::from(count);
        if count >= piece.len() {
            ops.push(Op::Return(piece));
            self.go_on(way, ops);
        } else {
            // A slow receiver, or none: whoever takes over waits for it, or finds out.
            piece.consume(count);
            lane.held.push_front(piece);
            self.leave(ops);
        }
    }

    /// Calling a read off is done.
    pub(super) fn cancelled(&mut self, way: Way) {
        self.lane(way).cancels = false;
    }

    /// No more is begun. To be said again as long as it is not over: a read may have escaped.
    pub(super) fn leave(&mut self, ops: &mut Vec<Op<P>>) {
        self.leaving = true;
        for way in Way::BOTH {
            let lane = self.lane(way);
            if lane.reads && !lane.cancels {
                lane.cancels = true;
                ops.push(Op::Cancel(way));
            }
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// It is left, and the kernel has nothing of it.
    pub(super) fn is_over(&self) -> bool {
        let is_idle = |lane: &Lane<P>| !lane.reads && !lane.cancels && lane.sending.is_none();
        self.leaving && self.lanes.iter().all(is_idle)
    }

    pub(super) fn sending(&self, way: Way) -> Option<&P> {
        self.lanes[way as usize].sending.as_ref()
    }

    /// What came and was not sent, first things first.
    pub(super) fn take_unsent(&mut self, way: Way) -> VecDeque<P> {
        std::mem::take(&mut self.lane(way).held)
    }

    /// Whether the way's source reset the connection.
    pub(super) fn has_failed(&self, way: Way) -> bool {
        self.lanes[way as usize].failed
    }

    /// Bytes that came and bytes that were sent since this was asked last.
    pub(super) fn take_counts(&mut self, way: Way) -> (u64, u64) {
        let lane = self.lane(way);
        (std::mem::take(&mut lane.came), std::mem::take(&mut lane.sent))
    }

    fn go_on(&mut self, way: Way, ops: &mut Vec<Op<P>>) {
        if self.leaving {
            return;
        }
        let lane = self.lane(way);
        if lane.sending.is_none()
            && let Some(piece) = lane.held.pop_front()
        {
            lane.sending = Some(piece);
            ops.push(Op::Send(way));
        }
        if !lane.reads {
            lane.reads = true;
            ops.push(Op::Read(way));
        }
    }

    fn lane(&mut self, way: Way) -> &mut Lane<P> {
        &mut self.lanes[way as usize]
    }
}

#[cfg(test)]
mod tests;
