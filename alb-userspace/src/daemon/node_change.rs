//! What of `node` can change while the daemon runs: nothing that is open or sized at start.

use crate::model::Node;

/// The settings that differ and need a restart, by their names in the file. Forwarding goes on
/// over a restart, so that is no loss.
pub(crate) fn needs_restart(old: &Node, new: &Node) -> Vec<&'static str> {
    let checks = [
        ("node.interfaces", old.interfaces != new.interfaces),
        ("node.datapath", old.datapath != new.datapath),
        ("node.bpffs", old.bpffs != new.bpffs),
        ("node.stateDir", old.state_dir != new.state_dir),
        ("node.socket", old.socket != new.socket),
        ("node.snat", old.snat != new.snat),
        ("node.flows", old.flows != new.flows),
        ("node.workers", old.workers != new.workers),
        ("node.accessLog", old.access_log != new.access_log),
        ("node.cookieKey", old.cookie_key != new.cookie_key),
        ("node.api", old.api != new.api),
    ];
    checks.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
