//! A record as the product's fields in their order, between blanks; `-` for what there is not.

use super::{
    Record, escape,
    number::{address, ip, number, seconds},
};

/// Appends one line: timestamp, `alb_id`, `client_ip`, `client_port`, `lb_vip`, `lb_vport`,
/// `backend_server_ip_port`, `request_time`, `backend_connect_time`, `backend_response_time`,
/// status, `backend_server_status`, `request_length`, `bytes_sent`, scheme, `request_method`,
/// host, `request_uri`, `server_protocol`, `http_user_agent`, `ssl_cipher`, `ssl_protocol`,
/// `certificate_id`, `docker_ip_port`; then `listener_id`, `backend_id`, `request_id`, retries,
/// error. Connections have the same columns, so that one program reads both.
pub(super) fn line(record: &Record<'_>, time: &[u8; 24], out: &mut Vec<u8>) {
    let Record { http, tls, .. } = record;
    out.extend_from_slice(time);
    field(out, |out| escape::text(record.load_balancer.as_bytes(), out));
    for at in [record.client, record.vip] {
        field(out, |out| ip(at, out));
        field(out, |out| number(u64::from(at.port()), out));
    }
    optional(out, record.target, address);
    field(out, |out| seconds(record.duration, out));
    optional(out, record.connect_time, seconds);
    optional(out, record.target_time, seconds);
    optional(out, http.as_ref().map(|http| u64::from(http.status)), number);
    optional(out, http.as_ref().and_then(|http| http.target_status).map(u64::from), number);
    field(out, |out| number(record.bytes_received, out));
    field(out, |out| number(record.bytes_sent, out));
    let scheme: &[u8] = match (http.is_some(), tls.is_some()) {
        (true, true) => b"https",
        (true, false) => b"http",
        (false, true) => b"tls",
        (false, false) => b"tcp",
    };
    field(out, |out| escape::text(scheme, out));
    let (method, host, uri, protocol, agent, request_id) =
        http.as_ref().map_or_else(Default::default, |http| {
            let protocol = http.protocol.as_bytes();
            (http.method, http.host, http.uri, protocol, http.user_agent, http.request_id)
        });
    let (cipher, tls_protocol, certificate) = tls
        .as_ref()
        .map_or_else(Default::default, |tls| (tls.cipher, tls.protocol, tls.certificate));
    for value in [method, host, uri, protocol, agent] {
        field(out, |out| escape::text(value, out));
    }
    // The last column is the address inside a container, which this balancer does not know.
    for value in [cipher, tls_protocol, certificate, "", record.listener, record.backend] {
        field(out, |out| escape::text(value.as_bytes(), out));
    }
    field(out, |out| escape::text(request_id, out));
    field(out, |out| number(u64::from(record.retries), out));
    field(out, |out| escape::text(record.error.as_bytes(), out));
    out.push(b'\n');
}

fn field(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b' ');
    write(out);
}

fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>)) {
    field(out, |out| match value {
        Some(value) => write(value, out),
        None => out.push(b'-'),
    });
}
