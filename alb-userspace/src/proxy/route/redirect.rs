//! Where a client is sent instead.

use std::{io::Write as _, net::SocketAddr};

use super::{HeaderEdits, host_of, port_of};
use crate::{
    model::{Redirect, RedirectProtocol},
    proxy::message::{RequestHead, Scheme},
};

/// A redirect that matched a request.
#[derive(Clone, Copy, Debug)]
pub struct Redirection<'r>(Kind<'r>);

#[derive(Clone, Copy, Debug)]
enum Kind<'r> {
    Slash,
    Rule(&'r Redirect, &'r HeaderEdits),
}

impl<'r> Redirection<'r> {
    /// To the same path with a slash.
    pub(super) fn slash() -> Self {
        Self(Kind::Slash)
    }

    pub(super) fn ruled(redirect: &'r Redirect, edits: &'r HeaderEdits) -> Self {
        Self(Kind::Rule(redirect, edits))
    }

    /// 301, 302, 307 or 308.
    pub fn status(&self) -> u16 {
        match self.0 {
            Kind::Slash => 301,
            Kind::Rule(redirect, _) => redirect.status,
        }
    }

    /// Changes to the fields of the answer.
    pub fn edits(&self) -> Option<&'r HeaderEdits> {
        match self.0 {
            Kind::Slash => None,
            Kind::Rule(_, edits) => Some(edits),
        }
    }

    /// Appends the value of `Location`. What the rule leaves open is as the client asked; a
    /// port that the scheme implies is left out. `local` stands in for a host the client did
    /// not name. The slash redirect names no scheme and host: whatever stands before this
    /// balancer, the browser knows better how it came here.
    pub fn location(&self, head: &RequestHead<'_>, local: SocketAddr, out: &mut Vec<u8>) {
        let (path, query) = (head.path(), head.query());
        let redirect = match self.0 {
            Kind::Slash => {
                // `//host` would be read as another host.
                if path.starts_with(b"//") {
                    origin(head.scheme, host_of(head.authority), None, local, out);
                    port(head.scheme, asked_port(head), out);
                }
                out.extend_from_slice(path);
                out.push(b'/');
                return write_query(query, out);
            }
            Kind::Rule(redirect, _) => redirect,
        };
        let scheme = match redirect.protocol {
            Some(RedirectProtocol::Http) => Scheme::Http,
            Some(RedirectProtocol::Https) => Scheme::Https,
            None => head.scheme,
        };
        let host = redirect.host.as_ref().map(String::as_bytes);
        origin(scheme, host_of(head.authority), host, local, out);
        port(scheme, redirect.port.or_else(|| asked_port(head)), out);
        out.extend_from_slice(match &redirect.path {
            Some(path) => path.as_bytes(),
            None if path == b"*" => b"/",
            None => path,
        });
        match &redirect.query {
            Some(text) => write_query(Some(text.as_bytes()).filter(|text| !text.is_empty()), out),
            None => write_query(query, out),
        }
    }
}

/// The port the client named, unless it is the one its scheme implies anyway: that must not
/// stick when the scheme changes.
fn asked_port(head: &RequestHead<'_>) -> Option<u16> {
    port_of(head.authority).filter(|port| *port != head.scheme.default_port())
}

fn origin(scheme: Scheme, asked: &[u8], host: Option<&[u8]>, local: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(scheme.as_str().as_bytes());
    out.extend_from_slice(b"://");
    let host = host.unwrap_or(asked);
    if !host.is_empty() {
        return out.extend_from_slice(host);
    }
    let written = match local {
        SocketAddr::V4(local) => write!(out, "{}", local.ip()),
        SocketAddr::V6(local) => write!(out, "[{}]", local.ip()),
    };
    debug_assert!(written.is_ok(), "a vector takes everything");
}

fn port(scheme: Scheme, port: Option<u16>, out: &mut Vec<u8>) {
    if let Some(port) = port.filter(|port| *port != scheme.default_port()) {
        let written = write!(out, ":{port}");
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
}

fn write_query(query: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}
