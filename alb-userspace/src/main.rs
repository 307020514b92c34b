//! The `alb` binary: parse the command line, run it, turn the outcome into an exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The proxy's work is many small allocations on many threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    alb_userspace::cli::main()
}
