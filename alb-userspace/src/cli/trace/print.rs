//! An answer as text: a line a fact for people, JSON for programs.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use alb_common::{Reason, Verdict, service::algorithm};
use serde::Serialize;

use super::names::Names;
use crate::{
    cli::{Output, units::count},
    datapath::{
        flows::Flow,
        trace::{Answer, Door, Question, Sent, TargetSeen, interface_name},
    },
};

/// An answer as one JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    packet: &'static str,
    from: SocketAddr,
    to: SocketAddr,
    interface: String,
    verdict: &'static str,
    reason: &'static str,
    help: &'static str,
    events: Vec<&'static str>,
    flow: Option<Flow>,
    #[serde(flatten)]
    names: Option<&'a Names>,
    algorithm: Option<&'static str>,
    selectable_targets: Option<usize>,
    active_flows: Option<i64>,
    active_connections_limit: Option<u32>,
    target: Option<SocketAddr>,
    target_active_flows: Option<i64>,
    snat_ports_taken: usize,
    sent: Option<Leaves>,
}

#[derive(Serialize)]
struct Leaves {
    from: SocketAddr,
    to: SocketAddr,
    interface: Option<String>,
    station: String,
}

pub(super) fn answer(
    out: &mut dyn Write,
    question: &Question,
    answer: &Answer,
    names: Option<&Names>,
    format: Output,
) -> io::Result<()> {
    match format {
        Output::Table => lines(out, question, answer, names),
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &document(question, answer, names))?;
            writeln!(out)
        }
    }
}

fn document<'a>(question: &Question, answer: &Answer, names: Option<&'a Names>) -> Document<'a> {
    let Answer { flags, ifindex, reason, ref events, flow, listener, target, sent, ports_taken } =
        *answer;
    Document {
        packet: flags.label(),
        from: question.from,
        to: question.to,
        interface: interface(ifindex),
        verdict: reason.verdict().label(),
        reason: reason.label(),
        help: reason.help(),
        events: events.iter().map(|event| event.label()).collect(),
        flow,
        names,
        algorithm: listener.map(|door| algorithm_name(door.algorithm)),
        selectable_targets: listener.map(|door| door.targets),
        active_flows: listener.map(|door| door.open),
        active_connections_limit: listener.map(|door| door.max).filter(|max| *max > 0),
        target: target.map(|target| target.at),
        target_active_flows: target.map(|target| target.open),
        snat_ports_taken: ports_taken,
        sent: sent.map(|sent| Leaves {
            from: sent.from,
            to: sent.to,
            interface: sent.ifindex.map(interface),
            station: station(sent.station),
        }),
    }
}

fn lines(
    out: &mut dyn Write,
    question: &Question,
    answer: &Answer,
    names: Option<&Names>,
) -> io::Result<()> {
    let Answer { flags, ifindex, reason, ref events, flow, listener, target, sent, ports_taken } =
        *answer;
    let mut line = |name: &str, text: String| writeln!(out, "{name:<9} {text}");
    let Question { from, to, .. } = question;
    let packet = flags.label().to_uppercase();
    line("packet", format!("{packet} {from} -> {to}, by {}", interface(ifindex)))?;
    let verdict = reason.verdict().label();
    line("verdict", format!("{verdict} ({}): {}", reason.label(), reason.help()))?;
    line("flow", flow.as_ref().map_or_else(|| "none".to_owned(), state))?;
    if let Some(door) = &listener {
        line("listener", door_text(door, names))?;
    }
    if let Some(TargetSeen { at, open }) = target {
        line("target", format!("{at}, {}", open_text(open)))?;
    }
    if ports_taken > 0 {
        line("SNAT", format!("{ports_taken} ports towards it were taken"))?;
    }
    for event in events {
        line("also", event.help().to_owned())?;
    }
    match sent {
        Some(sent) => line("leaves", sent_text(&sent, reason))?,
        None if reason.verdict() == Verdict::Pass => {
            line("leaves", "no: the host's own stack has it, as it came".to_owned())?;
        }
        None => line("leaves", "no".to_owned())?,
    }
    if reason == Reason::NewFlow {
        let may =
            listener.is_some_and(|door| door.targets > 1 && door.algorithm != algorithm::IP_HASH);
        let may = if may { "; the next connection's turn may be another's" } else { "" };
        writeln!(out, "\nNothing was changed{may}.")?;
    }
    Ok(())
}

