//! The streams of a connection, as futures of its one task: each is polled when it was woken, and
//! all that were are polled in one go. What is woken is a bit; a place and its waker serve one
//! stream after the other.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// Streams of one word of bits.
const GROUP: usize = 64;
/// Places that stay when there is no stream.
const KEPT: usize = 16;

/// Futures that end without a word.
#[derive(Debug)]
pub(super) struct Streams<F> {
    groups: Vec<Group<F>>,
    open: usize,
    task: Waker,
}

#[derive(Debug)]
struct Group<F> {
    woken: Arc<Woken>,
    places: Vec<Place<F>>,
    /// Places without a stream.
    free: u64,
}

#[derive(Debug)]
struct Place<F> {
    future: Option<Pin<Box<F>>>,
    waker: Waker,
}

/// Which places of a group are to be polled.
#[derive(Debug)]
struct Woken {
    bits: AtomicU64,
    task: Waker,
}

/// Wakes what is in one place. That may be another stream by then, which is polled for nothing.
#[derive(Debug)]
struct Bell {
    woken: Arc<Woken>,
    bit: u64,
}

impl<F: Future<Output = ()>> Streams<F> {
    /// None. `task` wakes the task that polls them, as long as there are any.
    pub(super) fn new(task: Waker) -> Self {
        Self { groups: Vec::new(), open: 0, task }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Adds one, to be polled the next time: nobody is woken for it.
    pub(super) fn push(&mut self, future: F) {
        let future = Some(Box::pin(future));
        self.open += 1;
        for group in &mut self.groups {
            if group.free != 0 || group.places.len() < GROUP {
                return group.add(future);
            }
        }
        let woken = Woken { bits: AtomicU64::new(0), task: self.task.clone() };
        let mut group = Group { woken: Arc::new(woken), places: Vec::new(), free: 0 };
        group.add(future);
        self.groups.push(group);
    }

    /// Polls each that was woken once.
    pub(super) fn poll(&mut self) {
        for group in &mut self.groups {
            let mut bits = group.woken.bits.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let at = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(Place { future: held, waker }) = group.places.get_mut(at) else {
                    continue;
                };
                let Some(future) = held else { continue };
                if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                    *held = None;
                    group.free |= 1 << at;
                    self.open -= 1;
                }
            }
        }
        if self.open == 0
            && let Some(group) = self.groups.first_mut()
        {
            if group.places.len() > KEPT {
                group.places.truncate(KEPT);
                group.places.shrink_to_fit();
                group.free = (1 << KEPT) - 1;
            }
            self.groups.truncate(1);
        }
    }
}

impl<F> Group<F> {
    fn add(&mut self, future: Option<Pin<Box<F>>>) {
        let bit = if self.free == 0 {
            let bit = 1 << self.places.len();
            let bell = Bell { woken: Arc::clone(&self.woken), bit };
            self.places.push(Place { future, waker: Waker::from(Arc::new(bell)) });
            bit
        } else {
            let at = self.free.trailing_zeros();
            self.free &= self.free - 1;
            self.places[at as usize].future = future;
            1 << at
        };
        self.woken.bits.fetch_or(bit, Ordering::SeqCst);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Woken { bits, task } = &*self.woken;
        // Whoever set it first woke the task.
        if bits.fetch_or(self.bit, Ordering::SeqCst) & self.bit == 0 {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll};

    use super::*;
    use crate::proxy::wakes::Count;

    /// What one stream of a test did and does.
    #[derive(Default)]
    struct Seen {
        polled: Cell<usize>,
        ends: Cell<bool>,
        waker: Cell<Option<Waker>>,
    }

    impl Seen {
        fn wake(&self) {
            self.waker.take().unwrap().wake();
        }
    }

    type Stream = Pin<Box<dyn Future<Output = ()>>>;

    fn stream(seen: &Rc<Seen>) -> Stream {
        let seen = Rc::clone(seen);
        Box::pin(poll_fn(move |cx| {
            seen.polled.set(seen.polled.get() + 1);
            seen.waker.set(Some(cx.waker().clone()));
            if seen.ends.get() { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    fn polled(streams: &[Rc<Seen>]) -> Vec<usize> {
        streams.iter().map(|seen| seen.polled.get()).collect()
    }

    /// So many streams, polled once, and how often their task was woken.
    fn many<const N: usize>() -> (Streams<Stream>, [Rc<Seen>; N], Arc<Count>) {
        let count = Arc::<Count>::default();
        let mut streams = Streams::new(Waker::from(Arc::clone(&count)));
        let seen = std::array::from_fn(|_| Rc::<Seen>::default());
        for seen in &seen {
            streams.push(stream(seen));
        }
        streams.poll();
        (streams, seen, count)
    }

    #[test]
    fn only_those_that_were_woken_are_polled() {
        let (mut streams, seen, count) = many::<3>();
        streams.poll();
        assert_eq!(polled(&seen), [1, 1, 1]);
        seen[1].wake();
        let again = seen[2].waker.take().unwrap();
        again.wake_by_ref();
        again.wake();
        assert_eq!(count.so_far(), 2, "the task is woken once for each");
        streams.poll();
        streams.poll();
        assert_eq!(polled(&seen), [1, 2, 2]);
    }

    #[test]
    fn places_are_used_again_and_a_late_wake_does_no_harm() {
        let (mut streams, seen, _) = many::<2>();
        seen[0].ends.set(true);
        seen[0].wake();
        streams.poll();
        let late = seen[0].waker.take().unwrap();
        assert!(!streams.is_empty());
        late.wake_by_ref();
        streams.poll();
        let next = Rc::<Seen>::default();
        streams.push(stream(&next));
        streams.poll();
        late.wake();
        streams.poll();
        assert_eq!(next.polled.get(), 2);
        assert_eq!(streams.groups[0].places.len(), 2);
        assert_eq!(polled(&seen), [2, 1], "nobody else");
    }

    #[test]
    fn more_than_one_word_of_them_and_what_stays() {
        let (mut streams, seen, _) = many::<130>();
        assert_eq!(streams.groups.len(), 3);
        assert!(polled(&seen).iter().all(|polled| *polled == 1));
        for seen in &seen {
            seen.ends.set(true);
            seen.wake();
        }
        streams.poll();
        assert!(streams.is_empty() && polled(&seen).iter().all(|polled| *polled == 2));
        assert_eq!((streams.groups.len(), streams.groups[0].places.len()), (1, KEPT));
        // Places that are no more may be rung for.
        seen[129].wake();
        seen[KEPT].wake();
        streams.poll();
        let next: Vec<_> = (0..=KEPT).map(|_| Rc::<Seen>::default()).collect();
        for seen in &next {
            streams.push(stream(seen));
        }
        streams.poll();
        assert_eq!(polled(&next), [1; KEPT + 1]);
    }
}
