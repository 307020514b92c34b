//! `alb doctor`: is this host fit to run the balancer?

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{Output, output};
use crate::{
    config,
    doctor::{self, Finding, Level},
    model::Model,
};

/// Look at this host: kernel, capabilities, interfaces, ports, the way to the targets.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// File `alb run` would be given; without one, all interfaces and the default ports are
    /// looked at.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print the findings.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
}

pub(super) fn run(args: &Doctor) -> ExitCode {
    let Doctor { config, output } = args;
    let model = match config.as_deref().map(config::load).transpose() {
        Ok(loaded) => loaded.map(|loaded| loaded.model),
        Err(errors) => return output::fail(&errors, output::FAILED),
    };
    let findings = match examine(model.as_ref()) {
        Ok(findings) => findings,
        Err(error) => return output::fail(error.as_ref(), output::FAILED),
    };
    let text = match output {
        Output::Table => people(&findings),
        Output::Json => match serde_json::to_string_pretty(&Report { findings: &findings }) {
            Ok(json) => json + "\n",
            Err(error) => return output::fail(&error, output::FAILED),
        },
    };
    let printed = output::print(&text);
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    if failed { ExitCode::from(output::FAILED) } else { printed }
}

fn examine(model: Option<&Model>) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(doctor::examine(&runtime.block_on(doctor::gather(model))?))
}

/// Subjects as headings, findings below, and for each that is not well why and what to do.
fn people(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut heading = "";
    for finding in findings {
        let Finding { level, subject, found, why, remedy } = finding;
        if subject != heading {
            let gap = if heading.is_empty() { "" } else { "\n" };
            line(&mut text, &format!("{gap}{subject}"));
            heading = subject;
        }
        line(&mut text, &format!("  {:<5}{found}", word(*level)));
        for (label, more) in [("why:", why), ("do: ", remedy)] {
            if let Some(more) = more {
                line(&mut text, &format!("       {label} {more}"));
            }
        }
    }
    line(&mut text, &format!("\n{}", summary(findings)));
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{line}");
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warned, failed) = (count(Level::Warn), count(Level::Fail));
    let plural = |count| if count == 1 { "" } else { "s" };
    let verdict = match (warned, failed) {
        (0, 0) => "this host is fit to run the balancer".to_owned(),
        (_, 0) => format!("fit to run the balancer, with {warned} warning{}", plural(warned)),
        (_, _) => format!(
            "not fit to run the balancer: {failed} failure{}, {warned} warning{}",
            plural(failed),
            plural(warned)
        ),
    };
    let found = findings.len();
    format!("{found} finding{}: {verdict}", plural(found))
}

#[cfg(test)]
mod tests {
    use super::people;
    use crate::doctor::{Finding, Level};

    fn finding(level: Level, subject: &str, found: &str) -> Finding {
        let advice = |text: &str| (level != Level::Ok).then(|| text.to_owned());
        let (why, remedy) = (advice("it matters"), advice("change it"));
        Finding { level, subject: subject.into(), found: found.into(), why, remedy }
    }

    #[test]
    fn reads_well() {
        let findings = [
            finding(Level::Ok, "kernel", "Linux 6.1.0"),
            finding(Level::Warn, "kernel", "the BPF JIT is off"),
            finding(Level::Fail, "interface eth0", "is down"),
        ];
        let expected = "\
kernel
  ok   Linux 6.1.0
  warn the BPF JIT is off
       why: it matters
       do:  change it

interface eth0
  FAIL is down
       why: it matters
       do:  change it

3 findings: not fit to run the balancer: 1 failure, 1 warning
";
        assert_eq!(people(&findings), expected);
        let well = people(&findings[..1]);
        assert!(well.ends_with("\n1 finding: this host is fit to run the balancer\n"), "{well}");
    }
}
