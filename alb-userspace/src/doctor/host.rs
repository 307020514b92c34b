//! Kernel, capabilities, limits and bpffs: pure.

use super::{BpfFs, Facts, Finding, Kernel, KernelConfig, PlannedUse, Process};
use crate::model::DatapathMode;

/// Oldest kernel the packet path is made for.
const OLDEST: (u32, u32) = (6, 1);
/// Fewer open files than this are felt: a quarter of them is for health checks.
const OPEN_FILES: u64 = 4096;

/// Capabilities `alb run` needs for a packet path, with what for.
static CAPABILITIES: [(u8, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "attach to interfaces, put VIPs on them"),
    (13, "CAP_NET_RAW", "announce VIPs by ARP"),
    (38, "CAP_PERFMON", "load programs that follow pointers"),
    (39, "CAP_BPF", "load programs and maps"),
];
/// Stands for `CAP_PERFMON` and `CAP_BPF` too.
const SYS_ADMIN: u8 = 21;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    if facts.planned.datapath == DatapathMode::Proxy {
        let kernel = Finding::ok("kernel", format!("Linux {}", facts.kernel.release));
        return vec![
            kernel,
            capabilities(facts.process, &facts.planned),
            open_files(facts.process),
        ];
    }
    let mut findings = vec![version(&facts.kernel)];
    findings.extend(options(&facts.kernel));
    findings.push(btf(&facts.kernel));
    findings.extend(jit(&facts.kernel));
    findings.push(capabilities(facts.process, &facts.planned));
    findings.push(open_files(facts.process));
    findings.extend(bpffs(&facts.bpffs));
    findings
}

fn version(kernel: &Kernel) -> Finding {
    let release = &kernel.release;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|part| part.parse::<u32>().ok());
    let version = number().zip(number());
    match version {
        Some(version) if version >= OLDEST => Finding::ok("kernel", format!("Linux {release}")),
        Some(_) | None => Finding::fail(
            "kernel",
            format!("Linux {release}"),
            "the packet path is made for Linux 6.1 and later; an older verifier refuses it",
            "boot a kernel of 6.1 or later (Debian 12, Ubuntu 24.04, RHEL 10 have one)",
        ),
    }
}

