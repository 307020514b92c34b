//! Flows and their changes as text: columns and lines for people, JSON for programs.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    cli::{
        Output,
        table::{self, Align},
        units::{bytes, count, time},
    },
    datapath::flows::{Change, Count, Ends, Flow, Listing},
};

/// A listing as one JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    flows: &'a [Flow],
    /// How many the filter takes.
    matching: usize,
    /// How many of them are not in `flows`.
    left_out: usize,
}

/// Writes a listing.
pub(super) fn listing(out: &mut dyn Write, listing: &Listing, format: Output) -> io::Result<()> {
    let Listing { flows, matching } = listing;
    let left_out = matching.saturating_sub(flows.len());
    match format {
        Output::Json => {
            let document = Document { flows, matching: *matching, left_out };
            serde_json::to_writer_pretty(&mut *out, &document)?;
            writeln!(out)
        }
        Output::Table if flows.is_empty() => writeln!(out, "no flows"),
        Output::Table => {
            out.write_all(columns(flows).as_bytes())?;
            if left_out > 0 {
                let (shown, all) = (count(flows.len() as u64), count(*matching as u64));
                writeln!(out, "{shown} of {all} flows; --limit 0 lists all")?;
            }
            Ok(())
        }
    }
}

fn columns(flows: &[Flow]) -> String {
    let columns = [
        ("CLIENT", Align::Left),
        ("VIP", Align::Left),
        ("SNAT", Align::Left),
        ("TARGET", Align::Left),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
    ];
    let row = |flow: &Flow| {
        let Flow { ends, state, idle, age, incoming, outgoing } = flow;
        let Ends { client, vip, snat, target } = ends;
        [
            client.to_string(),
            vip.to_string(),
            snat.to_string(),
            target.to_string(),
            state.label().to_owned(),
            age.map_or_else(|| "-".to_owned(), |age| time(age.as_secs())),
            time(idle.as_secs()),
            size(*incoming),
            size(*outgoing),
        ]
    };
    table::render(0, columns, &flows.iter().map(row).collect::<Vec<_>>())
}

fn size(count: Option<Count>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| bytes(count.bytes))
}

/// Changes of one look, as far as there is room for them.
#[derive(Debug)]
pub(super) struct Printer {
    limit: Option<usize>,
    format: Output,
    changes: Vec<(Change, Flow)>,
    left_out: usize,
}

/// A change as a line of JSON.
#[derive(Serialize)]
struct Event<'a> {
    /// When it was seen, seconds since the Unix epoch.
    at: f64,
    change: &'static str,
    #[serde(flatten)]
    flow: &'a Flow,
}

/// The line of JSON in the place of changes that were left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeftOut {
    at: f64,
    left_out: usize,
}

impl Printer {
    pub(super) fn new(limit: Option<usize>, format: Output) -> Self {
        Self { limit, format, changes: Vec::new(), left_out: 0 }
    }

    /// Takes a change in.
    pub(super) fn take(&mut self, change: Change, flow: Flow) {
        if self.limit.is_none_or(|limit| self.changes.len() < limit) {
            self.changes.push((change, flow));
        } else {
            self.left_out += 1;
        }
    }

    /// Writes what was taken in since it was last asked.
    pub(super) fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = (now.as_secs_f64() * 1_000.0).round() / 1_000.0;
        let (changes, left_out) =
            (std::mem::take(&mut self.changes), std::mem::take(&mut self.left_out));
        for (change, flow) in &changes {
            match self.format {
                Output::Json => {
                    serde_json::to_writer(&mut *out, &Event { at, change: change.label(), flow })?;
                    writeln!(out)?;
                }
                Output::Table => out.write_all(line(*change, flow).as_bytes())?,
            }
        }
        if left_out > 0 {
            match self.format {
                Output::Json => {
                    serde_json::to_writer(&mut *out, &LeftOut { at, left_out })?;
                    writeln!(out)?;
                }
                Output::Table => {
                    let left_out = count(left_out as u64);
                    writeln!(out, "      {left_out} more changes; --limit 0 tells of all")?;
                }
            }
        }
        out.flush()
    }
}

