//! Where listeners listen, by name: the daemon knows; while there is none, the file says.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use crate::{
    config::{self, ConfigErrors},
    control::client::{Client, ClientError},
    model::Model,
    report::StatusReport,
};

/// Listeners cannot be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamesError {
    /// No runtime to ask with.
    #[error("cannot ask the daemon")]
    Runtime(#[source] io::Error),
    /// Nobody to ask, and no file.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] ConfigErrors),
    /// There is no such listener.
    #[error("no listener {name}: there are {}", list(known))]
    Unknown {
        /// As asked for.
        name: String,
        /// Every listener, as `LOAD-BALANCER/NAME`.
        known: BTreeSet<String>,
    },
}

fn list(known: &BTreeSet<String>) -> String {
    const MOST: usize = 10;
    let names: Vec<&str> = known.iter().take(MOST).map(String::as_str).collect();
    match (names.len(), known.len().saturating_sub(MOST)) {
        (0, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

impl NamesError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => error.exit_code(),
            Self::Runtime(_) | Self::File(_) | Self::Unknown { .. } => super::FAILED,
        }
    }
}

/// A listener on one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Door {
    balancer: String,
    name: String,
    id: String,
    at: (IpAddr, u16),
}

/// VIPs with ports of the listeners with these names; `None` if none is named.
pub(super) fn doors(
    names: &[String],
    socket: &Path,
    file: Option<&Path>,
) -> Result<Option<BTreeSet<SocketAddr>>, NamesError> {
    if names.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NamesError::Runtime)?;
    let doors = match (runtime.block_on(Client::new(socket).status()), file) {
        (Ok(report), _) => of_report(&report),
        (Err(ClientError::Absent { .. }), Some(file)) => of_model(&config::load(file)?.model),
        (Err(error), _) => return Err(error.into()),
    };
    named(&doors, names).map(Some)
}

fn of_report(report: &StatusReport) -> Vec<Door> {
    let door = |listener: &crate::report::ListenerReport| Door {
        balancer: listener.load_balancer.clone(),
        name: listener.name.clone(),
        id: listener.id.clone(),
        at: (listener.vip, listener.port),
    };
    report.listeners.iter().map(door).collect()
}

fn of_model(model: &Model) -> Vec<Door> {
    let mut doors = Vec::new();
    for balancer in &model.load_balancers {
        for listener in &balancer.listeners {
            doors.extend(balancer.vips.iter().map(|vip| Door {
                balancer: balancer.name.clone(),
                name: listener.name.clone(),
                id: listener.id.clone(),
                at: (*vip, listener.port.get()),
            }));
        }
    }
    doors
}

fn named(doors: &[Door], names: &[String]) -> Result<BTreeSet<SocketAddr>, NamesError> {
    let mut found = BTreeSet::new();
    for name in names {
        let is_meant = |door: &&Door| {
            let Door { balancer, name: own, id, at: _ } = door;
            name == own || name == id || name.split_once('/') == Some((balancer, own))
        };
        let mut meant = doors.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            let path = |door: &Door| format!("{}/{}", door.balancer, door.name);
            let known = doors.iter().map(path).collect();
            return Err(NamesError::Unknown { name: name.clone(), known });
        }
        found.extend(meant.map(|door| SocketAddr::from(door.at)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn check(doors: &[Door], names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = named(doors, &names).map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn listeners_are_named_in_three_ways() {
        let door = |balancer: &str, name: &str, id: &str, at: &str, port| Door {
            balancer: balancer.to_owned(),
            name: name.to_owned(),
            id: id.to_owned(),
            at: (at.parse().unwrap(), port),
        };
        let doors = [
            door("shop", "web", "listener-1", "198.18.0.10", 80),
            door("shop", "web", "listener-1", "2001:db8::10", 80),
            door("shop", "db", "listener-2", "198.18.0.10", 5432),
            door("blog", "web", "listener-3", "198.18.0.11", 80),
        ];
        let (one, db, blog) = ("198.18.0.10:80", "198.18.0.10:5432", "198.18.0.11:80");
        let six = "[2001:db8::10]:80";
        for (names, expected) in [
            (&["web"][..], &[one, blog, six][..]),
            (&["shop/web"], &[one, six]),
            (&["listener-2"], &[db]),
            (&["db", "blog/web"], &[db, blog]),
        ] {
            let expected = expected.iter().map(|at| (*at).to_owned()).collect();
            assert_eq!(check(&doors, names), Ok(expected), "{names:?}");
        }
        let known = "there are blog/web, shop/db, shop/web";
        for name in ["wbe", "blog/db", "shop"] {
            assert_eq!(check(&doors, &["web", name]), Err(format!("no listener {name}: {known}")));
        }
        assert_eq!(check(&[], &["web"]), Err("no listener web: there are none".to_owned()));
    }

    #[test]
    fn a_report_tells_where_listeners_are() {
        let report = fixture::report();
        let listener = &report.listeners[0];
        let doors = of_report(&report);
        assert_eq!(doors.len(), report.listeners.len());
        assert_eq!(doors[0].at, (listener.vip, listener.port));
        assert_eq!((&doors[0].name, &doors[0].id), (&listener.name, &listener.id));
    }
}
