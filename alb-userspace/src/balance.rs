//! Which target takes the next request or connection: the one place that decides it, for the
//! proxy at each pick and for the kernel as tables made ahead. Knows targets as numbers only.

mod client;
mod least;
pub mod maglev;
mod ramp;
pub mod schedule;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ramp::Ramps;

use crate::model::Algorithm;

/// How a backend chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `algorithm`.
    pub algorithm: Algorithm,
    /// `panicMode`: all targets with a weight are in service when none is healthy.
    pub panic: bool,
    /// `slowStartSeconds`: a target's share grows from nothing to its full weight in this time
    /// after it came into service; zero = at once.
    pub slow_start: Duration,
}

/// One target, as far as choosing needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is: with the client's address all that source-IP selection depends on.
    pub at: SocketAddr,
    /// Share of new work, 0–100; 0 = none.
    pub weight: u32,
    /// Whether it is in service.
    pub service: Service,
    /// When it recovered or was added, for slow start; `None` = longer ago than matters.
    pub since: Option<Instant>,
}

/// Whether a target is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Healthy, or not checked.
    In,
    /// Its first check is still under way: it serves if nothing else does, so that a change that
    /// brings only new targets refuses nobody.
    Untried,
    /// Found to be unhealthy.
    Out,
}

/// The choice among the targets of one backend; immutable but for whose turn it is, and shared
/// by all workers. Targets are named by their position in the list it was made from.
#[derive(Debug)]
pub struct Selector {
    algorithm: Algorithm,
    /// Turns of the targets in service (round robin, least connection), or the table of client
    /// slots (source IP). Empty if no target is in service.
    order: Arc<[u32]>,
    /// Where each position is.
    addresses: Box<[SocketAddr]>,
    /// Weights by position, 0 for a target that is out of service.
    weights: Box<[u32]>,
    /// Positions with a weight above 0.
    serving: Box<[u32]>,
    ramps: Option<Ramps>,
    /// The number of the next turn; lives on in the selector that replaces this one.
    turn: Arc<Turn>,
}

/// Alone on its cache lines (two, for the prefetcher): every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turn(AtomicUsize);

/// Draws of a turn until one is neither refused nor slowly starting; then the search is linear.
const DRAWS: usize = 64;

impl Selector {
    /// Chooses among `candidates`. `previous` is what served this backend until now: turns go
    /// on where they are.
    pub fn new(settings: Settings, candidates: &[Candidate], previous: Option<&Self>) -> Self {
        let weights = weights(settings.panic, candidates);
        let addresses: Box<[SocketAddr]> = candidates.iter().map(|of| of.at).collect();
        let same = |previous: &&Self| {
            previous.algorithm == settings.algorithm
                && *previous.weights == *weights
                && previous.addresses == addresses
        };
        // Long tables take milliseconds, and most changes are about other backends.
        let order = previous.filter(same).map_or_else(
            || {
                let order = order(settings.algorithm, candidates, &weights);
                order.into_iter().map(|at| u32::try_from(at).unwrap_or(u32::MAX)).collect()
            },
            |previous| previous.order.clone(),
        );
        let serving = (0..).zip(&weights).filter(|(_, weight)| **weight > 0);
        let serving: Box<[u32]> = serving.map(|(position, _)| position).collect();
        let ramps = Ramps::new(settings.slow_start, candidates, &weights);
        let turn = previous.map_or_else(Arc::default, |previous| previous.turn.clone());
        Self {
            algorithm: settings.algorithm,
            order,
            addresses,
            weights: weights.into(),
            serving,
            ramps,
            turn,
        }
    }

    /// Whose turn it is, as a position; `None` if no target is in service that is not excluded.
    ///
    /// `load` tells the requests (or connections) in flight at a position; only least connection
    /// asks. `exclude` holds what was tried before.
    pub fn pick(
        &self,
        client: IpAddr,
        load: impl Fn(usize) -> u32,
        exclude: &[usize],
    ) -> Option<usize> {
        self.pick_at(client, load, exclude, Instant::now)
    }

