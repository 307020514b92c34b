//! The table against golden files.

use std::{fs, path::Path};

use super::render;
use crate::report::{StatusReport, fixture};

/// `ALB_UPDATE_GOLDEN=1` writes the files anew.
fn check(name: &str, report: &StatusReport) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/status/tests").join(name);
    let text = render(report);
    if std::env::var_os("ALB_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("write the golden file");
    }
    let golden = fs::read_to_string(&path).expect("golden file");
    assert_eq!(text, golden, "ALB_UPDATE_GOLDEN=1 writes {} anew", path.display());
    text
}

#[test]
fn a_busy_node() {
    let text = check("busy.txt", &fixture::report());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn requests_of_an_http_listener() {
    let mut report = fixture::report();
    let mut proxy = fixture::proxy();
    report.listeners[0].protocol = "http".into();
    proxy.listeners[0].id.clone_from(&report.listeners[0].id);
    report.proxy = Some(proxy);
    report.listeners[0].routed = vec![fixture::routed()];
    let text = render(&report);
    let line = "  0 requests in flight, 7 answered, 812.5/s, 0 with 5xx\n";
    assert!(text.contains(line), "{text}");
    let fault = "           certificate shop changed, what was served before still is:\n           \
                 shop.key: the key does not belong to the certificate\n";
    assert!(text.contains(fault), "{text}");
    let target = "  198.18.1.21:5432  healthy    8m43s      20   1,010   27.5   3,030   -    -\n";
    assert!(text.contains(target), "bytes are not counted here: {text}");
    assert!(text.contains("  by rule → static, LeastConn\n"), "{text}");
    assert!(text.contains("  198.18.1.32:5432 is unhealthy: CONNECT_FAILED: refused\n"), "{text}");
}

#[test]
fn a_node_that_serves_nothing_yet() {
    let mut report = fixture::report();
    report.ready = false;
    report.not_ready_because = Some("3 targets have no health check result yet".into());
    report.config.last_error = Some("alb.yaml:3:7: node.flows is 5\nalb.yaml:9:1: no".into());
    report.datapath = None;
    report.listeners.clear();
    report.reasons.clear();
    check("empty.txt", &report);
}
