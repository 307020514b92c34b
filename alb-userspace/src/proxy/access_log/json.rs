//! A record as one JSON object. Keys are the product's (`http` and `tcp` logs differ in some),
//! and a few of our own at the end; a value that there is not has no key.

use std::{net::SocketAddr, time::Duration};

use super::{
    Record, escape,
    number::{address, ip, number, seconds},
};

/// Appends one line.
pub(super) fn line(record: &Record<'_>, time: &[u8; 24], out: &mut Vec<u8>) {
    let Record {
        time: _,
        load_balancer,
        listener,
        backend,
        client,
        vip,
        target,
        duration,
        connect_time,
        target_time,
        bytes_received,
        bytes_sent,
        error,
        retries,
        http,
        tls,
        kernel,
    } = record;
    let is_http = http.is_some();
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(time);
    out.push(b'"');
    let mut line = Object(out);
    line.bytes("alb_id", load_balancer.as_bytes());
    line.address("client_ip", "client_port", *client);
    line.address("lb_vip", "lb_vport", *vip);
    if let Some(target) = target {
        line.shown("backend_server_ip_port", target);
    }
    line.seconds(if is_http { "request_time" } else { "session_time" }, *duration);
    if let Some(time) = connect_time {
        line.seconds("backend_connect_time", *time);
    }
    if let Some(time) = target_time {
        let key = if is_http { "backend_response_time" } else { "backend_session_time" };
        line.seconds(key, *time);
    }
    if let Some(http) = http {
        line.number("status", u64::from(http.status));
        if let Some(status) = http.target_status {
            line.number("backend_server_status", u64::from(status));
        }
    }
    line.number(if is_http { "request_length" } else { "bytes_received" }, *bytes_received);
    line.number("bytes_sent", *bytes_sent);
    if let Some(http) = http {
        line.bytes("scheme", if tls.is_some() { b"https" } else { b"http" });
        line.bytes("request_method", http.method);
        line.bytes("host", http.host);
        line.bytes("request_uri", http.uri);
        line.bytes("server_protocol", http.protocol.as_bytes());
        line.bytes("http_user_agent", http.user_agent);
    } else {
        line.bytes("protocol", if tls.is_some() { b"tls" } else { b"tcp" });
    }
    if let Some(tls) = tls {
        line.bytes("ssl_cipher", tls.cipher.as_bytes());
        line.bytes("ssl_protocol", tls.protocol.as_bytes());
        line.bytes("certificate_id", tls.certificate.as_bytes());
    }
    if let Some(kernel) = kernel {
        line.bytes("served_by", b"kernel");
        line.shown("snat_ip_port", &kernel.snat);
        line.number("packets_received", u64::from(kernel.packets_received));
        line.number("packets_sent", u64::from(kernel.packets_sent));
    }
    line.bytes("listener_id", listener.as_bytes());
    line.bytes("backend_id", backend.as_bytes());
    if let Some(http) = http {
        line.bytes("request_id", http.request_id);
    }
    if *retries > 0 {
        line.number("retries", u64::from(*retries));
    }
    line.bytes("error", error.as_bytes());
    out.extend_from_slice(b"}\n");
}

/// An object that has a member already.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Nothing if there are none.
    fn bytes(&mut self, key: &str, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        self.key(key);
        self.0.push(b'"');
        escape::json(value, self.0);
        self.0.push(b'"');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(value, self.0);
    }

    /// As a number with microseconds.
    fn seconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        seconds(value, self.0);
    }

    fn shown(&mut self, key: &str, value: &SocketAddr) {
        self.key(key);
        self.0.push(b'"');
        address(*value, self.0);
        self.0.push(b'"');
    }

    fn address(&mut self, ip_key: &str, port_key: &str, value: SocketAddr) {
        self.key(ip_key);
        self.0.push(b'"');
        ip(value, self.0);
        self.0.push(b'"');
        self.number(port_key, u64::from(value.port()));
    }
}
