//! The proxy: requests, what became of them, targets, TLS, the access log. Connections and bytes
//! of its listeners are among those of all listeners.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;

use super::{Labels, Sample as _, counter, gauge, histogram, observed};
use crate::{
    proxy::access_log::LogReport,
    report::{CertificateReport, ProxiedBackend, ProxiedListener, ProxyReport},
};

pub(super) fn families(report: &ProxyReport, out: &mut Vec<MetricFamily>) {
    let ProxyReport { listeners, backends, certificates, unverified, access_log } = report;
    of_listeners(listeners, out);
    of_backends(backends, out);
    of_targets(backends, out);

    of_certificates(certificates, *unverified, out);

    if let Some(LogReport { written, lost, failing }) = access_log {
        let mut lines = counter("access_log_lines_total", "Lines of the access log, by outcome");
        lines.with_count(&[("outcome", "written")], *written);
        lines.with_count(&[("outcome", "lost")], *lost);
        let mut fails = gauge("access_log_failing", "Whether the access log cannot be written");
        fails.with_flag(&[], *failing);
        out.extend([lines, fails]);
    }
}

fn of_certificates(
    certificates: &BTreeMap<String, CertificateReport>,
    unverified: u64,
    out: &mut Vec<MetricFamily>,
) {
    let mut expiry =
        gauge("certificate_expiry_timestamp_seconds", "When a certificate ends, in Unix time");
    let mut reloads =
        counter("certificate_reloads_total", "Changed files of a certificate, by outcome");
    let mut stale = gauge(
        "certificate_stale",
        "Whether the files of a certificate cannot be used, and what they held before is served",
    );
    let mut failures = counter(
        "certificate_verify_failures_total",
        "Listeners that were found to serve another certificate than is set",
    );
    for (name, report) in certificates {
        let CertificateReport { serial: _, ends, reloaded, refused, fault } = report;
        let label = ("certificate", name.as_str());
        expiry.with_count(&[label], *ends);
        reloads.with_count(&[label, ("outcome", "applied")], *reloaded);
        reloads.with_count(&[label, ("outcome", "refused")], *refused);
        stale.with_flag(&[label], fault.is_some());
    }
    failures.with_count(&[], unverified);
    out.extend([expiry, reloads, stale, failures]);
}

fn of_listeners(listeners: &[ProxiedListener], out: &mut Vec<MetricFamily>) {
    let mut requests = counter("http_requests_total", "Requests answered, by class of status");
    let mut duration = histogram(
        "http_request_duration_seconds",
        "From the first byte of a request to the last of its response",
    );
    let mut in_flight = gauge("http_requests_in_flight", "Requests being served");
    let mut refusals =
        counter("refusals_total", "Requests and connections the proxy answered itself, and why");
    let mut refused = counter(
        "listener_refused_connections_total",
        "Connections closed at once, since the listener had its limit",
    );
    let mut denied = counter(
        "listener_denied_connections_total",
        "Connections closed at once, since a security group does not let the client in",
    );
    let mut accept =
        counter("listener_accept_errors_total", "Connections that could not be accepted");
    let mut handshakes = counter("tls_handshakes_total", "TLS handshakes that succeeded");
    let mut failures = counter("tls_handshake_failures_total", "TLS handshakes that failed");
    for listener in listeners {
        let labels = [
            ("load_balancer", listener.load_balancer.as_str()),
            ("listener", listener.name.as_str()),
        ];
        let totals = &listener.totals;
        by(&mut requests, &labels, "class", &totals.requests);
        observed(&mut duration, &labels, &totals.request_time);
        in_flight.with_count(&labels, totals.in_flight);
        by(&mut refusals, &labels, "reason", &totals.refusals);
        refused.with_count(&labels, totals.refused_connections);
        denied.with_count(&labels, totals.denied_connections);
        by(&mut accept, &labels, "reason", &totals.accept_errors);
        by(&mut handshakes, &labels, "kind", &totals.handshakes);
        by(&mut failures, &labels, "reason", &totals.handshake_failures);
    }
    out.extend([requests, duration, in_flight, refusals, refused, denied, accept]);
    out.extend([handshakes, failures]);
}

fn of_backends(backends: &[ProxiedBackend], out: &mut Vec<MetricFamily>) {
    let mut responses = counter("backend_responses_total", "Responses of targets, by class");
    let mut errors = counter("backend_errors_total", "Targets that could not be used, and why");
    let mut retries = counter("backend_retries_total", "Second attempts on another connection");
    let mut nobody = counter("backend_no_target_total", "Requests that had no target to go to");
    let mut connects = counter("backend_connects_total", "Connections made to targets");
    let mut reuses = counter("backend_reuses_total", "Requests over a pooled connection");
    let mut idle = gauge("backend_pool_idle", "Connections idle in the pool");
    let mut in_flight = gauge("backend_in_flight", "Requests at targets");
    let mut bytes = counter("backend_bytes_total", "Bytes: in is from targets, out is to targets");
    let mut mirrored = counter("backend_mirrored_total", "Copies of requests, by outcome");
    let mut connect = histogram("backend_connect_duration_seconds", "Connecting to a target");
    let mut response = histogram(
        "backend_response_duration_seconds",
        "From sending a request to the first byte of the response",
    );
    for backend in backends {
        let labels =
            [("load_balancer", backend.load_balancer.as_str()), ("backend", backend.name.as_str())];
        let totals = &backend.totals;
        by(&mut responses, &labels, "class", &totals.responses);
        by(&mut errors, &labels, "reason", &totals.errors);
        retries.with_count(&labels, totals.retries);
        nobody.with_count(&labels, totals.no_target);
        connects.with_count(&labels, totals.connects);
        reuses.with_count(&labels, totals.reuses);
        idle.with_count(&labels, totals.pool_idle);
        in_flight.with_count(&labels, totals.in_flight);
        bytes.with_count(&[&labels[..], &[("direction", "in")]].concat(), totals.bytes_in);
        bytes.with_count(&[&labels[..], &[("direction", "out")]].concat(), totals.bytes_out);
        by(&mut mirrored, &labels, "outcome", &totals.mirrored);
        observed(&mut connect, &labels, &totals.connect_time);
        observed(&mut response, &labels, &totals.response_time);
    }
    out.extend([responses, errors, retries, nobody, connects, reuses, idle, in_flight, bytes]);
    out.extend([mirrored, connect, response]);
}

fn of_targets(backends: &[ProxiedBackend], out: &mut Vec<MetricFamily>) {
    let mut in_flight = gauge("target_in_flight", "Requests or connections a target has now");
    let mut given = counter("target_requests_total", "Requests or connections given to a target");
    let mut failed = counter("target_errors_total", "Of these, those that failed on its side");
    for backend in backends {
        for target in &backend.targets {
            let (address, port) =
                (target.address.ip().to_string(), target.address.port().to_string());
            let labels = [
                ("load_balancer", backend.load_balancer.as_str()),
                ("backend", backend.name.as_str()),
                ("address", address.as_str()),
                ("port", port.as_str()),
            ];
            in_flight.with_count(&labels, target.in_flight);
            given.with_count(&labels, target.given);
            failed.with_count(&labels, target.failed);
        }
    }
    out.extend([in_flight, given, failed]);
}

fn by(
    family: &mut MetricFamily,
    labels: Labels<'_>,
    name: &'static str,
    counts: &BTreeMap<String, u64>,
) {
    for (word, count) in counts {
        family.with_count(&[labels, &[(name, word)]].concat(), *count);
    }
}
