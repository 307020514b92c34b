//! `alb trace`: what would happen to a packet now, and why.

mod names;
mod print;

use std::{net::SocketAddr, process::ExitCode};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use super::{
    Output,
    output::{self, FAILED},
    tables::{Tables, TablesArgs},
};
use crate::datapath::trace::{self, Question, SOME_PORT, TcpFlags};

/// What `alb trace` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER)]
pub(super) struct TraceArgs {
    /// Who sends the packet: ADDRESS:PORT, or an address alone for some port of it.
    #[arg(value_name = "CLIENT", value_parser = |text: &str| trace::end(text, Some(SOME_PORT)))]
    from: SocketAddr,
    /// Whom it is for: a VIP and port; or the balancer's own end towards a target, when the target
    /// is the sender.
    #[arg(value_name = "VIP:PORT", value_parser = |text: &str| trace::end(text, None))]
    to: SocketAddr,
    /// What the packet is; else an ACK if there is such a flow, and a SYN if there is none.
    #[arg(long, value_name = "PACKET", value_parser = packets())]
    packet: Option<TcpFlags>,
    /// Interface by which it comes; else the first of `node.interfaces`.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    #[command(flatten)]
    tables: TablesArgs,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

const AFTER: &str = "\
The program that forwards is loaded once more beside the one that runs, reads the same tables, and is \
given the packet. It writes tables of its own, so nothing is changed: no connection is opened, no port \
taken, no turn used up, nothing counted. With or without a running daemon; in its network namespace.

The next connection may go elsewhere: others come in between, and take turns.

Exit codes: 0 done, whatever becomes of the packet; 1 no table to read; 2 usage.";

fn packets() -> impl clap::builder::TypedValueParser<Value = TcpFlags> {
    PossibleValuesParser::new(TcpFlags::WORDS).try_map(|word| word.parse::<TcpFlags>())
}

pub(super) fn run(args: &TraceArgs) -> ExitCode {
    let Tables { socket, bpffs } = match args.tables.find(" to ask") {
        Ok(tables) => tables,
        Err(code) => return code,
    };
    let question = Question {
        from: args.from,
        to: args.to,
        flags: args.packet,
        interface: args.interface.clone(),
    };
    let answer = match trace::trace(&bpffs, &question) {
        Ok(answer) => answer,
        Err(error) => return output::fail(&error, FAILED),
    };
    let vip = answer.flow.map_or(question.to, |flow| flow.ends.vip);
    let names = names::of(vip, &socket, args.tables.config.as_deref());
    output::write(|out| print::answer(out, &question, &answer, names.as_ref(), args.output))
}
