//! The command line: what each subcommand takes. What each does is in `cli/`.

mod capture;
mod check;
mod completions;
mod detach;
mod doctor;
mod flows;
mod output;
mod run;
mod status;
mod table;
mod tables;
mod trace;
mod units;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Application load balancer: TCP in the kernel (XDP), one program, one file.
#[derive(Debug, Parser)]
#[command(name = "alb", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a file: load the packet path, check the targets, forward until a signal ends it.
    Run(run::RunArgs),
    /// Check a file without touching anything: prints every error, or a summary.
    Check(check::Check),
    /// Show what the running daemon serves: listeners, targets, flows, and why packets were dropped.
    Status(status::StatusArgs),
    /// List the connections that the packet path forwards, or tell of those that begin and end.
    Flows(flows::FlowsArgs),
    /// Ask the packet path what it would do with a packet now, and why; nothing is changed.
    Trace(trace::TraceArgs),
    /// Write packets to a file (pcapng) as they come and as they leave, each with the reason why.
    Capture(capture::CaptureArgs),
    /// Look at this host: kernel, capabilities, interfaces, ports, the way to the targets.
    Doctor(doctor::Doctor),
    /// Take the packet path, its tables and its VIPs off this host, after the daemon has ended.
    Detach(detach::DetachArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Where a client command finds the daemon.
#[derive(Debug, Args)]
pub struct Daemon {
    /// Control socket of the daemon.
    #[arg(long, env = "ALB_SOCKET", default_value = "/var/lib/alb/alb.sock", value_name = "PATH")]
    pub socket: PathBuf,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Output {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// Parses the command line and runs it. Exit codes: 0 done, 1 refused or failed, 2 usage,
/// 3 the daemon cannot be reached.
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match command {
        Command::Run(args) => run::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Check(check) => check::run(&check),
        Command::Status(args) => status::run(&args),
        Command::Flows(args) => flows::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => completions::run(shell, &mut Cli::command()),
    }
}
