//! The daemon itself and its configuration.

use prometheus::proto::MetricFamily;

use super::{Sample as _, counter, gauge, histogram, observed};
use crate::report::StatusReport;

pub(super) fn families(report: &StatusReport, out: &mut Vec<MetricFamily>) {
    let mut build = gauge("build_info", "Version of the daemon; the value is always 1");
    build.with_count(&[("version", &report.version)], 1);

    let mut start = gauge("start_time_seconds", "Start of the daemon, in Unix time");
    start.with_count(&[], report.started_at);

    let mut ready = gauge("ready", "Whether traffic is served as the file says");
    ready.with_flag(&[], report.ready);

    let mut conflict = gauge("vip_conflict", "VIPs that another host has; the value is always 1");
    for of in &report.conflicts {
        conflict.with_count(&[("vip", &of.vip.to_string()), ("mac", &of.mac)], 1);
    }

    let mut generation = gauge("config_generation", "Generation of the snapshot being served");
    generation.with_count(&[], report.generation);

    let mut reloads = counter("config_reloads_total", "Times the file was read, by outcome");
    reloads.with_count(&[("outcome", "applied")], report.config.applied);
    reloads.with_count(&[("outcome", "refused")], report.config.refused);

    let mut last = gauge("config_last_reload_successful", "Whether the last reading was applied");
    last.with_flag(&[], report.config.last_error.is_none());

    let mut at = gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the file was last applied, in Unix time",
    );
    if let Some(applied_at) = report.config.applied_at {
        at.with_count(&[], applied_at);
    }

    let mut applying = histogram(
        "apply_duration_seconds",
        "From a change of the file or of a target's health to both engines choosing by it",
    );
    observed(&mut applying, &[], &report.applying);

    out.extend([build, start, ready, conflict, generation, reloads, last, at, applying]);
}
