//! `alb detach`: take everything off this host that a daemon left in place when it ended.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::output::{self, FAILED};
use crate::{
    config,
    control::client::{Client, ClientError},
    daemon,
    datapath::pins::Pins,
    model::{DatapathMode, Node},
    net::Netlink,
};

/// What `alb detach` takes.
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// File the daemon was run with: it names the pin directory and the socket. Only its `node`
    /// is read.
    #[arg(short, long, value_name = "FILE", required_unless_present = "bpffs")]
    config: Option<PathBuf>,
    /// Pin directory, instead of the file's or without a file.
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
    /// Control socket of the daemon, instead of the file's or without a file.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &DetachArgs) -> ExitCode {
    let DetachArgs { config, bpffs, socket } = args;
    let node = match config.as_deref().map(config::load_node).transpose() {
        Ok(node) => node,
        Err(errors) => {
            let code = output::fail(&errors, FAILED);
            eprintln!("     the file is not needed: alb detach --bpffs DIR [--socket PATH]");
            return code;
        }
    };
    // Where the file has no packet path, what is pinned in its directory is not this node's.
    let has_pins =
        bpffs.is_some() || node.as_ref().is_none_or(|node| node.datapath != DatapathMode::Proxy);
    let named = |of: fn(&Node) -> &PathBuf| node.as_ref().map(|node| of(node).clone());
    let Some(bpffs) = bpffs.clone().or_else(|| named(|node| &node.bpffs)) else {
        // Not reached: clap wants one of the two.
        return ExitCode::from(FAILED);
    };
    let socket = socket.clone().or_else(|| named(|node| &node.socket));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error, FAILED),
    };
    match runtime.block_on(detach(node.as_ref(), has_pins.then_some(&*bpffs), socket.as_deref())) {
        Ok(text) => output::print(&text),
        Err(error) => output::fail(&*error, FAILED),
    }
}

async fn detach(
    node: Option<&Node>,
    bpffs: Option<&Path>,
    socket: Option<&Path>,
) -> anyhow::Result<String> {
    if let Some(socket) = socket {
        match Client::new(socket).status().await {
            Err(ClientError::Absent { .. }) => {}
            Ok(_) | Err(_) => anyhow::bail!(
                "a daemon answers on {}: end it first, or it puts everything back",
                socket.display()
            ),
        }
    }
    let pins = bpffs.and_then(Pins::existing);
    let _claim = pins.as_ref().map(Pins::claim).transpose()?;
    let links = pins.as_ref().map(Pins::links).transpose()?.unwrap_or_default();
    let attached: BTreeSet<u32> = links.into_iter().map(|link| link.ifindex).collect();
    let netlink = Netlink::open()?;
    let known = netlink.interfaces().await?;
    let names = node.into_iter().flat_map(|node| &node.interfaces);
    let found = names.filter_map(|name| known.named(name).ok()).map(|interface| interface.index);
    let interfaces: BTreeSet<u32> = attached.iter().copied().chain(found).collect();
    // The VIPs first: without the program the host itself would answer for them, with resets.
    let changes = netlink.sync_vips(&interfaces, &BTreeSet::new()).await?;
    let neighbours = netlink.release_neighbours(&interfaces).await?;
    let mut said = vec![format!("{} taken off", counted(changes.removed.len(), "VIP"))];
    let Some(bpffs) = bpffs else { return Ok(said.join(", ") + "\n") };
    said.insert(0, format!("detached from {}", counted(attached.len(), "interface")));
    said.push(format!("{} released", counted(neighbours, "neighbour")));
    match pins {
        Some(pins) => {
            pins.remove()?;
            said.push(format!("{} removed", bpffs.display()));
        }
        None => said.push(format!("{} was not there", bpffs.display())),
    }
    if let Some(node) = node {
        let range = node.snat.port_range;
        if daemon::release_ports(range, &node.state_dir)? {
            said.push(format!("ports {}-{} given back", range.first, range.last));
        }
    }
    Ok(said.join(", ") + "\n")
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
