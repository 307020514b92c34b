//! Set-up, build, run, test, lint and bench: one file per subcommand.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod bench;
mod bpf_toolchain;
mod build;
mod build_ebpf;
mod deny;
mod kernel;
mod lint;
mod run;
mod setup;
mod shell;
mod test;
#[cfg(test)]
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests ALB.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building the BPF object and running the tests needs; does nothing when
    /// everything is there.
    Setup,
    /// Build the packet path from source and refresh the committed object and its source hash.
    BuildEbpf(build_ebpf::Args),
    /// Build the program to install.
    Build(build::Args),
    /// Run the demo in network namespaces, or with `--config` the daemon on this host.
    Run(run::Args),
    /// Run every test ring, set-up included.
    Test(test::Args),
    /// Measure.
    Bench(bench::Args),
    /// Check formatting, lints and dependencies.
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Lint => lint::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