fn options(kernel: &Kernel) -> Vec<Finding> {
    let Some(KernelConfig { source, options }) = &kernel.config else {
        return vec![Finding::warn(
            "kernel",
            "its build options cannot be read",
            "without /proc/config.gz or a file in /boot it cannot be said beforehand whether \
             programs can be loaded",
            "none needed if `alb run` starts",
        )];
    };
    let lacks = |names: &[&'static str]| -> Vec<&'static str> {
        let lacks = |name: &&str| !options.get(*name).is_some_and(|v| v == "y" || v == "m");
        names.iter().copied().filter(lacks).collect()
    };
    let mut findings = vec![];
    let needed = lacks(&["BPF", "BPF_SYSCALL", "NET", "INET"]);
    if !needed.is_empty() {
        findings.push(Finding::fail(
            "kernel",
            format!("built without {}", needed.join(", ")),
            "no BPF program can be loaded",
            "boot a kernel with these options; every distribution's default kernel has them",
        ));
    }
    if !lacks(&["BPF_JIT"]).is_empty() {
        findings.push(Finding::warn(
            "kernel",
            "built without BPF_JIT",
            "programs are interpreted, which is several times slower",
            "boot a kernel with CONFIG_BPF_JIT=y",
        ));
    }
    let tc = lacks(&["NET_CLS_BPF", "NET_SCH_INGRESS"]);
    if !tc.is_empty() {
        findings.push(Finding::warn(
            "kernel",
            format!("built without {}", tc.join(", ")),
            "interfaces without XDP cannot be served by TC instead",
            "nothing if XDP works on your interfaces, else a kernel with these options",
        ));
    }
    if findings.is_empty() {
        let source = source.display();
        findings.push(Finding::ok("kernel", format!("BPF, JIT and TC are built in ({source})")));
    }
    findings
}

fn btf(kernel: &Kernel) -> Finding {
    if kernel.btf {
        return Finding::ok("kernel", "type information (BTF) is there");
    }
    Finding::warn(
        "kernel",
        "no type information at /sys/kernel/btf/vmlinux",
        "map dumps and traces show bytes instead of fields",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )
}

fn jit(kernel: &Kernel) -> Option<Finding> {
    match kernel.jit? {
        0 => Some(Finding::warn(
            "kernel",
            "the BPF JIT is switched off (net.core.bpf_jit_enable = 0)",
            "programs are interpreted, which is several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        )),
        2 => Some(Finding::warn(
            "kernel",
            "the BPF JIT runs in debug mode (net.core.bpf_jit_enable = 2)",
            "every program that is loaded is written to the kernel log",
            "sysctl -w net.core.bpf_jit_enable=1",
        )),
        _ => Some(Finding::ok("kernel", "the BPF JIT is on")),
    }
}

/// What `alb run` needs for this use: nothing for a proxy whose VIPs are others' to put on.
fn needed(planned: &PlannedUse) -> &'static [(u8, &'static str, &'static str)] {
    let on_interfaces = CAPABILITIES.split_at(2).0;
    match (planned.datapath, planned.interfaces.is_empty()) {
        (DatapathMode::Proxy, true) => &[],
        (DatapathMode::Proxy, false) => on_interfaces,
        _ => &CAPABILITIES,
    }
}

/// What of that is not in a set (bits as in `/proc/PID/status`).
fn lacking(
    capabilities: u64,
    planned: &PlannedUse,
) -> impl Iterator<Item = (u8, &'static str, &'static str)> {
    let has = move |bit: u8| capabilities & (1 << bit) != 0;
    let lacks = move |bit: u8| !(has(bit) || (bit >= 38 && has(SYS_ADMIN)));
    needed(planned).iter().copied().filter(move |(bit, _, _)| lacks(*bit))
}

/// Names of the capabilities `alb run` needs for this use and this process does not have.
pub fn missing_capabilities(process: Process, planned: &PlannedUse) -> Vec<&'static str> {
    lacking(process.capabilities, planned).map(|(_, name, _)| name).collect()
}

fn capabilities(process: Process, planned: &PlannedUse) -> Finding {
    let lacks: Vec<String> = lacking(process.capabilities, planned)
        .map(|(_, name, what_for)| format!("{name} ({what_for})"))
        .collect();
    if lacks.is_empty() {
        return Finding::ok("process", "all capabilities that are needed");
    }
    let names: Vec<_> = needed(planned).iter().map(|(_, name, _)| *name).collect();
    Finding::fail(
        "process",
        format!("lacks {}", lacks.join(", ")),
        "`alb run` as the present user cannot do this",
        &format!("run it as root, or give its unit AmbientCapabilities={}", names.join(" ")),
    )
}

fn open_files(process: Process) -> Finding {
    let found = format!("may open {} files", process.open_files);
    if process.open_files >= OPEN_FILES {
        return Finding::ok("process", found);
    }
    Finding::warn(
        "process",
        found,
        "a connection through the proxy takes two, one that moves a large body up to six; beyond \
         that clients wait, and health checks are left out",
        "raise the hard limit: LimitNOFILE=1048576 in its unit, or ulimit -Hn 1048576",
    )
}

fn bpffs(bpffs: &BpfFs) -> Vec<Finding> {
    let path = bpffs.path.display();
    let mut findings = vec![if bpffs.mounted {
        Finding::ok("bpffs", format!("{path} is on a bpffs"))
    } else {
        Finding::warn(
            "bpffs",
            format!("{path} is not on a bpffs"),
            "maps and programs are pinned there, so that traffic flows on while the daemon \
             does not run; `alb run` mounts one if it may",
            "mount -t bpf bpf /sys/fs/bpf",
        )
    }];
    if bpffs.private_mounts == Some(true) {
        findings.push(Finding::warn(
            "bpffs",
            "this process has a private mount namespace",
            "what is pinned here is not seen outside, and may be gone with the process; \
             `ip netns exec` makes such a namespace for every command",
            "enter a network namespace with nsenter --net=/run/netns/NAME instead",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::Level::{self, Fail, Ok, Warn},
        model::PortRange,
    };

    fn kernel(release: &str) -> Kernel {
        let names = ["BPF", "BPF_SYSCALL", "BPF_JIT", "NET", "INET", "NET_CLS_BPF"];
        let mut options: std::collections::BTreeMap<_, _> =
            names.into_iter().map(|name| (name.to_owned(), "y".to_owned())).collect();
        options.insert("NET_SCH_INGRESS".into(), "m".into());
        let config = Some(KernelConfig { source: "/proc/config.gz".into(), options });
        Kernel { release: release.into(), config, btf: true, jit: Some(1) }
    }

    #[test]
    fn versions() {
        let level = |release: &str| version(&kernel(release)).level;
        assert_eq!(level("6.1.0-37-amd64"), Ok);
        assert_eq!(level("6.18.44-fc"), Ok);
        assert_eq!(level("10.0"), Ok);
        assert_eq!(level("6.0.19"), Fail);
        assert_eq!(level("5.15.0-1-generic"), Fail);
        assert_eq!(level("unknown"), Fail);
    }

    #[track_caller]
    fn without(option: &str, level: Level, words: &str) {
        let mut kernel = kernel("6.1.0");
        kernel.config.as_mut().unwrap().options.remove(option);
        let findings = options(&kernel);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].level, level);
        assert!(findings[0].found.contains(words), "{}", findings[0].found);
    }

    #[test]
    fn build_options() {
        without("NOTHING", Ok, "built in (/proc/config.gz)");
        without("BPF_SYSCALL", Fail, "BPF_SYSCALL");
        without("BPF_JIT", Warn, "BPF_JIT");
        without("NET_SCH_INGRESS", Warn, "NET_SCH_INGRESS");
        let unknown = Kernel { config: None, ..kernel("6.1.0") };
        assert_eq!(options(&unknown)[0].level, Warn);
    }

    #[test]
    fn what_a_process_may_do() {
        let planned = |datapath, interfaces: &[&str]| PlannedUse {
            interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
            datapath,
            snat: PortRange { first: 10_000, last: 29_999 },
        };
        let with = |bits: &[u8], planned: &PlannedUse| {
            let held = bits.iter().map(|bit| 1_u64 << bit).sum();
            capabilities(Process { capabilities: held, open_files: 1024 }, planned)
        };
        let may = |bits: &[u8]| with(bits, &planned(DatapathMode::Auto, &[]));
        assert_eq!(may(&[12, 13, 38, 39]).level, Ok);
        assert_eq!(may(&[12, 13, 21]).level, Ok);
        let finding = may(&[13, 38, 39]);
        assert_eq!(finding.level, Fail);
        assert_eq!(finding.found, "lacks CAP_NET_ADMIN (attach to interfaces, put VIPs on them)");

        let alone = |bits: &[u8], interfaces: &[&str]| {
            with(bits, &planned(DatapathMode::Proxy, interfaces)).level
        };
        assert_eq!(alone(&[], &[]), Ok);
        assert_eq!(alone(&[12], &["eth0"]), Fail);
        assert_eq!(alone(&[12, 13], &["eth0"]), Ok);
    }

    #[test]
    fn limits_jit_and_mounts() {
        assert_eq!(open_files(Process { capabilities: 0, open_files: 1024 }).level, Warn);
        assert_eq!(open_files(Process { capabilities: 0, open_files: 20_000 }).level, Ok);
        let jit = |jit| super::jit(&Kernel { jit, ..kernel("6.1.0") }).map(|f| f.level);
        assert_eq!([jit(None), jit(Some(0)), jit(Some(1))], [None, Some(Warn), Some(Ok)]);
        let at = |mounted, private_mounts| {
            let path = "/sys/fs/bpf/alb".into();
            bpffs(&BpfFs { path, mounted, pinned: false, private_mounts })
                .iter()
                .map(|finding| finding.level)
                .collect::<Vec<_>>()
        };
        assert_eq!(at(true, Some(false)), [Ok]);
        assert_eq!(at(false, None), [Warn]);
        assert_eq!(at(true, Some(true)), [Ok, Warn]);
    }
}
