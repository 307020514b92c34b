//! Idle connections of one worker, by target. The last one that came back is used first, so that
//! under little load the others grow old and are closed.

use std::{
    cell::RefCell,
    collections::HashMap,
    mem::MaybeUninit,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    task::spawn_local,
    time::{Instant, sleep},
};

use super::Upstream;
use crate::proxy::{buffer::Buffer, plain::Plain, plan::BackendShared, stats::WorkerId};

/// How often connections that are too old or dead are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Idle connections of one worker to one target: more than are asked for at once in all but rare
/// bursts, and few enough that a burst does not hold a target's connections for long.
const MOST: usize = 256;

/// A worker's idle connections. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Pool(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    worker: WorkerId,
    idle: HashMap<SocketAddr, Kept>,
    sweeping: bool,
}

/// Idle connections to one address.
#[derive(Debug)]
struct Kept {
    idle: Vec<Idle>,
    /// The backend they are counted for: of several with this address, the first that had one.
    backend: Arc<BackendShared>,
}

impl Kept {
    fn count(&self, worker: WorkerId, before: usize) {
        let level = &self.backend.stats.at(worker).pool_idle;
        for _ in before..self.idle.len() {
            level.rise();
        }
        for _ in self.idle.len()..before {
            level.fall();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for kept in self.idle.values_mut() {
            let before = kept.idle.len();
            kept.idle.clear();
            kept.count(self.worker, before);
        }
    }
}

#[derive(Debug)]
struct Idle {
    stream: Plain,
    until: Instant,
}

impl Idle {
    /// Nothing came and the target did not close, as far as the runtime has heard.
    fn is_quiet(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the kernel.
    fn is_surely_quiet(&self) -> bool {
        let peeked = SockRef::from(&*self.stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

impl Pool {
    /// A worker's.
    pub fn of(worker: WorkerId) -> Self {
        Self(Rc::new(RefCell::new(Inner { worker, idle: HashMap::new(), sweeping: false })))
    }

    /// An idle connection to this address, on which nothing came since its last response: it
    /// would be taken for the answer to the next request. The kernel is asked, for what it has
    /// may not have been heard of yet; that costs a system call that moves no byte.
    pub fn take(&self, address: SocketAddr) -> Option<Upstream> {
        self.take_if(address, Idle::is_surely_quiet)
    }

    /// The same for a request that the runtime has just heard of. Events are heard of in the
    /// order in which they happened: what came before the request is known without asking the
    /// kernel. What comes in the moment until this is not, as little as what is under way.
    pub fn take_for_event(&self, address: SocketAddr) -> Option<Upstream> {
        self.take_if(address, Idle::is_quiet)
    }

    fn take_if(&self, address: SocketAddr, is_good: impl Fn(&Idle) -> bool) -> Option<Upstream> {
        let mut inner = self.0.borrow_mut();
        let worker = inner.worker;
        let kept = inner.idle.get_mut(&address)?;
        let before = kept.idle.len();
        let mut taken = None;
        while let Some(found) = kept.idle.pop() {
            // The sweep drops those that are too old; a second more or less is none.
            if is_good(&found) {
                let stream = found.stream;
                taken = Some(Upstream { stream, input: Buffer::default(), reused: true });
                break;
            }
        }
        kept.count(worker, before);
        taken
    }

    /// Keeps a connection whose last response has ended for the time that its backend says; with
    /// none, or beyond [`MOST`] to one target, it is closed.
    pub fn put(
        &self,
        address: SocketAddr,
        stream: Plain,
        now: Instant,
        (backend, keep): (&Arc<BackendShared>, Duration),
    ) {
        if keep.is_zero() {
            return;
        }
        let mut inner = self.0.borrow_mut();
        let worker = inner.worker;
        let new = || Kept { idle: Vec::new(), backend: Arc::clone(backend) };
        let kept = inner.idle.entry(address).or_insert_with(new);
        if kept.idle.len() >= MOST {
            return;
        }
        kept.idle.push(Idle { stream, until: now + keep });
        kept.count(worker, kept.idle.len() - 1);
        if !inner.sweeping {
            inner.sweeping = true;
            spawn_local(sweep(Rc::downgrade(&self.0)));
        }
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.0.borrow().idle.values().map(|kept| kept.idle.len()).sum()
    }

    /// Whether none is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Drops what is too old or dead, until nothing is left.
async fn sweep(pool: Weak<RefCell<Inner>>) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut inner = pool.borrow_mut();
        let now = Instant::now();
        let worker = inner.worker;
        inner.idle.retain(|_, kept| {
            let before = kept.idle.len();
            kept.idle.retain(|found| found.until > now && found.is_quiet());
            kept.count(worker, before);
            !kept.idle.is_empty()
        });
        if inner.idle.is_empty() {
            inner.sweeping = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::{net::TcpListener, task::LocalSet, time::timeout};

    use super::*;
    use crate::proxy::upstream::connect;

    async fn pair(listener: &TcpListener) -> (Upstream, std::net::TcpStream) {
        let address = listener.local_addr().unwrap();
        let made = connect(address, Duration::from_secs(5)).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        (made, other.into_std().unwrap())
    }

    async fn until(mut done: impl FnMut() -> bool) {
        let wait = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("within the time");
    }

    #[tokio::test]
    async fn the_last_comes_first_and_dead_ones_never() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let pool = Pool::default();
            let (now, keep) = (Instant::now(), Duration::from_mins(1));
            let (first, _first_end) = pair(&listener).await;
            let (second, mut second_end) = pair(&listener).await;
            let (third, third_end) = pair(&listener).await;
            let port = first.stream.local_addr().unwrap();
            for made in [first, second, third] {
                pool.put(address, made.stream, now, (&Arc::default(), keep));
            }
            second_end.write_all(b"x").unwrap();
            drop(third_end);
            let found = pool.take(address).unwrap();
            assert_eq!(found.stream.local_addr().unwrap(), port, "closed and readable are dead");
            assert!(found.reused && pool.take(address).is_none());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn what_came_before_a_request_is_heard_of_before_it() {
        use tokio::io::AsyncReadExt as _;

        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let pool = Pool::default();
            let backend = Arc::<BackendShared>::default();
            let (mut client, mut client_end) = pair(&listener).await;
            for round in 0..100 {
                let (made, mut end) = pair(&listener).await;
                let keep = (&backend, Duration::from_mins(1));
                pool.put(address, made.stream, Instant::now(), keep);
                if round % 3 == 0 {
                    drop(end);
                } else {
                    end.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                }
                client_end.write_all(b"x").unwrap();
                assert_eq!(client.stream.read(&mut [0; 9]).await.unwrap(), 1);
                assert!(pool.take_for_event(address).is_none(), "round {round}");
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn none_is_kept_for_no_time_and_only_so_many_at_all() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let pool = Pool::default();
            let now = Instant::now();
            let backend = Arc::<BackendShared>::default();
            let (made, _end) = pair(&listener).await;
            pool.put(address, made.stream, now, (&backend, Duration::ZERO));
            assert!(pool.is_empty());
            let mut ends = Vec::new();
            for _ in 0..=MOST {
                let (made, end) = pair(&listener).await;
                pool.put(address, made.stream, now, (&backend, Duration::from_mins(1)));
                ends.push(end);
            }
            assert_eq!(pool.len(), MOST);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn old_and_closed_ones_are_swept() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let pool = Pool::default();
            let now = Instant::now();
            let backend = Arc::<BackendShared>::default();
            let (old, _end) = pair(&listener).await;
            let (closed, other_end) = pair(&listener).await;
            pool.put(address, old.stream, now, (&backend, Duration::from_nanos(1)));
            pool.put(address, closed.stream, now, (&backend, Duration::from_mins(10)));
            assert_eq!((pool.len(), backend.stats.totals().pool_idle), (2, 2));
            drop(other_end);
            until(|| pool.is_empty()).await;
            assert_eq!(backend.stats.totals().pool_idle, 0);
        };
        LocalSet::new().run_until(test).await;
    }
}
