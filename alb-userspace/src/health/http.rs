//! The HTTP part of a probe: one HEAD request, written and read by hand because HTTP/1.0
//! without `Host` must be possible and nothing but the status line matters.

use std::{fmt::Write, io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::probe::{Deadline, is_interruption};
use crate::{
    model::HttpCheck,
    state::{Unhealthy, UnhealthyReason},
};

/// A response head beyond this is not read on.
const MAX_HEAD: usize = 16 * 1024;
/// A status line beyond this is none.
const MAX_STATUS_LINE: usize = 1024;

/// Sends the request and judges the status code.
pub(super) async fn exchange(
    mut stream: TcpStream,
    check: &HttpCheck,
    address: SocketAddr,
    deadline: Deadline,
) -> Result<(), Unhealthy> {
    let request = request(check, address);
    let sending = stream.write_all(request.as_bytes());
    let sent = deadline.bound(sending, UnhealthyReason::RequestTimeout, "send request").await?;
    sent.map_err(|error| broken(&error, UnhealthyReason::RequestFailed, "send request"))?;

    let mut head = Vec::with_capacity(512);
    let code = loop {
        if let Some(code) = status(&head)? {
            break code;
        }
        let reading = stream.read_buf(&mut head);
        let read = deadline
            .bound(reading, UnhealthyReason::ReceiveResponseTimeout, "read response")
            .await?;
        let length = read.map_err(|error| {
            broken(&error, UnhealthyReason::ReceiveResponseFailed, "read response")
        })?;
        if length == 0 {
            let seen = format!("closed after {} bytes without a status line", head.len());
            return Err(Unhealthy::new(UnhealthyReason::ConnectInterrupt, seen));
        }
    };
    finish(&mut stream, &mut head, deadline).await;
    if check.codes.iter().any(|range| (range.low..=range.high).contains(&code)) {
        return Ok(());
    }
    Err(Unhealthy::new(UnhealthyReason::HttpCodeMismatch, format!("status code {code}")))
}

/// Reads the rest of the head, so that closing does not reset the connection. What goes wrong
/// here says nothing about the target any more.
async fn finish(stream: &mut TcpStream, head: &mut Vec<u8>, deadline: Deadline) {
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD {
        let reading = stream.read_buf(head);
        match deadline.bound(reading, UnhealthyReason::ReceiveResponseTimeout, "read").await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn broken(error: &io::Error, reason: UnhealthyReason, doing: &str) -> Unhealthy {
    let reason = if is_interruption(error) { UnhealthyReason::ConnectInterrupt } else { reason };
    Unhealthy::new(reason, format!("{doing}: {error}"))
}

fn request(check: &HttpCheck, address: SocketAddr) -> String {
    let HttpCheck { http11, domain, path, codes: _ } = check;
    let version = if *http11 { "1.1" } else { "1.0" };
    let mut request = String::from("HEAD ");
    for byte in path.bytes() {
        // A request line is ASCII without blanks; the product allows more in a path.
        let written = if byte.is_ascii_graphic() {
            write!(request, "{}", char::from(byte))
        } else {
            write!(request, "%{byte:02X}")
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    request.push_str(" HTTP/");
    request.push_str(version);
    request.push_str("\r\n");
    // HTTP/1.1 is not valid without it.
    let host = domain.clone().or_else(|| http11.then(|| address.to_string()));
    if let Some(host) = host {
        request.push_str("Host: ");
        request.push_str(&host);
        request.push_str("\r\n");
    }
    request.push_str("User-Agent: alb-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    request
}

/// The status code, once the whole status line is there.
fn status(head: &[u8]) -> Result<Option<u16>, Unhealthy> {
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        if head.len() > MAX_STATUS_LINE {
            return Err(not_http(head));
        }
        return Ok(None);
    };
    let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', code @ ..] = line else {
        return Err(not_http(line));
    };
    match code {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Ok(Some(digit(*a) * 100 + digit(*b) * 10 + digit(*c)))
        }
        _ => Err(not_http(line)),
    }
}

fn not_http(line: &[u8]) -> Unhealthy {
    let start = &line[..line.len().min(64)];
    let seen = format!("not a status line: \"{}\"", start.escape_ascii());
    Unhealthy::new(UnhealthyReason::ResponseFormatError, seen)
}

#[cfg(test)]
mod tests {
    use super::{request, status};
    use crate::model::HttpCheck;

    #[test]
    fn status_lines() {
        let code = |head: &[u8]| status(head).map_err(|unhealthy| unhealthy.to_string());
        assert_eq!(code(b""), Ok(None));
        assert_eq!(code(b"HTTP/1.1 20"), Ok(None));
        assert_eq!(code(b"HTTP/1.1 200 OK\r\n"), Ok(Some(200)));
        assert_eq!(code(b"HTTP/1.0 404\n"), Ok(Some(404)));
        let rejected: [&[u8]; 7] = [
            b"HTTP/2 200\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1 2x0 OK\r\n",
            b"HTTP/1.1  200 OK\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\r\n",
            &[b'x'; 2000],
        ];
        for line in rejected {
            let error = code(line).unwrap_err();
            assert!(error.starts_with("RESPONSE_FORMAT_ERROR: not a status line"), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }

    #[track_caller]
    fn check(http11: bool, domain: Option<&str>, path: &str, start: &str) {
        let check =
            HttpCheck { http11, domain: domain.map(Into::into), path: path.into(), codes: vec![] };
        let request = request(&check, ([198, 18, 1, 1], 8080).into());
        assert!(request.starts_with(start), "{request}");
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
    }

    #[test]
    fn requests() {
        check(false, None, "/", "HEAD / HTTP/1.0\r\nUser-Agent: ");
        check(false, Some("a.test"), "/h?x=1", "HEAD /h?x=1 HTTP/1.0\r\nHost: a.test\r\nUser-");
        check(true, None, "/", "HEAD / HTTP/1.1\r\nHost: 198.18.1.1:8080\r\nUser-");
        check(true, Some("a.test"), "/健 ", "HEAD /%E5%81%A5%20 HTTP/1.1\r\nHost: a.test\r\nUser-");
    }
}
