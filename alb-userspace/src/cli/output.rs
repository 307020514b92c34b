//! Printing: results to standard output, failures to standard error. Shared by all subcommands.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

/// The command did what it was asked to.
pub(super) const DONE: u8 = 0;
/// The command was refused or failed.
pub(super) const FAILED: u8 = 1;

/// Writes a result to standard output. A reader that has read enough (`alb status | head`) is no
/// failure.
pub(super) fn print(text: &str) -> ExitCode {
    write(|out| out.write_all(text.as_bytes()))
}

/// As [`print`], for a result that is better not held whole.
pub(super) fn write(result: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match result(&mut out).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(DONE),
        Err(error) => fail(&error, FAILED),
    }
}

/// Writes an error and what it came from to standard error.
pub(super) fn fail(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    eprint!("{}", explain(error));
    ExitCode::from(code)
}

/// The error on the first line, each cause on one of its own.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("alb: {error}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "     because: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::explain;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {0}")]
    struct Unreadable(&'static str, #[source] io::Error);

    #[test]
    fn causes_follow_the_error() {
        let error = Unreadable("alb.yaml", io::Error::other("disk on fire"));
        assert_eq!(explain(&error), "alb: cannot read alb.yaml\n     because: disk on fire\n");
    }
}
