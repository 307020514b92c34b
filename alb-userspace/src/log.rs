//! Log output: who formats events, which are shown, where they go. Knows nothing of what is logged.

use std::{io, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Variable that holds the filter: a level, or `target=level` pairs parted by commas.
pub const FILTER_VARIABLE: &str = "ALB_LOG";

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "{FILTER_VARIABLE} is `{value}`, expected a level (error, warn, info, debug, trace) or \
         `target=level` pairs such as `info,alb_userspace::health=debug`"
    )]
    Filter {
        /// What the variable holds.
        value: String,
        /// Where it fails.
        source: ParseError,
    },
    /// Logging was set up before in this process.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Writes events to standard error, one a line, with the time (UTC). Call it once, first.
pub fn init() -> Result<(), LogError> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(LogError::Twice)
}

/// `info` unless the variable says otherwise.
fn filter(value: Option<&str>) -> Result<EnvFilter, LogError> {
    let value = value.map(str::trim).filter(|value| !value.is_empty()).unwrap_or("info");
    EnvFilter::builder()
        .parse(value)
        .map_err(|source| LogError::Filter { value: value.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn the_filter_defaults_to_info() {
        for (value, expected) in [
            (None, "info"),
            (Some("  "), "info"),
            (Some("debug"), "debug"),
            (Some("warn,alb_userspace::health=trace"), "alb_userspace::health=trace,warn"),
        ] {
            assert_eq!(filter(value).expect("filter parses").to_string(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_named_with_what_is_allowed() {
        let error = filter(Some("health=loud")).expect_err("not a level").to_string();
        assert!(error.contains("ALB_LOG is `health=loud`"), "{error}");
        assert!(error.contains("debug"), "{error}");
    }
}
