//! Who is on the other side of a client's connection.

use std::{net::SocketAddr, sync::Arc};

use super::{access_log::TlsRecord, tls::Presented};

/// One client connection as routing, headers and logs see it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the client connects from. IPv4-mapped IPv6 addresses do not occur: they are IPv4.
    pub client: SocketAddr,
    /// What the client connected to: VIP and listener port.
    pub local: SocketAddr,
    /// What was negotiated; `None` on plain listeners.
    pub tls: Option<TlsInfo>,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite's OpenSSL name.
    pub cipher: &'static str,
    /// Name the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// Id of the certificate that was served.
    pub certificate: Arc<str>,
    /// `h2` or `http/1.1`; `None` = the client offered nothing.
    pub alpn: Option<&'static str>,
    /// Resumed from a ticket.
    pub resumed: bool,
    /// The certificate that was served, to judge authorities by.
    pub presented: Presented,
}

impl TlsInfo {
    /// Whether a request for this authority (`host[:port]`) belongs on the connection.
    pub fn is_for(&self, authority: &[u8]) -> bool {
        let asked = self.sni.as_ref().is_some_and(|name| name.as_bytes() == authority);
        asked || self.presented.is_for(authority)
    }

    /// What the access log is told of it.
    pub fn record(&self) -> TlsRecord<'_> {
        let Self { protocol, cipher, certificate, .. } = self;
        TlsRecord { protocol, cipher, certificate }
    }
}
