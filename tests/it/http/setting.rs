//! What tests of HTTP begin with: a lab, a listener on the VIP, what it leads to.

use std::net::{Ipv4Addr, SocketAddr};

use alb_tests::{
    daemon::{Daemon, Instance, Node},
    http::Client,
    topology::{Arms, Lab, Shape, VIP},
};

/// Port of the listener.
pub(crate) const PORT: u16 = 80;
/// Port of every origin.
pub(crate) const ORIGIN: u16 = 8080;

/// Where clients connect.
pub(crate) fn vip() -> SocketAddr {
    (VIP, PORT).into()
}

/// A lab with so many targets.
pub(crate) fn lab(targets: u8) -> Lab {
    Lab::new(Shape { arms: Arms::One, targets, ..Shape::default() })
}

/// A client on the VIP.
pub(crate) fn client(lab: &Lab) -> Client {
    Client::connect(&lab.client.namespace, vip())
}

/// A listener with one backend and one target group.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// More keys of the listener, each `key: value`.
    pub(crate) listener: Vec<String>,
    /// More keys of the backend.
    pub(crate) backend: Vec<String>,
    /// More sections of the load balancer, and of the file.
    pub(crate) balancer: String,
    pub(crate) file: String,
    /// `Http` or `Https`, and its port.
    pub(crate) protocol: (&'static str, u16),
    /// Addresses of the targets.
    pub(crate) targets: Vec<Ipv4Addr>,
    /// More lines of the node.
    pub(crate) node: Vec<String>,
    /// More items of the lists of the load balancer, by the name of the list.
    pub(crate) items: Vec<(&'static str, String)>,
}

impl Site {
    /// Every target of the lab, unchecked, one worker so that there is one pool.
    pub(crate) fn of(lab: &Lab) -> Self {
        Self {
            listener: Vec::new(),
            backend: Vec::new(),
            balancer: String::new(),
            file: String::new(),
            protocol: ("Http", PORT),
            targets: lab.targets.iter().map(|host| host.address).collect(),
            node: vec!["workers: 1".to_owned()],
            items: Vec::new(),
        }
    }

    /// With an item of `targetGroups`, `backends` or `listeners`.
    pub(crate) fn with(mut self, list: &'static str, item: impl Into<String>) -> Self {
        self.items.push((list, item.into()));
        self
    }

    /// With a key of the listener.
    pub(crate) fn listener(mut self, key: &str) -> Self {
        self.listener.push(key.to_owned());
        self
    }

    /// With a key of the backend.
    pub(crate) fn backend(mut self, key: &str) -> Self {
        self.backend.push(key.to_owned());
        self
    }

    /// The file without its `node` section.
    pub(crate) fn body(&self) -> String {
        let targets: Vec<_> = self
            .targets
            .iter()
            .map(|address| format!("{{ ipAddress: {address}, port: {ORIGIN} }}"))
            .collect();
        let more = |keys: &[String]| keys.iter().flat_map(|key| [", ", key]).collect::<String>();
        let items = |list: &str| {
            let of_list = self.items.iter().filter(|(name, _)| *name == list);
            of_list.flat_map(|(_, item)| [item, ", "]).collect::<String>()
        };
        let checked = self.backend.iter().any(|key| key.starts_with("healthCheck"));
        format!(
            "{}subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
             loadBalancers:\n\
             - name: lab\n  subnet: front\n  privateIpAddress: {VIP}\n{}  \
             targetGroups: [{}{{ name: all, type: ip, targets: [{}] }}]\n  \
             backends: [{}{{ name: all, protocol: Http, port: {ORIGIN}, targetGroup: all{}{} }}]\n  \
             listeners: [{}{{ name: web, protocol: {}, port: {}, backend: all{} }}]\n",
            self.file,
            self.balancer,
            items("targetGroups"),
            targets.join(", "),
            items("backends"),
            if checked { "" } else { ", closeHealthCheck: true" },
            more(&self.backend),
            items("listeners"),
            self.protocol.0,
            self.protocol.1,
            more(&self.listener),
        )
    }

    /// A ready daemon that serves this.
    pub(crate) fn serve<'lab>(&self, lab: &'lab Lab) -> Daemon<'lab> {
        self.serve_body(lab, &self.body())
    }

    /// A ready daemon that serves this node with another body.
    pub(crate) fn serve_body<'lab>(&self, lab: &'lab Lab, body: &str) -> Daemon<'lab> {
        let mut node = Node::xdp(lab.interfaces());
        node.more.extend(self.node.iter().cloned());
        Instance::new(&lab.balancer.namespace, node, body).start()
    }
}

/// A head as it arrived, without the value of the request id, which is another each time.
pub(crate) fn without_id(heard: &str) -> String {
    let mut text = String::with_capacity(heard.len());
    for line in heard.split_inclusive('\n') {
        match line.split_once(": ") {
            Some(("X-Request-Id", _)) => text.push_str("X-Request-Id: *\r\n"),
            _ => text.push_str(line),
        }
    }
    text
}
