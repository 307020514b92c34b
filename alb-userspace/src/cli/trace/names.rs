//! What a listener is called: the daemon knows; while there is none, the file says.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde::Serialize;

use crate::{config, control::client::Client, model::Model, report::StatusReport};

/// Names of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Names {
    pub(super) load_balancer: String,
    pub(super) listener: String,
    pub(super) protocol: String,
    pub(super) backend: String,
}

/// Those of the listener that is there; `None` if nobody can be asked, or there is none.
pub(super) fn of(vip: SocketAddr, socket: &Path, file: Option<&Path>) -> Option<Names> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let report = runtime.block_on(Client::new(socket).status());
    match (report, file) {
        (Ok(report), _) => of_report(&report, vip),
        (Err(_), Some(file)) => of_model(&config::load(file).ok()?.model, vip),
        (Err(_), None) => None,
    }
}

fn of_report(report: &StatusReport, vip: SocketAddr) -> Option<Names> {
    let is_it = |listener: &&crate::report::ListenerReport| {
        listener.vip == vip.ip() && listener.port == vip.port()
    };
    let found = report.listeners.iter().find(is_it)?;
    Some(Names {
        load_balancer: found.load_balancer.clone(),
        listener: found.name.clone(),
        protocol: found.protocol.clone(),
        backend: found.backend.clone(),
    })
}

fn of_model(model: &Model, vip: SocketAddr) -> Option<Names> {
    let is_on = |vips: &[IpAddr]| vips.contains(&vip.ip());
    let mut balancers = model.load_balancers.iter().filter(|balancer| is_on(&balancer.vips));
    balancers.find_map(|balancer| {
        let mut listeners = balancer.listeners.iter();
        let found = listeners.find(|listener| listener.port.get() == vip.port())?;
        let backend = balancer.backend(&found.backend);
        Some(Names {
            load_balancer: balancer.name.clone(),
            listener: found.name.clone(),
            protocol: format!("{:?}", found.protocol).to_lowercase(),
            backend: backend.map(|backend| backend.name.clone()).unwrap_or_default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_listener_is_found_by_its_address_and_port() {
        let report = fixture::report();
        for listener in &report.listeners {
            let found = of_report(&report, SocketAddr::new(listener.vip, listener.port)).unwrap();
            assert_eq!((&found.listener, &found.backend), (&listener.name, &listener.backend));
            assert_eq!(of_report(&report, SocketAddr::new(listener.vip, 9)), None);
        }
    }
}