fn state(flow: &Flow) -> String {
    let ends = &flow.ends;
    format!(
        "{}, idle {:.1} s: {} -> {}, as {} -> {}",
        flow.state,
        flow.idle.as_secs_f64(),
        ends.client,
        ends.vip,
        ends.snat,
        ends.target
    )
}

fn door_text(door: &Door, names: Option<&Names>) -> String {
    let Door { algorithm, targets, open, max } = *door;
    let name = names.map_or_else(String::new, |names| {
        let Names { load_balancer, listener, protocol, backend } = names;
        format!("{load_balancer}/{listener} ({protocol}), backend {backend}: ")
    });
    if algorithm == algorithm::PROXY {
        return format!("{name}served by the proxy; `alb status` and the access log tell of it");
    }
    let limit = if max == 0 { String::new() } else { format!(" of at most {}", count(max.into())) };
    format!(
        "{name}{} over {targets} {}, {}{limit}",
        algorithm_name(algorithm),
        if targets == 1 { "target" } else { "targets" },
        open_text(open),
    )
}

fn open_text(open: i64) -> String {
    let open = u64::try_from(open).unwrap_or_default();
    format!("{} open", count(open))
}

fn sent_text(sent: &Sent, reason: Reason) -> String {
    let Sent { from, to, station: next, ifindex } = *sent;
    let what = if reason.verdict() == Verdict::Reset { "RST " } else { "" };
    let by = ifindex.map_or_else(String::new, |ifindex| format!(", by {}", interface(ifindex)));
    format!("{what}{from} -> {to}{by}, to station {}", station(next))
}

fn interface(ifindex: u32) -> String {
    interface_name(ifindex).unwrap_or_else(|| format!("interface {ifindex}"))
}

fn station(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn algorithm_name(code: u16) -> &'static str {
    match code {
        algorithm::ROUND_ROBIN => "RoundRobin",
        algorithm::IP_HASH => "IpHash",
        algorithm::LEAST_CONN => "LeastConn",
        _ => "proxy",
    }
}

#[cfg(test)]
mod tests {
    use alb_common::reason::Event;

    use super::*;
    use crate::datapath::trace::TcpFlags;

    fn shown(answer: &Answer, names: Option<&Names>) -> String {
        let question = Question {
            from: "198.18.0.100:40000".parse().unwrap(),
            to: "198.18.0.10:80".parse().unwrap(),
            flags: None,
            interface: None,
        };
        let mut out = Vec::new();
        super::answer(&mut out, &question, answer, names, Output::Table).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_new_flow_is_told_in_lines() {
        let mut answer = Answer {
            flags: TcpFlags::SYN,
            ifindex: u32::MAX,
            reason: Reason::NewFlow,
            events: vec![Event::PortReclaimed],
            flow: None,
            listener: Some(Door {
                algorithm: algorithm::ROUND_ROBIN,
                targets: 3,
                open: 12,
                max: 0,
            }),
            target: Some(TargetSeen { at: "198.18.1.11:8080".parse().unwrap(), open: 4 }),
            sent: Some(Sent {
                from: "198.18.1.1:40000".parse().unwrap(),
                to: "198.18.1.11:8080".parse().unwrap(),
                station: [2, 0, 0, 0, 0xab, 1],
                ifindex: None,
            }),
            ports_taken: 2,
        };
        let names = Names {
            load_balancer: "shop".to_owned(),
            listener: "web".to_owned(),
            protocol: "tcp".to_owned(),
            backend: "all".to_owned(),
        };
        let text = "\
packet    SYN 198.18.0.100:40000 -> 198.18.0.10:80, by interface 4294967295
verdict   forward (new_flow): SYN that opened a flow
flow      none
listener  shop/web (tcp), backend all: RoundRobin over 3 targets, 12 open
target    198.18.1.11:8080, 4 open
SNAT      2 ports towards it were taken
also      the SNAT port of a finished flow is taken over
leaves    198.18.1.1:40000 -> 198.18.1.11:8080, to station 02:00:00:00:ab:01

Nothing was changed; the next connection's turn may be another's.
";
        assert_eq!(shown(&answer, Some(&names)), text);

        answer.reason = Reason::NotOurs;
        (answer.listener, answer.target, answer.sent) = (None, None, None);
        let text = shown(&answer, None);
        assert!(text.contains("pass (not_ours)") && text.contains("host's own stack"), "{text}");
    }
}