    /// As [`pick`](Self::pick), at another time. The clock is read only during a slow start.
    pub fn pick_at(
        &self,
        client: IpAddr,
        load: impl Fn(usize) -> u32,
        exclude: &[usize],
        now: impl FnOnce() -> Instant,
    ) -> Option<usize> {
        if self.order.is_empty() {
            return None;
        }
        let ramp = self.ramps.as_ref().and_then(|ramps| ramps.at(now));
        let picked = match self.algorithm {
            Algorithm::RoundRobin => {
                let admits = |at: usize| ramp.as_ref().is_none_or(|ramp| ramp.admits_turn(at));
                self.next_turn(|at| !exclude.contains(&at) && admits(at))
            }
            Algorithm::LeastConn => {
                let weight = |at: usize| match &ramp {
                    Some(ramp) => ramp.scale(at, self.weights[at]),
                    None => u64::from(self.weights[at]),
                };
                let admits = |at: usize| ramp.as_ref().is_none_or(|ramp| ramp.admits_turn(at));
                // Without load it is by turns, of which a starting target has few.
                let first = self.next_turn(admits).and_then(|at| u32::try_from(at).ok());
                let first = first.unwrap_or(self.order[0]);
                least::least(&self.serving, first, weight, load, exclude)
            }
            Algorithm::IpHash => {
                let hash = client::hash(client);
                let admits = |at| ramp.as_ref().is_none_or(|ramp| ramp.admits_client(at, hash));
                let first = client::slot(hash, self.order.len());
                self.search(first, |at| !exclude.contains(&at) && admits(at))
            }
        };
        picked.or_else(|| self.any(exclude))
    }

    /// Whether a target is in service and has a weight: for persistence, which names its target.
    pub fn serves(&self, position: usize) -> bool {
        self.weights.get(position).is_some_and(|weight| *weight > 0)
    }

    /// How many targets are in service.
    pub fn serving(&self) -> usize {
        self.serving.len()
    }

    fn advance(&self) -> usize {
        self.turn.0.fetch_add(1, Relaxed)
    }

    fn next_turn(&self, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let draw = || self.order[self.advance() % self.order.len()] as usize;
        (0..DRAWS).map(|_| draw()).find(|at| admits(*at))
    }

    /// The first in the table from a slot on: the same for the same client, and another one for
    /// each neighbour of a slot, since a target's slots are scattered.
    fn search(&self, first: usize, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let (before, after) = self.order.split_at(first);
        after.iter().chain(before).map(|at| *at as usize).find(|at| admits(*at))
    }

    /// Anything in service that is not excluded.
    fn any(&self, exclude: &[usize]) -> Option<usize> {
        self.serving.iter().map(|at| *at as usize).find(|at| !exclude.contains(at))
    }
}

/// Weights in effect: 0 for what is out of service. If nothing is in it, the untried are; if there
/// are none either and `panic` is set, everything is.
pub fn weights(panic: bool, candidates: &[Candidate]) -> Vec<u32> {
    let any = |service| candidates.iter().any(|of| of.service == service && of.weight > 0);
    let least = [Service::In, Service::Untried].into_iter().find(|service| any(*service));
    let serves = |of: &&Candidate| least.map_or(panic, |least| of.service == least);
    candidates.iter().map(|of| Some(of).filter(serves).map_or(0, |of| of.weight)).collect()
}

/// The precomputed order: a cycle of turns, or the slots of clients.
pub fn order(algorithm: Algorithm, candidates: &[Candidate], weights: &[u32]) -> Vec<usize> {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::LeastConn => schedule::schedule(weights),
        Algorithm::IpHash => {
            let weighted: Vec<_> =
                candidates.iter().zip(weights).map(|(of, weight)| (of.at, *weight)).collect();
            maglev::table(&weighted)
        }
    }
}

#[cfg(test)]
mod tests;
