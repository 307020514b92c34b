//! Is this host fit to run the balancer? Facts are gathered once, then judged by pure
//! functions. Changes nothing; knows the kernel and the network, not the daemon.

mod ethtool;
mod facts;
mod gather;
mod host;
mod interface;
mod ports;
mod target;

use serde::Serialize;

use crate::model::DatapathMode;

pub use facts::{
    BpfFs, Facts, InterfaceFacts, Kernel, KernelConfig, PlannedUse, Ports, Process, Reach,
    TargetFacts,
};
pub use gather::{gather, planned, process};
pub use host::missing_capabilities;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or not in every case.
    Warn,
    /// `alb run` will refuse, or no traffic will flow.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: `kernel`, `interface eth0`, …
    pub subject: String,
    /// What was found.
    pub found: String,
    /// Why that matters; `None` if all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do about it; `None` if nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self { level: Level::Ok, subject, found, why: None, remedy: None }
    }

    fn warn(subject: impl Into<String>, found: impl Into<String>, why: &str, remedy: &str) -> Self {
        let (why, remedy) = (Some(why.to_owned()), Some(remedy.to_owned()));
        Self { level: Level::Warn, why, remedy, ..Self::ok(subject, found) }
    }

    fn fail(subject: impl Into<String>, found: impl Into<String>, why: &str, remedy: &str) -> Self {
        Self { level: Level::Fail, ..Self::warn(subject, found, why, remedy) }
    }
}

/// Judges the facts, in the order a reader wants them: host, interfaces, ports, targets.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = host::examine(facts);
    findings.extend(interface::examine(facts));
    if facts.planned.datapath != DatapathMode::Proxy {
        findings.extend(ports::examine(&facts.ports, facts.planned.snat));
    }
    findings.extend(target::examine(&facts.targets, facts.neighbour_limits));
    findings
}
