//! Conversations of small messages through an `io_uring` of the worker's own: what came in
//! is read, and all of it sent on, by one system call for many connections, and no task is woken
//! for it. `relay` hands over connections that talk like that, and gets them back for all else:
//! ends, resets, large messages, slow receivers, the end of the idle time.

mod engine;
mod exchange;
mod kernel;

use std::{
    cell::RefCell,
    env, io, process,
    rc::Rc,
    sync::Once,
    task::{Context, Poll},
};

use tokio::{net::TcpStream, task::spawn_local};

use self::engine::Engine;
pub(super) use self::exchange::Way;
use crate::proxy::plain::Plain;

/// Set to `off`, the worker does without.
const SWITCH: &str = "ALB_IO_URING";
/// Messages, both ways together, by which a connection shows what it is. Each time that it is
/// given back it has to show it for longer.
const AFTER: u64 = 32;
const LONGER: u64 = 4;

#[derive(Debug, Default)]
enum Mine {
    /// There is none, and there will be none.
    #[default]
    None,
    /// It is made when it is wanted.
    Wanted,
    Made(Rc<Engine>),
}

thread_local! {
    static MINE: RefCell<Mine> = const { RefCell::new(Mine::None) };
    static FIRST: std::cell::Cell<u64> = const { std::cell::Cell::new(AFTER) };
}

/// Lets this thread's relays use a ring, on a local runtime. The first that wants it has it made.
pub(in crate::proxy) fn allow() {
    if env::var_os(SWITCH).is_none_or(|value| value != "off") {
        MINE.set(Mine::Wanted);
    }
}

/// As `allow`, for connections that have shown nothing yet.
#[cfg(test)]
pub(super) fn allow_at_once() {
    FIRST.set(0);
    MINE.set(Mine::Wanted);
}

/// Whether a connection went over to this thread's.
#[cfg(test)]
pub(super) fn is_used() -> bool {
    MINE.with_borrow(|mine| matches!(mine, Mine::Made(_)))
}

/// The thread's ring, if it has one.
fn mine() -> Option<Rc<Engine>> {
    MINE.with_borrow_mut(|mine| match mine {
        Mine::None => None,
        Mine::Made(engine) => Some(Rc::clone(engine)),
        Mine::Wanted => match Engine::new() {
            Ok((engine, watched)) => {
                let engine = Rc::new(engine);
                let driven = Driven(Rc::clone(&engine));
                spawn_local(async move { driven.0.drive(watched).await });
                *mine = Mine::Made(Rc::clone(&engine));
                Some(engine)
            }
            Err(error) => {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| {
                    tracing::info!(%error, "io_uring cannot be used; small messages of tcp listeners go through epoll");
                });
                *mine = Mine::None;
                None
            }
        },
    })
}

/// With the task that drives it, the thread's ring is gone.
struct Driven(Rc<Engine>);

impl Drop for Driven {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its connections would hang.
            tracing::error!("the ring of a worker failed by a defect; giving up");
            process::abort();
        }
        // Fails when the thread ends, and everything with it.
        let _gone = MINE.try_with(RefCell::take).is_ok();
    }
}

/// When a connection goes over to the ring.
#[derive(Debug)]
pub(super) struct Taste {
    after: u64,
    large: u64,
    began: u64,
}

impl Taste {
    /// That of a connection which can go over, or cannot.
    pub(super) fn of(can: bool) -> Self {
        let may = can && MINE.with_borrow(|mine| !matches!(mine, Mine::None));
        Self { after: if may { FIRST.get() } else { u64::MAX }, large: 0, began: 0 }
    }

    /// Whether it has had nothing but small messages for long enough; of `reads`, `large` ones
    /// were not small.
    pub(super) fn is_for_the_ring(&mut self, reads: u64, large: u64) -> bool {
        if large != self.large {
            (self.large, self.began) = (large, reads);
        }
        reads - self.began >= self.after
    }

    /// It came back.
    pub(super) fn came_back(&mut self, reads: u64) {
        self.began = reads;
        self.after = self.after.max(AFTER).saturating_mul(LONGER);
    }

    /// It did not go.
    pub(super) fn stays(&mut self) {
        self.after = u64::MAX;
    }
}

/// A connection that is given to the ring. It is closed when this is dropped, as soon as the
/// kernel lets go of it.
#[derive(Debug)]
pub(super) struct Chat {
    engine: Rc<Engine>,
    /// Its place; `None` once it was given back.
    place: Option<usize>,
}

/// A connection that is given back.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) client: Plain,
    pub(super) target: Plain,
    pub(super) up: Rest,
    pub(super) down: Rest,
}

/// What is left of one way.
#[derive(Debug)]
pub(super) struct Rest {
    /// What came and was not sent.
    pub(super) unsent: Vec<u8>,
    /// Its source reset the connection.
    pub(super) failed: bool,
}

impl Chat {
    /// `None` if there is no ring.
    pub(super) fn engine() -> Option<Rc<Engine>> {
        mine()
    }

    /// Takes a connection over: the runtime watches it no more.
    pub(super) fn begin(engine: Rc<Engine>, client: Plain, target: Plain) -> io::Result<Self> {
        let sockets = [client.into_inner().into_std()?, target.into_inner().into_std()?];
        let place = Some(engine.enter(sockets));
        Ok(Self { engine, place })
    }

    /// Ready when it can be taken back.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.place.map_or(Poll::Ready(()), |place| self.engine.poll_over(place, cx))
    }

    /// Bytes that came and bytes that were sent since this was asked last.
    pub(super) fn take_counts(&self, way: Way) -> (u64, u64) {
        self.place.map_or((0, 0), |place| self.engine.take_counts(place, way))
    }

    /// Asks for it to be over.
    pub(super) fn leave(&self) {
        if let Some(place) = self.place {
            self.engine.leave(place);
        }
    }

    /// Takes it back, when it is over.
    pub(super) fn end(mut self) -> io::Result<Back> {
        let taken = self.place.take().and_then(|place| self.engine.remove(place));
        let ([client, target], [up, down]) = taken.ok_or(io::ErrorKind::NotConnected)?;
        let [client, target] = [TcpStream::from_std(client)?, TcpStream::from_std(target)?];
        Ok(Back { client: client.into(), target: target.into(), up, down })
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.engine.abandon(place);
        }
    }
}

#[cfg(test)]
mod tests;
