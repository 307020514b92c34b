//! `alb status`: what the running daemon tells about itself.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    Daemon, Output,
    output::{self, FAILED},
    table::{self, Align},
    units::{bytes, count, rate, time},
};
use crate::{
    config,
    control::client::Client,
    report::{
        DatapathReport, InterfaceReport, ListenerReport, ProxiedListener, StatusReport,
        TargetReport, TargetState, VerdictReport,
    },
};

/// What `alb status` takes.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    daemon: Daemon,
    /// File the daemon was run with: it names the socket.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let StatusArgs { daemon, config, output } = args;
    let socket = match config.as_deref().map(config::load_node).transpose() {
        Ok(node) => node.map_or_else(|| daemon.socket.clone(), |node| node.socket),
        Err(errors) => return output::fail(&errors, FAILED),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error, FAILED),
    };
    let report = match runtime.block_on(Client::new(&socket).status()) {
        Ok(report) => report,
        Err(error) => return output::fail(&error, error.exit_code()),
    };
    match output {
        Output::Table => output::print(&render(&report)),
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(json) => output::print(&(json + "\n")),
            Err(error) => output::fail(&error, FAILED),
        },
    }
}

/// The report in aligned columns; at most 100 characters a line as long as addresses are IPv4.
fn render(report: &StatusReport) -> String {
    let mut text = header(report);
    // The daemon's clock, not ours: the report may be looked at later.
    let now = report.started_at + report.uptime_seconds;
    for listener in &report.listeners {
        text.push('\n');
        let proxied = report.proxy.iter().flat_map(|proxy| &proxy.listeners);
        let proxied = proxied.into_iter().find(|of| of.id == listener.id);
        text.push_str(&render_listener(listener, proxied, now));
    }
    if report.listeners.is_empty() {
        text.push_str("\nno listeners\n");
    }
    text.push_str(&outcomes(report));
    text
}

/// Lines of a label and a value.
fn header(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        for (number, part) in value.lines().enumerate() {
            let label = if number == 0 { label } else { "" };
            text.push_str(format!("{label:<11}{part}").trim_end());
            text.push('\n');
        }
    };
    let uptime = time(report.uptime_seconds);
    line(
        "node",
        &format!("{}, alb {}, up {uptime}, pid {}", report.node, report.version, report.pid),
    );
    match &report.not_ready_because {
        None => line("state", &format!("ready, generation {}", report.generation)),
        Some(why) => line("state", &format!("not ready: {why}")),
    }
    if let Some(file) = &report.config.file {
        line("file", &file.display().to_string());
    }
    if let Some(error) = &report.config.last_error {
        line("", "the last reload was refused, what was served before still is:");
        line("", error);
    }
    for (name, certificate) in report.proxy.iter().flat_map(|proxy| &proxy.certificates) {
        if let Some(fault) = &certificate.fault {
            line("", &format!("certificate {name} changed, what was served before still is:"));
            line("", fault);
        }
    }
    match &report.datapath {
        Some(datapath) => {
            line("datapath", &attached(datapath));
            if let Some(id) = datapath.capture {
                line("", &format!("alb capture (process {id}) looks at packets"));
            }
            line("flows", &flows(datapath));
        }
        None => line("datapath", "none: the proxy serves everything"),
    }
    line("new flows", &format!("{}/s", rate(report.new_flows_per_second)));
    text
}

fn attached(datapath: &DatapathReport) -> String {
    let interfaces: Vec<_> = datapath
        .interfaces
        .iter()
        .map(|InterfaceReport { name, mode, why, .. }| {
            let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{} on {name}{why}", mode.label())
        })
        .collect();
    let interfaces =
        if interfaces.is_empty() { "not attached".to_owned() } else { interfaces.join(", ") };
    let origin = if datapath.adopted { "adopted from" } else { "made in" };
    format!("{interfaces}; tables {origin} {}", datapath.bpffs.display())
}

