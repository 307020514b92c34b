//! `alb check FILE...`: what is wrong in a file, all at once; or that it is right.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

use super::Output;
use crate::{
    config::{self, Diagnostic},
    model::Model,
};

/// Check a file without touching anything: prints every error, or a summary.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Files to check, each on its own.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What is said about one file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: &'a str,
    valid: bool,
    errors: &'a [Diagnostic],
    warnings: &'a [Diagnostic],
    /// Accepted, but refused by `alb run` of this version.
    unserved: &'a [Diagnostic],
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

pub(super) fn run(check: &Check) -> ExitCode {
    let Check { files, output } = check;
    let codes: Vec<ExitCode> = files.iter().map(|file| one(file, *output)).collect();
    let failed = codes.into_iter().find(|code| *code != ExitCode::SUCCESS);
    failed.unwrap_or(ExitCode::SUCCESS)
}

/// One JSON document a file; several are one after the other.
fn one(file: &Path, output: Output) -> ExitCode {
    let name = file.display().to_string();
    let (report, code) = match config::load(file) {
        Ok(loaded) => {
            let unserved = loaded.unserved();
            let report = Report {
                file: &name,
                valid: true,
                errors: &[],
                warnings: &loaded.warnings,
                unserved: &unserved,
                counts: Some(Counts::of(&loaded.model)),
            };
            (print(&report, output), ExitCode::SUCCESS)
        }
        Err(errors) => {
            let report = Report {
                file: &name,
                valid: false,
                errors: errors.diagnostics(),
                warnings: &[],
                unserved: &[],
                counts: None,
            };
            (print(&report, output), ExitCode::FAILURE)
        }
    };
    // Nobody to tell when the output itself is gone.
    if report.is_err() { ExitCode::FAILURE } else { code }
}

fn print(report: &Report<'_>, output: Output) -> io::Result<()> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)
        }
        Output::Table => people(report, &mut out, &mut err),
    }
}

fn people(report: &Report<'_>, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    let Report { file, valid: _, errors, warnings, unserved, counts } = report;
    for error in *errors {
        writeln!(err, "{}", error.render(file))?;
    }
    if errors.len() > 1 {
        writeln!(err, "{file}: {} errors", errors.len())?;
    }
    for warning in warnings.iter().chain(*unserved) {
        writeln!(err, "warning: {}", warning.render(file))?;
    }
    if let Some(counts) = counts {
        writeln!(out, "{file}: {}: valid", counts.sentence())?;
    }
    Ok(())
}

/// How much of what a file declares.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    load_balancers: usize,
    listeners: usize,
    backends: usize,
    target_groups: usize,
    targets: usize,
    url_maps: usize,
}

impl Counts {
    fn of(model: &Model) -> Self {
        let balancers = &model.load_balancers;
        let groups = || balancers.iter().flat_map(|balancer| &balancer.target_groups);
        Self {
            load_balancers: balancers.len(),
            listeners: balancers.iter().map(|balancer| balancer.listeners.len()).sum(),
            backends: balancers.iter().map(|balancer| balancer.backends.len()).sum(),
            target_groups: groups().count(),
            targets: groups().map(|group| group.targets.len()).sum(),
            url_maps: balancers.iter().map(|balancer| balancer.url_maps.len()).sum(),
        }
    }

    /// `1 load balancer, 3 listeners, …`; kinds of which there are none are left out.
    fn sentence(&self) -> String {
        let Self { load_balancers, listeners, backends, target_groups, targets, url_maps } = self;
        let kinds = [
            (load_balancers, "load balancer"),
            (listeners, "listener"),
            (backends, "backend"),
            (target_groups, "target group"),
            (targets, "target"),
            (url_maps, "url map"),
        ];
        let parts: Vec<String> = kinds
            .into_iter()
            .filter(|(count, _)| **count > 0)
            .map(|(count, noun)| format!("{count} {noun}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        if parts.is_empty() { "no load balancer".to_owned() } else { parts.join(", ") }
    }
}
