//! The configuration: so many load balancers, listeners and targets, as a file.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

/// Hosts that the targets are spread over.
const HOSTS: u32 = 1_000;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Load balancers, an address each.
    pub(crate) balancers: u16,
    /// Listeners of each, with a backend and a target group of its own.
    pub(crate) listeners: u16,
    /// Targets of each.
    pub(crate) targets: u16,
}

impl Site {
    pub(crate) fn all_listeners(self) -> u32 {
        u32::from(self.balancers) * u32::from(self.listeners)
    }

    pub(crate) fn all_targets(self) -> u32 {
        self.all_listeners() * u32::from(self.targets)
    }

    /// Every address that a target has.
    pub(crate) fn hosts() -> impl Iterator<Item = Ipv4Addr> {
        (0..HOSTS).map(host)
    }

    /// The file.
    pub(crate) fn text(self, bpffs: &Path, state: &Path) -> String {
        let mut text = format!(
            "node: {{ interfaces: [eth0], datapath: xdp, bpffs: {}, stateDir: {} }}\n\
             subnets: [{{ name: front, addressPrefix: 198.18.0.0/16 }}]\nloadBalancers:\n",
            bpffs.display(),
            state.display()
        );
        for balancer in 0..self.balancers {
            self.balancer(balancer, &mut text);
        }
        text
    }

    fn balancer(self, balancer: u16, text: &mut String) {
        let vip =
            Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 10).to_bits() + u32::from(balancer));
        let mut line = |what: std::fmt::Arguments<'_>| {
            text.write_fmt(what).expect("writing to a string");
        };
        line(format_args!("- name: b{balancer}\n  subnet: front\n  privateIpAddress: {vip}\n"));
        line(format_args!("  targetGroups:\n"));
        for listener in 0..self.listeners {
            line(format_args!("  - name: g{listener}\n    type: ip\n    targets:\n"));
            let first = (u32::from(balancer) * u32::from(self.listeners) + u32::from(listener))
                * u32::from(self.targets);
            for number in first..first + u32::from(self.targets) {
                let (address, port) = (host(number % HOSTS), 1_024 + number / HOSTS);
                let weight = 10 + number % 3 * 10;
                line(format_args!(
                    "    - {{ ipAddress: {address}, port: {port}, weight: {weight} }}\n"
                ));
            }
        }
        line(format_args!("  backends:\n"));
        for listener in 0..self.listeners {
            line(format_args!(
                "  - {{ name: s{listener}, protocol: Tcp, port: 80, targetGroup: g{listener}, \
                 healthCheck: {{ protocol: Tcp }} }}\n"
            ));
        }
        line(format_args!("  listeners:\n"));
        for listener in 0..self.listeners {
            let port = 10_000 + u32::from(listener);
            line(format_args!(
                "  - {{ name: l{listener}, protocol: Tcp, port: {port}, backend: s{listener} }}\n"
            ));
        }
    }
}

fn host(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 19, 0, 1).to_bits() + number)
}
