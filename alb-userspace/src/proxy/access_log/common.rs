//! A record in the combined log format of Apache and nginx, which log analysers read: the common
//! log format with `Referer` and `User-Agent`.

use super::{
    Record, escape,
    number::{address, ip, number},
};

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Appends one line: client, two dashes (identity and user, which this balancer does not know),
/// time, request line, status, bytes of the whole response, referrer, user agent. `time` is RFC
/// 3339 in UTC.
///
/// Connections have the same columns, with the address the client connected to for a request and
/// 000 for a status, as HAProxy has it: readers that ask for a status of HTTP skip them.
pub(super) fn line(record: &Record<'_>, time: &[u8; 24], out: &mut Vec<u8>) {
    ip(record.client, out);
    out.extend_from_slice(b" - - [");
    moment(time, out);
    out.extend_from_slice(b"] \"");
    if let Some(http) = &record.http {
        let before = out.len();
        // A request that could not be read may be without some of them.
        for part in [http.method, http.uri, http.protocol.as_bytes()] {
            if !part.is_empty() {
                if out.len() > before {
                    out.push(b' ');
                }
                escape::quoted(part, out);
            }
        }
        if out.len() == before {
            out.push(b'-');
        }
        out.extend_from_slice(b"\" ");
        number(http.status.into(), out);
    } else {
        out.extend_from_slice(if record.tls.is_some() { b"TLS " } else { b"TCP " });
        address(record.vip, out);
        out.extend_from_slice(b"\" 000");
    }
    out.push(b' ');
    number(record.bytes_sent, out);
    let (referer, agent) =
        record.http.as_ref().map_or_else(Default::default, |http| (http.referer, http.user_agent));
    for value in [referer, agent] {
        out.extend_from_slice(b" \"");
        escape::quoted(if value.is_empty() { b"-" } else { value }, out);
        out.push(b'"');
    }
    out.push(b'\n');
}

/// `2026-01-31T23:59:59.123Z` as `31/Jan/2026:23:59:59 +0000`.
fn moment(time: &[u8; 24], out: &mut Vec<u8>) {
    let month = usize::from(time[5] - b'0') * 10 + usize::from(time[6] - b'0');
    out.extend_from_slice(&time[8..10]);
    out.push(b'/');
    out.extend_from_slice(MONTHS[(month + 11) % 12]);
    out.push(b'/');
    out.extend_from_slice(&time[..4]);
    out.push(b':');
    out.extend_from_slice(&time[11..19]);
    out.extend_from_slice(b" +0000");
}
