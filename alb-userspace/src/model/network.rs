//! Networks, addresses and hosts.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// A virtual network; a scope for subnets and instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// Derived id, `vpc-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
}

/// A subnet that load balancers take their addresses from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Derived id, `subnet-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// Id of its vpc.
    pub vpc: String,
    /// Zone it is in.
    pub zone: String,
    /// IPv4 prefix, if it has one.
    pub prefix: Option<Ipv4Net>,
    /// IPv6 prefix, if it has one.
    pub prefix6: Option<Ipv6Net>,
    /// First and last address for VIPs that are not named; inclusive.
    pub vip_range: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// An address that makes a load balancer public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticIp {
    /// Derived id, `fip-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Stored, not shaped; Mbit/s.
    pub bandwidth: Option<u32>,
}

/// A host that targets of type `instance` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The id as given in the file.
    pub id: String,
    /// Id of its vpc.
    pub vpc: String,
    /// Zone it is in.
    pub zone: String,
    /// Its address.
    pub address: IpAddr,
}
