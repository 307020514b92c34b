//! `alb detach`: take everything off this host that a daemon left in place when it ended.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::Args;

use super::output::{self, FAILED};
use crate::{
    config,
    control::client::{Client, ClientError},
    daemon,
    datapath::pins::Pins,
    model::Node,
    net::Netlink,
};

/// What `alb detach` takes.
#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// File the daemon was run with: it names the pin directory and the socket.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &DetachArgs) -> ExitCode {
    let node = match config::load(&args.config) {
        Ok(loaded) => loaded.model.node,
        Err(errors) => return output::fail(&errors, FAILED),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error, FAILED),
    };
    match runtime.block_on(detach(&node)) {
        Ok(text) => output::print(&text),
        Err(error) => output::fail(&*error, FAILED),
    }
}

async fn detach(node: &Node) -> anyhow::Result<String> {
    match Client::new(&node.socket).status().await {
        Err(ClientError::Absent { .. }) => {}
        Ok(_) | Err(_) => anyhow::bail!(
            "a daemon answers on {}: end it first, or it puts everything back",
            node.socket.display()
        ),
    }
    let Some(pins) = Pins::existing(&node.bpffs) else {
        return Ok(format!("nothing is attached: {} is not there\n", node.bpffs.display()));
    };
    let interfaces: BTreeSet<u32> = pins.links()?.into_iter().map(|link| link.ifindex).collect();
    let netlink = Netlink::open()?;
    // The VIPs first: without the program the host itself would answer for them, with resets.
    let changes = netlink.sync_vips(&interfaces, &BTreeSet::new()).await?;
    netlink.release_neighbours(&interfaces).await?;
    pins.remove()?;
    daemon::release_ports(node.snat.port_range);
    Ok(format!(
        "detached from {} interface(s), {} VIP(s) taken off, {} removed\n",
        interfaces.len(),
        changes.removed.len(),
        node.bpffs.display()
    ))
}
