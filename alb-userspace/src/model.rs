//! The resource model: immutable, fully validated, no serde, no I/O.
//!
//! A `Model` is made by one function (`config::load`); whoever holds one may rely on every
//! range, pairing, uniqueness and reference rule of the product. References between objects
//! are ids, which are derived from kind, load balancer and name, so that they agree across
//! restarts and nodes.

mod balancer;
mod health;
mod network;
mod node;

pub use balancer::{
    Algorithm, Backend, BackendProtocol, Forwarded, GroupType, Listener, ListenerProtocol,
    LoadBalancer, Target, TargetGroup, TargetSource,
};
pub use health::{CodeRange, HealthCheck, HttpCheck};
pub use network::{ElasticIp, Instance, Subnet, Vpc};
pub use node::{AccessKey, Api, DatapathMode, Node, PortRange, Snat};

/// Everything one node serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// This node: interfaces, datapath, sockets, limits.
    pub node: Node,
    /// Virtual networks, in file order.
    pub vpcs: Vec<Vpc>,
    /// Subnets, in file order.
    pub subnets: Vec<Subnet>,
    /// Addresses a load balancer can be public on.
    pub elastic_ips: Vec<ElasticIp>,
    /// Hosts that targets of type `instance` name.
    pub instances: Vec<Instance>,
    /// Load balancers, in file order.
    pub load_balancers: Vec<LoadBalancer>,
}
