//! `alb flows`: the connections that the packet path forwards, from the kernel's own tables.

mod listeners;
mod print;

use std::{process::ExitCode, str::FromStr, thread, time::Duration};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use self::print::Printer;
use super::{
    Output,
    output::{self, FAILED},
    tables::{Tables, TablesArgs},
};
use crate::datapath::flows::{self, EndFilter, FlowFilter, FlowState, Follower};

/// What `--limit` is if nothing is said.
const LIMIT: usize = 1_000;

/// After a look the command rests at least so many times as long as the look took.
const REST: u32 = 4;

/// What `alb flows` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER)]
pub(super) struct FlowsArgs {
    /// Only flows that have this at one of their four ends: an address, a prefix, either with
    /// `:PORT`, or `:PORT`. Of several, as of several of one option, one must fit.
    #[arg(value_name = "END")]
    any: Vec<EndFilter>,
    /// Only flows of these clients.
    #[arg(long, value_name = "END")]
    client: Vec<EndFilter>,
    /// Only flows to these VIPs.
    #[arg(long, value_name = "END")]
    vip: Vec<EndFilter>,
    /// Only flows that targets see come from here: the balancer's own address and port.
    #[arg(long, value_name = "END")]
    snat: Vec<EndFilter>,
    /// Only flows to these targets.
    #[arg(long, value_name = "END")]
    target: Vec<EndFilter>,
    /// Only flows of this listener: its name, LOAD-BALANCER/NAME, or its id.
    #[arg(long, value_name = "NAME")]
    listener: Vec<String>,
    /// Only flows in these states; with --follow, changes of flows that are in them by then.
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = states())]
    state: Vec<FlowState>,
    /// Flows to list at most, or changes to tell of after one look; 0 = any number. How many were
    /// left out is said.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = LIMIT)]
    limit: usize,
    /// Tell of flows that begin and end from now on, until a signal ends it. With -o json, each is
    /// a line of its own.
    #[arg(short, long)]
    follow: bool,
    /// With --follow: seconds between two looks at the tables; more if a look takes long.
    #[arg(
        long, value_name = "SECONDS", default_value_t = 1, requires = "follow",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    interval: u64,
    #[command(flatten)]
    tables: TablesArgs,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

const AFTER: &str = "\
The tables are read as they are pinned, with or without a running daemon (--listener asks the daemon, \
else takes the file). Connections that the proxy serves are not in them: their traffic is in `alb \
status`, their ends are in the access log.

Reading changes nothing and holds up no packet for longer than it takes to copy one bucket of a table. \
It is no snapshot: a flow that is there all the time is listed once; one that begins or ends meanwhile \
may be listed or not. Both directions' counters of a flow are read at different moments. Half-open and \
closed flows have no counters of their own; packets count up to 2^32 and begin anew.

--follow compares one look with the next. A flow that begins and is gone between two looks is not told \
of (closed ones stay for 10 s or more as long as there is room). What a flow counted is told as of the \
last look at which it was open. Memory: 100 to 200 bytes a flow.

Exit codes: 0 done, 1 no table to read, 2 usage, 3 --listener and nobody to ask.";

fn states() -> impl clap::builder::TypedValueParser<Value = FlowState> {
    PossibleValuesParser::new(FlowState::ALL.map(FlowState::label))
        .try_map(|word| FlowState::from_str(&word))
}

pub(super) fn run(args: &FlowsArgs) -> ExitCode {
    let Tables { socket, bpffs } = match args.tables.find(", and so no flow table") {
        Ok(tables) => tables,
        Err(code) => return code,
    };
    let listener = match listeners::doors(&args.listener, &socket, args.tables.config.as_deref()) {
        Ok(doors) => doors,
        Err(error) => {
            let code = error.exit_code();
            return output::fail(&error, code);
        }
    };
    let FlowsArgs { any, client, vip, snat, target, state, .. } = args;
    let filter = FlowFilter {
        any: any.clone(),
        client: client.clone(),
        vip: vip.clone(),
        snat: snat.clone(),
        target: target.clone(),
        state: state.clone(),
        listener,
    };
    let limit = (args.limit > 0).then_some(args.limit);
    if args.follow {
        let follower = Follower::new(&bpffs, filter);
        return follow(follower, limit, Duration::from_secs(args.interval), args.output);
    }
    match flows::list(&bpffs, &filter, limit) {
        Ok(listing) => output::write(|out| print::listing(out, &listing, args.output)),
        Err(error) => output::fail(&error, FAILED),
    }
}

/// Tells of changes until a signal or the reader's end ends it.
fn follow(
    mut follower: Follower,
    limit: Option<usize>,
    interval: Duration,
    format: Output,
) -> ExitCode {
    let mut printer = Printer::new(limit, format);
    let mut is_first = true;
    loop {
        let (there, took) = match follower.look(|change, flow| printer.take(change, flow)) {
            Ok(seen) => seen,
            Err(error) => return output::fail(&error, FAILED),
        };
        if is_first {
            // To the other stream: what is written to this one are changes.
            eprintln!("{there} flows; what begins and ends from now on:");
            is_first = false;
        }
        let mut is_read = true;
        let code = output::write(|out| {
            let written = printer.write(out);
            is_read = written.is_ok();
            written
        });
        if !is_read {
            return code;
        }
        thread::sleep(interval.max(took * REST));
    }
}
