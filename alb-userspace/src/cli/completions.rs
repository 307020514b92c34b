//! `alb completions`.

use std::{io, process::ExitCode};

use clap::Command;
use clap_complete::{Shell, generate};

pub(super) fn run(shell: Shell, command: &mut Command) -> ExitCode {
    generate(shell, command, "alb", &mut io::stdout());
    ExitCode::SUCCESS
}
