//! `alb run`: read the file, refuse what cannot be served, become the daemon.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::output::{self, FAILED};
use crate::{
    config::{self, Loaded},
    daemon, doctor, log,
};

/// What `alb run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// File to serve.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Begin with empty flow tables if those pinned in the kernel cannot be taken over: open
    /// connections are reset.
    #[arg(long)]
    drop_flows: bool,
    /// Take the work of the daemon that runs, without losing a request: its listening sockets
    /// pass over, it ends what it has begun. If this start fails, it goes on.
    #[arg(long, conflicts_with = "drop_flows")]
    takeover: bool,
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    let RunArgs { config, drop_flows, takeover } = args;
    if let Err(error) = log::init() {
        return output::fail(&error, FAILED);
    }
    let loaded = match config::load(config) {
        Ok(loaded) => loaded,
        Err(errors) => return output::fail(&errors, FAILED),
    };
    let planned = doctor::planned(Some(&loaded.model.node));
    let missing = doctor::missing_capabilities(doctor::process(), &planned);
    if !missing.is_empty() {
        eprintln!(
            "alb: alb run needs root, or the capabilities that this process lacks: {}",
            missing.join(", ")
        );
        return ExitCode::from(FAILED);
    }
    if let Err(refusal) = daemon::servable(config, &loaded) {
        return output::fail(&refusal, FAILED);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", config.display());
    }
    let Loaded { model, .. } = loaded;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("alb")
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error, FAILED),
    };
    let options =
        daemon::Options { config: config.clone(), drop_flows: *drop_flows, takeover: *takeover };
    match runtime.block_on(daemon::run(model, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&*error, FAILED),
    }
}
