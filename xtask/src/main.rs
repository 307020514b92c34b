//! Set-up, build, run, test, lint and bench: one file per subcommand.
fn main() {}