/// A change as a line for people.
fn line(change: Change, flow: &Flow) -> String {
    let Flow { ends, state, idle: _, age: _, incoming, outgoing } = flow;
    let Ends { client, vip, snat, target } = ends;
    let mut line = format!("{:<5} {client} → {vip}, {snat} → {target}, {state}", change.label());
    match (change, incoming, outgoing) {
        (Change::Ended, None, None) | (Change::New, _, _) => {}
        (Change::Ended, incoming, outgoing) => {
            let sizes = format!(", {} in, {} out", size(*incoming), size(*outgoing));
            line.push_str(&sizes);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use crate::datapath::flows::FlowState;

    fn flow(client: u16, state: FlowState, sizes: Option<(u64, u64)>) -> Flow {
        let at = |host: u8, port| SocketAddr::from(([198, 18, 0, host], port));
        let count = |bytes| Count { packets: 3, bytes };
        Flow {
            ends: Ends {
                client: at(100, client),
                vip: at(10, 80),
                snat: at(2, 12_345),
                target: at(21, 8080),
            },
            state,
            idle: Duration::from_millis(61_500),
            age: sizes.map(|_| Duration::from_secs(7_300)),
            incoming: sizes.map(|sizes| count(sizes.0)),
            outgoing: sizes.map(|sizes| count(sizes.1)),
        }
    }

    fn flows() -> Vec<Flow> {
        vec![
            flow(40_000, FlowState::Established, Some((1_536, 2_000_000))),
            flow(9, FlowState::HalfOpen, None),
        ]
    }

    fn listed(listing: &Listing, format: Output) -> String {
        let mut out = Vec::new();
        super::listing(&mut out, listing, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_says_what_it_leaves_out() {
        let text = listed(&Listing { flows: flows(), matching: 2_345 }, Output::Table);
        let expected = "\
CLIENT              VIP             SNAT              TARGET            STATE          AGE   IDLE       IN      OUT
198.18.0.100:40000  198.18.0.10:80  198.18.0.2:12345  198.18.0.21:8080  established  2h01m  1m01s  1.5 KiB  1.9 MiB
198.18.0.100:9      198.18.0.10:80  198.18.0.2:12345  198.18.0.21:8080  half-open        -  1m01s        -        -
2 of 2,345 flows; --limit 0 lists all
";
        assert_eq!(text, expected);
        let text = listed(&Listing { flows: flows(), matching: 2 }, Output::Table);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(listed(&Listing::default(), Output::Table), "no flows\n");
    }

    #[test]
    fn a_document_has_everything() {
        let text = listed(&Listing { flows: flows(), matching: 2_345 }, Output::Json);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["matching"], &json["leftOut"]), (&2_345.into(), &2_343.into()));
        assert_eq!(json["flows"][0]["bytesOut"], 2_000_000);
        assert_eq!(json["flows"][1]["client"], "198.18.0.100:9");
        let json: serde_json::Value =
            serde_json::from_str(&listed(&Listing::default(), Output::Json)).unwrap();
        assert_eq!(json["flows"], serde_json::json!([]));
    }

    fn told(printer: &mut Printer) -> String {
        let mut out = Vec::new();
        printer.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn changes_are_lines_and_those_beyond_the_limit_are_counted() {
        let mut printer = Printer::new(Some(2), Output::Table);
        let sizes = Some((10, 2_048));
        for (change, state, sizes) in [
            (Change::New, FlowState::HalfOpen, None),
            (Change::Ended, FlowState::Reset, sizes),
            (Change::Ended, FlowState::Closed, sizes),
        ] {
            printer.take(change, flow(7, state, sizes));
        }
        let ends = "198.18.0.100:7 → 198.18.0.10:80, 198.18.0.2:12345 → 198.18.0.21:8080";
        let expected = format!(
            "new   {ends}, half-open\nended {ends}, reset, 10 B in, 2.0 KiB out\n      \
             1 more changes; --limit 0 tells of all\n"
        );
        assert_eq!(told(&mut printer), expected);
        assert_eq!(told(&mut printer), "");
    }

    #[test]
    fn changes_are_lines_of_json() {
        let mut printer = Printer::new(Some(1), Output::Json);
        for _ in 0..3 {
            printer.take(Change::Ended, flow(7, FlowState::Closed, None));
        }
        let text = told(&mut printer);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["change"], &lines[0]["state"]), (&"ended".into(), &"closed".into()));
        assert!(lines[0]["at"].as_f64() > Some(1e9) && lines[0]["bytesIn"].is_null());
        assert_eq!(lines[1]["leftOut"], 2);
    }
}
