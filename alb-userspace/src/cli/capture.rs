//! `alb capture`: packets as they come and as they leave, with the reason, into a file or as lines.

mod out;
mod pcapng;
mod print;

use std::{
    future::pending,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use alb_common::{Reason, Verdict, capture::MOST_BYTES};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use nix::{
    net::if_::if_nametoindex,
    time::{ClockId, clock_gettime},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::out::{Out, Sent};
use super::{
    output::{self, FAILED},
    tables::{Tables, TablesArgs},
};
use crate::datapath::{
    capture::{Capture, CaptureError, CaptureFilter, Captured},
    flows::EndFilter,
    trace::interface_name,
};

/// What `--count` is if nothing is said.
const COUNT: u64 = 1_000;

/// What `--snaplen` is: all headers, and the beginning of what is behind them.
const SNAPLEN: u32 = 256;

/// How often it is looked at whether the daemon has put other programs in their place.
const LOOK: Duration = Duration::from_millis(200);

/// How often packets are taken from the ring, which has room for many times what comes meanwhile.
const BEAT: Duration = Duration::from_millis(10);

/// Packets that are taken before signals and clocks have their turn.
const TURN: usize = 1_024;

/// What `alb capture` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER)]
pub(super) struct CaptureArgs {
    /// Only packets that have this at one of their ends, as they come or as they leave: an address, a
    /// prefix, either with `:PORT`, or `:PORT`. Of several, as of several of one option, one must fit.
    #[arg(value_name = "END")]
    any: Vec<EndFilter>,
    /// Only packets of these clients, and those for them.
    #[arg(long, value_name = "END")]
    client: Vec<EndFilter>,
    /// Only packets to these VIPs, and those from them.
    #[arg(long, value_name = "END")]
    vip: Vec<EndFilter>,
    /// Only packets from, or for, these ends of the balancer's own towards targets.
    #[arg(long, value_name = "END")]
    snat: Vec<EndFilter>,
    /// Only packets to these targets, and those from them.
    #[arg(long, value_name = "END")]
    target: Vec<EndFilter>,
    /// Only packets that come by these interfaces.
    #[arg(short, long, value_name = "NAME")]
    interface: Vec<String>,
    /// Only packets with these reasons; else all but `not_ours` and `not_ip`.
    #[arg(
        long, value_name = "REASON", value_delimiter = ',', value_parser = reasons(),
        hide_possible_values = true
    )]
    reason: Vec<Reason>,
    /// Only packets that fare so.
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_parser = verdicts())]
    verdict: Vec<Verdict>,
    /// File to write, in pcapng; `-` = standard output. Without it a line is printed for each packet.
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Packets after which it ends, as they came.
    #[arg(
        short = 'n', long, value_name = "NUMBER", default_value_t = COUNT,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    count: u64,
    /// Seconds after which it ends.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Bytes of each packet, from its Ethernet header on.
    #[arg(
        short, long, value_name = "BYTES", default_value_t = SNAPLEN,
        value_parser = clap::value_parser!(u32).range(64..=i64::from(MOST_BYTES))
    )]
    snaplen: u32,
    #[command(flatten)]
    tables: TablesArgs,
}

const AFTER: &str = "\
While it runs, the program that forwards is called by another one that looks at each packet before and \
after: with or without a running daemon, and also when a daemon starts meanwhile. No packet is lost by \
the change, at the beginning or at the end; forwarding is slower in between. After kill -9 nothing is \
recorded any more within seconds, and what is left is cleared away by the running daemon, within half a \
minute, or by the next alb run, capture or detach.

In the file a packet that is forwarded is there twice, with one packet id: inbound on the interface by \
which it came, outbound, as it was rewritten, on the one by which it leaves. A RST or another answer of \
the balancer stands in the place of the second. The comment says which it is (before, after), the \
verdict and the reason (Wireshark: frame.comment contains \"no_listener\"), the option epb_verdict \
what the program returned. \
`-w - | wireshark -k -i -` shows it live.

Connections that the proxy serves are seen as they come to the packet path (reason proxied). \
Super-packets at TC are not cut up, and their checksums are still to be made, as tcpdump shows them too.

The reasons are those of `alb status` and the metrics. A client, VIP, SNAT address or target of a packet \
that is not forwarded is its sender or receiver.

Exit codes: 0 done, 1 nothing to capture from, 2 usage.";

fn reasons() -> impl TypedValueParser<Value = Reason> {
    let words = Reason::ALL.iter().map(|reason| reason.label());
    PossibleValuesParser::new(words).map(|word| {
        *Reason::ALL.iter().find(|reason| reason.label() == word).unwrap_or(&Reason::Internal)
    })
}

fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    const ALL: [Verdict; 5] =
        [Verdict::Forward, Verdict::Pass, Verdict::Reset, Verdict::Reply, Verdict::Drop];
    PossibleValuesParser::new(ALL.map(Verdict::label)).map(|word| {
        ALL.into_iter().find(|verdict| verdict.label() == word).unwrap_or(Verdict::Drop)
    })
}