fn flows(datapath: &DatapathReport) -> String {
    let (established, half_open) = (&datapath.flows.established, &datapath.flows.half_open);
    format!(
        "{} of {} established, {} of {} half-open",
        count(established.used),
        count(established.capacity),
        count(half_open.used),
        count(half_open.capacity),
    )
}

fn render_listener(
    listener: &ListenerReport,
    proxied: Option<&ProxiedListener>,
    now: u64,
) -> String {
    let ListenerReport { load_balancer, name, vip, port, protocol, backend, algorithm, .. } =
        listener;
    let at = SocketAddr::new(*vip, *port);
    let off = if listener.enabled { "" } else { "  (off)" };
    let mut text =
        format!("{load_balancer}/{name}  {protocol} {at} → {backend}, {algorithm}{off}\n");
    let traffic = &listener.traffic;
    // Writing to a string cannot fail.
    let _written = writeln!(
        text,
        "  {} active, {} opened, {}/s, {} in, {} out",
        count(traffic.active_flows),
        count(traffic.new_flows),
        rate(listener.new_flows_per_second),
        bytes(traffic.bytes_in),
        bytes(traffic.bytes_out),
    );
    if let Some(ProxiedListener { requests_per_second, totals, .. }) = proxied
        && matches!(protocol.as_str(), "http" | "https")
    {
        let _written = writeln!(
            text,
            "  {} requests in flight, {} answered, {}/s, {} with 5xx",
            count(totals.in_flight),
            count(totals.requests.values().sum()),
            rate(*requests_per_second),
            count(totals.requests.get("5xx").copied().unwrap_or_default()),
        );
    }
    let is_proxied = proxied.is_some();
    text.push_str(&targets(&listener.targets, is_proxied, now));
    for routed in &listener.routed {
        let _written = writeln!(text, "  by rule → {}, {}", routed.backend, routed.algorithm);
        text.push_str(&targets(&routed.targets, is_proxied, now));
    }
    text
}

/// A table of targets, and why some of them are out. The proxy does not count bytes by target.
fn targets(targets: &[TargetReport], is_proxied: bool, now: u64) -> String {
    let bytes = |count| if is_proxied { "-".to_owned() } else { bytes(count) };
    if targets.is_empty() {
        return "  no targets: every connection is refused\n".to_owned();
    }
    let columns = [
        ("TARGET", Align::Left),
        ("STATE", Align::Left),
        ("FOR", Align::Right),
        ("WEIGHT", Align::Right),
        ("ACTIVE", Align::Right),
        ("NEW/S", Align::Right),
        ("OPENED", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
    ];
    let rows: Vec<_> = targets
        .iter()
        .map(|target| {
            [
                SocketAddr::new(target.address, target.port).to_string(),
                target.state.label().to_owned(),
                target.since.map_or("-".to_owned(), |since| time(now.saturating_sub(since))),
                target.weight.to_string(),
                count(target.traffic.active_flows),
                rate(target.new_flows_per_second),
                count(target.traffic.new_flows),
                bytes(target.traffic.bytes_in),
                bytes(target.traffic.bytes_out),
            ]
        })
        .collect();
    let mut text = table::render(2, columns, &rows);
    for target in targets {
        if let (TargetState::Unhealthy, Some(reason)) = (target.state, &target.reason) {
            let at = SocketAddr::new(target.address, target.port);
            // Writing to a string cannot fail.
            let _written = writeln!(text, "  {at} is unhealthy: {reason}");
        }
    }
    text
}

/// What was not forwarded, and why.
fn outcomes(report: &StatusReport) -> String {
    let rows: Vec<_> = report
        .reasons
        .iter()
        .filter(|of| of.verdict != VerdictReport::Forward && of.packets > 0)
        .map(|of| {
            [
                of.verdict.label().to_owned(),
                of.reason.clone(),
                count(of.packets),
                rate(of.per_second),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        ("NOT FORWARDED", Align::Left),
        ("REASON", Align::Left),
        ("PACKETS", Align::Right),
        ("PER S", Align::Right),
    ];
    format!("\n{}", table::render(0, columns, &rows))
}

#[cfg(test)]
mod tests;
