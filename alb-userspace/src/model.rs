//! The resource model: immutable, fully validated, no serde, no I/O.
//!
//! A `Model` is made by one function (`config::load`); whoever holds one may rely on every
//! range, pairing, uniqueness and reference rule of the product. References between objects
//! are ids, which are derived from kind, load balancer and name, so that they agree across
//! restarts and nodes.

mod balancer;
mod group;
mod health;
mod network;
mod node;
mod security;
mod shared;
mod url_map;

pub use balancer::{
    Algorithm, Backend, BackendProtocol, Engine, ExtensionCertificate, Forwarded, GroupType,
    Listener, ListenerHttp, ListenerProtocol, ListenerTls, LoadBalancer, Tag, Target, TargetGroup,
    TargetSource, UnhealthyFlows,
};
pub use group::{
    AutoscalingSpec, AvailabilityGroup, Driver, InstanceTemplate, PlacementType, RemovalPolicy,
};
pub use health::{CodeRange, HealthCheck, HttpCheck};
pub use network::{ElasticIp, Instance, Subnet, Vpc};
pub use node::{
    AccessKey, AccessLog, Api, ApiTls, CookieKey, DatapathMode, LogFormat, Node, PortRange, Quotas,
    Snat,
};
pub use security::{
    Certificate, CertificateFacts, Cipher, Direction, KeyAlgorithm, PrivateKey, RuleAction,
    RuleProtocol, SecurityGroup, SecurityPolicy, SecurityRule, TlsVersion,
};
pub use shared::Shared;
pub use url_map::{
    DomainPattern, HeaderAction, HeaderValue, PathPattern, Redirect, RedirectProtocol, Rewrite,
    RouteAction, Rule, UrlMap,
};

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
    /// What availability groups start members from.
    pub instance_templates: Vec<InstanceTemplate>,
    /// Groups whose members are started and stopped by the balancer.
    pub availability_groups: Vec<AvailabilityGroup>,
    /// Packet filters; the built-in `default` is the last one.
    pub security_groups: Vec<SecurityGroup>,
    /// TLS settings.
    pub security_policies: Vec<SecurityPolicy>,
    /// Certificates with their keys.
    pub certificates: Vec<Certificate>,
    /// Load balancers, in file order.
    pub load_balancers: Vec<Shared<LoadBalancer>>,
}

impl Model {
    /// The security group with this id. Ids in a model always resolve.
    pub fn security_group(&self, id: &str) -> Option<&SecurityGroup> {
        self.security_groups.iter().find(|group| group.id == id)
    }

    /// The security policy with this id.
    pub fn security_policy(&self, id: &str) -> Option<&SecurityPolicy> {
        self.security_policies.iter().find(|policy| policy.id == id)
    }

    /// The certificate with this id.
    pub fn certificate(&self, id: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.id == id)
    }
}
