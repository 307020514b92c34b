//! The whole text against a golden file, and the format's rules checked by a parser of their own.

use std::{collections::BTreeSet, fs, path::Path};

use super::render;
use crate::report::{ConflictReport, StatusReport, fixture};

/// One sample: name, label pairs, value.
type Sample = (String, Vec<(String, String)>, f64);

#[test]
fn the_text_is_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/tests/metrics.txt");
    let text = render(&fixture::report()).expect("render");
    if std::env::var_os("ALB_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("write the golden file");
    }
    let golden = fs::read_to_string(&path).expect("golden file");
    assert_eq!(text, golden, "ALB_UPDATE_GOLDEN=1 writes {} anew", path.display());
}

#[test]
fn the_format_holds_also_for_hostile_names() {
    let mut report = fixture::report();
    report.listeners[0].load_balancer = "a\"b\\c\nd{}= é".into();
    let samples = parse(&render(&report).expect("render"));
    assert!(
        samples.iter().any(|(_, labels, _)| labels
            .iter()
            .any(|(name, value)| name == "load_balancer" && value == "a\"b\\c\nd{}= é")),
        "labels survive the way through the text"
    );
}

#[test]
fn a_conflict_is_a_sample() {
    let mut report = fixture::report();
    report.conflicts =
        vec![ConflictReport { vip: [198, 18, 0, 10].into(), mac: "02:00:00:00:00:01".into() }];
    let text = render(&report).expect("render");
    parse(&text);
    let sample = "alb_vip_conflict{vip=\"198.18.0.10\",mac=\"02:00:00:00:00:01\"} 1\n";
    assert!(text.contains(sample), "{text}");
}

#[test]
fn the_proxy_is_rendered() {
    let mut report = fixture::report();
    report.proxy = Some(fixture::proxy());
    let text = render(&report).expect("render");
    parse(&text);
    for line in [
        "alb_http_requests_total{load_balancer=\"shop\",listener=\"web\",class=\"2xx\"} 7",
        "alb_http_request_duration_seconds_bucket{load_balancer=\"shop\",listener=\"web\",le=\"0.000064\"} 1",
        "alb_http_request_duration_seconds_bucket{load_balancer=\"shop\",listener=\"web\",le=\"67.108864\"} 3",
        "alb_http_request_duration_seconds_bucket{load_balancer=\"shop\",listener=\"web\",le=\"+Inf\"} 4",
        "alb_http_request_duration_seconds_sum{load_balancer=\"shop\",listener=\"web\"} 100.5",
        "alb_refusals_total{load_balancer=\"shop\",listener=\"web\",reason=\"no_target\"} 2",
        "alb_backend_errors_total{load_balancer=\"shop\",backend=\"web\",reason=\"connect_failed\"} 3",
        "alb_target_in_flight{load_balancer=\"shop\",backend=\"web\",address=\"198.18.1.11\",port=\"8080\"} 5",
        "alb_certificate_expiry_timestamp_seconds{certificate=\"shop\"} 1800000000",
        "alb_certificate_reloads_total{certificate=\"shop\",outcome=\"refused\"} 1",
        "alb_certificate_stale{certificate=\"shop\"} 1",
        "alb_certificate_verify_failures_total 0",
        "alb_access_log_lines_total{outcome=\"lost\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "no {line} in\n{text}");
    }
}

#[test]
fn what_the_proxy_does_not_count_has_no_series() {
    let mut report = fixture::report();
    let mut proxy = fixture::proxy();
    proxy.listeners[0].id.clone_from(&report.listeners[0].id);
    report.proxy = Some(proxy);
    let text = render(&report).expect("render");
    parse(&text);
    let has = |name: &str, label: &str| {
        text.lines().any(|line| line.starts_with(name) && line.contains(label))
    };
    let (target, own) = ("backend=\"pg\"", "listener=\"db\"");
    assert!(!has("alb_target_bytes_total", target) && !has("alb_target_packets_total", target));
    assert!(has("alb_target_new_flows_total", target) && has("alb_target_healthy", target));
    assert!(!has("alb_listener_packets_total", own) && has("alb_listener_bytes_total", own));

    // A listener of the packet path over the same backend has them.
    let mut other = report.listeners[0].clone();
    (other.id, other.name, other.port) = ("listener-kernel".into(), "kernel".into(), 9_000);
    report.listeners.push(other);
    let text = render(&report).expect("render");
    parse(&text);
    let series = |line: &&str| line.starts_with("alb_target_bytes_total{") && line.contains(target);
    assert_eq!(text.lines().filter(series).count(), 2 * report.listeners[0].targets.len());
}

#[test]
fn an_empty_node_renders() {
    let report = StatusReport {
        listeners: vec![],
        reasons: vec![],
        events: vec![],
        datapath: None,
        ..fixture::report()
    };
    let samples = parse(&render(&report).expect("render"));
    assert!(samples.iter().all(|(name, ..)| !name.starts_with("alb_target")));
}

#[test]
fn a_backend_of_two_listeners_is_one_series() {
    let mut report = fixture::report();
    let mut again = report.listeners[0].clone();
    again.name = "db-again".into();
    again.port = 5434;
    report.listeners.push(again);
    parse(&render(&report).expect("render"));
}

/// Reads the text format strictly; panics where it is broken, also on two samples of one series.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut samples = Vec::new();
    let mut family = None;
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').expect("HELP has a text");
            assert!(families.insert(name), "{name} is one group");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let (typed, kind) = kind.and_then(|kind| kind.split_once(' ')).expect("TYPE follows");
            assert_eq!(typed, name);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(name.starts_with("alb_"), "{name}");
            family = Some((name, kind));
            continue;
        }
        let (id, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
        let of_family = family.is_some_and(|(family, kind)| match kind {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|part| name.strip_suffix(part) == Some(family)),
            _ => name == family,
        });
        assert!(of_family, "{line} is in its group");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert!(series.insert(id), "{id} comes twice");
        samples.push((name.to_owned(), pairs(labels), value.parse().expect("a number")));
    }
    samples
}

/// Label pairs up to the closing brace.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while rest != "}" {
        let (name, after) = rest.split_once("=\"").expect("a label has a quoted value");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("a value ends") {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next().expect("an escape is two characters") {
                    (_, 'n') => '\n',
                    (_, escaped @ ('"' | '\\')) => escaped,
                    (_, other) => panic!("no escape \\{other}"),
                }),
                (_, plain) => value.push(plain),
            }
        };
        pairs.push((name.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    pairs
}
