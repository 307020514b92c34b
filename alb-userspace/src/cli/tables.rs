//! Where commands that read the packet path's tables find them: what the file says, or the options.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    Daemon,
    output::{self, FAILED},
};
use crate::{config, model::DatapathMode};

/// The options.
#[derive(Debug, Args)]
pub(super) struct TablesArgs {
    #[command(flatten)]
    daemon: Daemon,
    /// File the daemon was run with: it names the pin directory, the socket and the listeners.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Pin directory, instead of the file's.
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
}

/// Where they are.
#[derive(Debug)]
pub(super) struct Tables {
    /// The daemon's control socket.
    pub(super) socket: PathBuf,
    /// The pin directory.
    pub(super) bpffs: PathBuf,
}

impl TablesArgs {
    /// Reads the file, if one is named; what is wrong is printed. `without` says what there is not
    /// without a packet path.
    pub(super) fn find(&self, without: &str) -> Result<Tables, ExitCode> {
        let Self { daemon, config, bpffs } = self;
        let node = config.as_deref().map(config::load_node).transpose();
        let node = node.map_err(|errors| output::fail(&errors, FAILED))?;
        if bpffs.is_none()
            && let Some(node) = &node
            && node.datapath == DatapathMode::Proxy
        {
            eprintln!("alb: node.datapath is proxy: there is no packet path{without}");
            return Err(ExitCode::from(FAILED));
        }
        let socket = node.as_ref().map_or(&daemon.socket, |node| &node.socket).clone();
        let bpffs = bpffs.clone().or(node.map(|node| node.bpffs));
        Ok(Tables { socket, bpffs: bpffs.unwrap_or_else(|| config::BPFFS.into()) })
    }
}