/// A capture came to an early end.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("--interface {name}: there is none of this name in this network namespace")]
    Interface {
        name: String,
        #[source]
        source: nix::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot wait for packets")]
    Wait(#[from] io::Error),
}

pub(super) fn run(args: &CaptureArgs) -> ExitCode {
    let Tables { socket: _, bpffs } = match args.tables.find(" to capture from") {
        Ok(tables) => tables,
        Err(code) => return code,
    };
    match capture(args, &bpffs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error, FAILED),
    }
}

fn capture(args: &CaptureArgs, bpffs: &Path) -> Result<(), Failed> {
    let CaptureArgs { any, client, vip, snat, target, interface, reason, verdict, .. } = args;
    let interface = interface.iter().map(|name| {
        let failed = |source| Failed::Interface { name: name.clone(), source };
        if_nametoindex(name.as_str()).map_err(failed)
    });
    let filter = CaptureFilter {
        any: any.clone(),
        client: client.clone(),
        vip: vip.clone(),
        snat: snat.clone(),
        target: target.clone(),
        interface: interface.collect::<Result<_, _>>()?,
        reason: reason.clone(),
        verdict: verdict.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // First: if another captures, it may be into the same file.
    let capture = Capture::begin(bpffs, &filter, args.snaplen)?;
    let out = Out::new(args.write.as_deref(), args.snaplen)?;
    let lead = clock(ClockId::CLOCK_REALTIME)?.wrapping_sub(clock(ClockId::CLOCK_MONOTONIC)?);
    let on = capture.interfaces().map(name).collect::<Vec<_>>().join(", ");
    let mut session = Session { capture, filter, out, lead, most: args.count, taken: 0, lost: 0 };
    // Signals are caught before it is said that they end it.
    let ended = runtime.block_on(async {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let signals = [interrupt?, terminate?, hangup?];
        eprintln!("capturing on {on}; SIGINT (Ctrl-C) ends it");
        session.go(signals, args.seconds.map(Duration::from_secs)).await
    });
    session.capture.end()?;
    if ended.is_ok() {
        while session.turn()? == Turn::More {}
    }
    eprintln!("{}", session.summary()?);
    ended
}

/// Nanoseconds of a clock.
fn clock(clock: ClockId) -> Result<u64, Failed> {
    let time = clock_gettime(clock).map_err(|errno| CaptureError::Clock(errno.into()))?;
    Ok(u64::try_from(Duration::from(time).as_nanos()).unwrap_or_default())
}

/// Name of an interface, or its number if it has none here.
fn name(index: u32) -> String {
    interface_name(index).unwrap_or_else(|| format!("interface {index}"))
}

/// A capture, and where it goes.
struct Session {
    capture: Capture,
    filter: CaptureFilter,
    out: Out,
    /// What the time of day is ahead of the kernel's monotonic clock, modulo 2^64 ns.
    lead: u64,
    most: u64,
    taken: u64,
    lost: u64,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There may be more packets.
    More,
    /// There are no more for now.
    Empty,
    /// Enough were taken.
    Full,
}

impl Session {
    /// Takes packets until something ends it.
    async fn go(
        &mut self,
        [mut interrupt, mut terminate, mut hangup]: [Signal; 3],
        seconds: Option<Duration>,
    ) -> Result<(), Failed> {
        let mut beat = interval(BEAT);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = seconds.map(|seconds| Instant::now() + seconds);
        let over = async || match end {
            Some(end) => sleep_until(end).await,
            None => pending().await,
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = over() => return Ok(()),
                _ = look.tick() => {
                    if !self.capture.refresh()? {
                        eprintln!("the packet path has been taken off");
                        return Ok(());
                    }
                }
                _ = beat.tick() => match self.turn()? {
                    Turn::More => beat.reset_immediately(),
                    Turn::Empty => {}
                    Turn::Full => return Ok(()),
                },
            }
        }
    }

    /// Takes some packets and hands on what they came to.
    fn turn(&mut self) -> Result<Turn, Failed> {
        let lost = self.capture.lost()?;
        let mut dropped = lost - std::mem::replace(&mut self.lost, lost);
        let mut turn = Turn::More;
        for _ in 0..TURN {
            if self.taken >= self.most {
                turn = Turn::Full;
                break;
            }
            let Some(packet) = self.capture.take() else {
                turn = Turn::Empty;
                break;
            };
            if self.filter.takes(&packet) {
                self.write(&packet, std::mem::take(&mut dropped))?;
            }
        }
        self.out.flush()?;
        Ok(turn)
    }

    fn write(&mut self, packet: &Captured, dropped: u64) -> Result<(), Failed> {
        self.taken += 1;
        let leaves_by = self.capture.leaves_by(packet);
        let sent = Sent { packet, id: self.taken, lead: self.lead, dropped, leaves_by };
        self.out.write(&sent)
    }

    fn summary(&self) -> Result<String, Failed> {
        let (taken, lost) = (self.taken, self.capture.lost()?);
        let packets = if taken == 1 { "packet" } else { "packets" };
        let lost = match lost {
            0 => String::new(),
            lost => format!(
                "; {lost} were lost, as they came faster than they were taken: addresses, --reason, --verdict and a \
                 smaller --snaplen help"
            ),
        };
        Ok(format!("{taken} {packets} captured{lost}"))
    }
}
