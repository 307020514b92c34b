//! Availability groups: targets that the balancer starts and stops itself.

use std::time::Duration;

use ipnet::Ipv4Net;

/// What members of an availability group are started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTemplate {
    /// Derived id, `template-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// Id of the vpc its instances are in.
    pub vpc: String,
    /// Addresses its instances take, lowest free first.
    pub addresses: Ipv4Net,
    /// How instances are started.
    pub driver: Driver,
}

/// How instances are started, stopped and looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// By running commands: program and arguments, no shell.
    Command {
        /// Starts one instance; never empty.
        start: Vec<String>,
        /// Stops one instance; never empty.
        stop: Vec<String>,
        /// Exits 0 while the instance runs; empty = not asked.
        probe: Vec<String>,
    },
}

/// A group of instances of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityGroup {
    /// Derived id, `ag-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// Id of the template its members are started from.
    pub instance_template: String,
    /// Zones its members are spread over; never empty.
    pub azs: Vec<String>,
    /// What members are kept apart by.
    pub placement: PlacementType,
    /// How many members it has.
    pub autoscaling: AutoscalingSpec,
}

/// What the members of a group are kept apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacementType {
    /// Fault domains.
    FaultDomain,
    /// Switches.
    Switch,
    /// Hosts.
    #[default]
    Host,
}

/// How many members a group has; `min_size ≤ desired_capacity ≤ max_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoscalingSpec {
    /// 0–300.
    pub min_size: u16,
    /// 0–300.
    pub max_size: u16,
    /// What it has without scaling.
    pub desired_capacity: u16,
    /// Replace members that fail their probe.
    pub health_check: bool,
    /// Pause after a change, 0–86400 s.
    pub cool_down: Duration,
    /// Which member goes first.
    pub removal_policy: RemovalPolicy,
}

/// Which member goes first when a group shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemovalPolicy {
    /// The one that was started first.
    #[default]
    OldestResource,
    /// The one that was started last.
    NewestResource,
}
