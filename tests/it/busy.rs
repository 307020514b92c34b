//! Connections that are busy all the time and must not notice what happens meanwhile.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use alb_tests::{
    client::{Conversation, tally},
    daemon::Daemon,
    server::Server,
    topology::Lab,
    wait,
};

use crate::setting::vip;

const CONVERSATIONS: usize = 50;
/// Of these, as many talk within the client's host, where no balancer is: what they wait for is
/// the machine.
const NEAR: usize = 10;
/// Two retransmission timeouts, of 200 and 400 ms, and a round trip.
const STALL: Duration = Duration::from_millis(650);
/// How much longer one of many waits for a busy machine than one of few.
const UNLUCKY: u32 = 5;
/// Pause between two exchanges, at least.
const PACE: Duration = Duration::from_millis(20);
/// A pause takes at least as many times as long as the exchange before it.
const IDLE: u32 = 20;
/// Port of the server within the client's host.
const NEAR_PORT: u16 = 9_999;

/// Conversations that all exchange a little all the time.
pub(crate) struct Busy {
    /// Where they are.
    to: SocketAddr,
    conversations: Vec<Conversation>,
    near: Vec<Conversation>,
    _server: Server,
}

impl Busy {
    pub(crate) fn begin(lab: &Lab) -> Self {
        Self::begin_to(lab, vip())
    }

    /// The same to another address than the VIP.
    pub(crate) fn begin_to(lab: &Lab, to: SocketAddr) -> Self {
        let server = Server::start(&lab.client, NEAR_PORT, "near");
        let open = |to| Conversation::open(&lab.client.namespace, to).expect("a connection");
        let near = (Ipv4Addr::LOCALHOST, NEAR_PORT).into();
        Self {
            to,
            conversations: (0..CONVERSATIONS).map(|_| open(to)).collect(),
            near: (0..NEAR).map(|_| open(near)).collect(),
            _server: server,
        }
    }

    /// All conversations go on while `work` is done; panics if one is reset, or stalls for longer
    /// than the machine makes everybody wait.
    pub(crate) fn during(&mut self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let [worst, near] = thread::scope(|scope| {
            let start = |conversation| {
                let done = &done;
                scope.spawn(move || talk(conversation, done))
            };
            let talkers = [&mut self.conversations, &mut self.near]
                .map(|conversations| conversations.iter_mut().map(start).collect::<Vec<_>>());
            let ends = wait::Ends(&done);
            work();
            drop(ends);
            talkers.map(|talkers| {
                let outcomes = talkers.into_iter().map(|talker| talker.join().expect("no panic"));
                let times = outcomes.map(|outcome| outcome.expect("no connection breaks"));
                times.max().unwrap_or_default()
            })
        });
        assert!(
            worst <= STALL + near * UNLUCKY,
            "a conversation stalled for {worst:?}, one without a balancer for {near:?}"
        );
    }

    /// As [`during`](Self::during), while the daemon is killed and started again. Nobody is there in
    /// between, and new connections are still served.
    pub(crate) fn during_a_kill(&mut self, lab: &Lab, daemon: &mut Daemon<'_>) {
        let to = self.to;
        self.during(|| {
            daemon.kill();
            let answers = tally(&lab.client.namespace, to, 30).expect("served without a daemon");
            assert_eq!(answers.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{answers:?}");
            daemon.restart();
        });
        assert_eq!(daemon.status()["datapath"]["adopted"], true);
        tally(&lab.client.namespace, to, 30).expect("served after the restart");
    }
}

/// Exchanges until told to stop; the longest exchange.
fn talk(conversation: &mut Conversation, done: &AtomicBool) -> io::Result<Duration> {
    let mut worst = Duration::ZERO;
    let bytes = [7; 4096];
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        conversation.exchange(&bytes)?;
        let took = begun.elapsed();
        worst = worst.max(took);
        // 50 conversations at full speed would only measure the scheduler; on an emulated
        // processor also at a fixed pace, and a daemon that starts meanwhile would never get to it.
        thread::sleep(PACE.max(took * IDLE));
    }
    Ok(worst)
}
