//! Small models for tests of state and health.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use crate::model::{
    Algorithm, Backend, BackendProtocol, DatapathMode, Forwarded, GroupType, HealthCheck, Listener,
    ListenerProtocol, LoadBalancer, Model, Node, PortRange, Quotas, SecurityGroup, Snat, Target,
    TargetGroup, TargetSource, UnhealthyFlows,
};

/// A TCP check with the shortest times the product allows, deciding after three results.
pub(crate) fn tcp_check() -> HealthCheck {
    HealthCheck {
        http: None,
        timeout: Duration::from_secs(2),
        interval: Duration::from_secs(5),
        healthy_threshold: 3,
        unhealthy_threshold: 3,
        port: None,
    }
}

/// A target with its own port.
pub(crate) fn target(id: &str, at: SocketAddr) -> Target {
    let (address, port) = (at.ip(), NonZeroU16::new(at.port()));
    Target { id: id.into(), address, port, weight: 10, instance: None }
}

fn listener(backend: &str, port: u16) -> Listener {
    Listener {
        id: format!("listener-{backend}"),
        name: backend.into(),
        description: String::new(),
        protocol: ListenerProtocol::Tcp,
        port: NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN),
        enabled: true,
        backend: backend.into(),
        url_map: None,
        idle_timeout: Duration::from_mins(30),
        max_connections: None,
        max_qps: None,
        tls: None,
        http: None,
    }
}

/// One load balancer with a listener for each backend; each backend `(id, check)` uses all of the targets.
pub(crate) fn model(backends: &[(&str, Option<HealthCheck>)], targets: &[Target]) -> Model {
    let backend = |(id, health_check): &(&str, Option<HealthCheck>)| Backend {
        id: (*id).into(),
        name: (*id).into(),
        description: String::new(),
        protocol: BackendProtocol::Tcp,
        port: NonZeroU16::MIN,
        algorithm: Algorithm::RoundRobin,
        source: TargetSource::Group("tg-1".into()),
        health_check: health_check.clone(),
        proxy_protocol: false,
        stickiness: None,
        forwarded: Forwarded::default(),
        connection_draining: Duration::from_mins(5),
        closed_health_check: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_mins(1),
        pool_idle: Duration::from_secs(30),
        retries: 1,
        slow_start: Duration::ZERO,
        unhealthy_flows: UnhealthyFlows::Keep,
        panic_mode: false,
        passive_max_percent: 50,
    };
    let balancer = LoadBalancer {
        id: "alb-1".into(),
        name: "shop".into(),
        description: String::new(),
        subnet: "subnet-1".into(),
        azs: vec!["local-a".into()],
        elastic_ip: None,
        vips: vec![IpAddr::from([198, 18, 0, 10])],
        security_groups: vec!["sg-1".into()],
        delete_protection: false,
        listeners: (1..).zip(backends).map(|(port, (id, _))| listener(id, port)).collect(),
        backends: backends.iter().map(backend).collect(),
        target_groups: vec![TargetGroup {
            id: "tg-1".into(),
            name: "web".into(),
            description: String::new(),
            kind: GroupType::Ip,
            targets: targets.to_vec(),
        }],
        url_maps: vec![],
        tags: vec![],
    };
    let quotas = Quotas {
        load_balancers: 0,
        listeners: 0,
        backends: 0,
        target_groups: 0,
        targets: 0,
        url_maps: 0,
        rules: 0,
        extension_certificates: 0,
        security_groups: 0,
        security_policies: 0,
        customized_configurations: 0,
    };
    Model {
        node: Node {
            name: "lb-1".into(),
            region: "local".into(),
            zones: vec!["local-a".into()],
            interfaces: vec!["eth0".into()],
            datapath: DatapathMode::Auto,
            bpffs: PathBuf::from("/sys/fs/bpf/alb"),
            state_dir: PathBuf::from("/var/lib/alb"),
            socket: PathBuf::from("/var/lib/alb/alb.sock"),
            snat: Snat { addresses: vec![], port_range: PortRange { first: 10000, last: 32767 } },
            flows: 1024,
            workers: 0,
            access_log: None,
            quotas,
            cookie_key: None,
            api: None,
        },
        vpcs: vec![],
        subnets: vec![],
        elastic_ips: vec![],
        instances: vec![],
        instance_templates: vec![],
        availability_groups: vec![],
        security_groups: vec![SecurityGroup {
            id: "sg-1".into(),
            name: "default".into(),
            vpc: "vpc-1".into(),
            description: String::new(),
            rules: vec![],
            open: true,
        }],
        security_policies: vec![],
        certificates: vec![],
        load_balancers: vec![balancer.into()],
    }
}
