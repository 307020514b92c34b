//! Which of the fields that the proxy cares for a name is. Most names are none of them and are
//! told apart by their length alone.

use smallvec::SmallVec;

use crate::proxy::message::Field;

/// A field the proxy handles itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Connection,
    /// Crosses no hop, without further meaning here.
    HopByHop,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    ContentLength,
    Expect,
    Host,
    Cookie,
    XRequestId,
    XForwardedFor,
    XForwardedProto,
    XForwardedPort,
    XForwardedLbIp,
    XForwardedHost,
    XForwardedClientPort,
    StrictTransportSecurity,
    /// `Proxy`: CGI makes the setting `HTTP_PROXY` of it.
    Proxy,
    /// Any other: passes.
    Other,
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            4 => &[(b"host", Self::Host)],
            5 => &[(b"proxy", Self::Proxy)],
            6 => &[(b"cookie", Self::Cookie), (b"expect", Self::Expect)],
            7 => &[(b"upgrade", Self::Upgrade), (b"trailer", Self::Trailer)],
            10 => &[(b"connection", Self::Connection), (b"keep-alive", Self::HopByHop)],
            12 => &[(b"x-request-id", Self::XRequestId)],
            14 => &[(b"content-length", Self::ContentLength), (b"http2-settings", Self::HopByHop)],
            15 => &[(b"x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                (b"x-forwarded-host", Self::XForwardedHost),
                (b"x-forwarded-port", Self::XForwardedPort),
                (b"x-forwarded-lbip", Self::XForwardedLbIp),
                (b"proxy-connection", Self::HopByHop),
            ],
            17 => &[
                (b"x-forwarded-proto", Self::XForwardedProto),
                (b"transfer-encoding", Self::TransferEncoding),
            ],
            18 => &[(b"proxy-authenticate", Self::HopByHop)],
            19 => &[(b"proxy-authorization", Self::HopByHop)],
            23 => &[(b"x-forwarded-client-port", Self::XForwardedClientPort)],
            25 => &[(b"strict-transport-security", Self::StrictTransportSecurity)],
            _ => &[],
        };
        for (candidate, kind) in candidates {
            if same(name, candidate) && (kind.has_alias() || !name.contains(&b'_')) {
                return *kind;
            }
        }
        Self::Other
    }

    /// CGI, WSGI and their like cannot tell `X_Forwarded_For` from `X-Forwarded-For`, so for
    /// fields that are trusted the two are one.
    fn has_alias(self) -> bool {
        matches!(
            self,
            Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedPort
                | Self::XForwardedLbIp
                | Self::XForwardedHost
                | Self::XForwardedClientPort
                | Self::XRequestId
        )
    }
}

/// Equal but for ASCII case, and `_` for `-`; both have the same length, `lower` is lower case.
fn same(name: &[u8], lower: &[u8]) -> bool {
    // The last byte differs in most of what has the same length.
    name.last().map(u8::to_ascii_lowercase) == lower.last().copied()
        && name.iter().zip(lower).all(|(byte, lower)| {
            byte.to_ascii_lowercase() == *lower || (*byte == b'_' && *lower == b'-')
        })
}

/// The names that `Connection` lists beside those that never cross anyway.
pub(super) type Listed<'a> = SmallVec<[&'a [u8]; 4]>;

/// What the `Connection` fields list. Names whose loss would let a client hide what the target
/// trusts or needs are not taken from the list.
pub(super) fn listed<'a>(fields: &[Field<'a>]) -> Listed<'a> {
    let mut listed = Listed::new();
    for field in fields {
        if field.name.len() != 10 || !field.is("connection") {
            continue;
        }
        for token in tokens(field.value) {
            if is(token, b"close") || is(token, b"keep-alive") {
                continue;
            }
            match Name::of(token) {
                // TE and Upgrade are hop-by-hop whether they are listed or not; the others
                // are for every recipient.
                Name::Te
                | Name::Upgrade
                | Name::Connection
                | Name::HopByHop
                | Name::TransferEncoding
                | Name::Host
                | Name::ContentLength
                | Name::Cookie
                | Name::XRequestId
                | Name::XForwardedFor
                | Name::XForwardedProto
                | Name::XForwardedPort
                | Name::XForwardedLbIp
                | Name::XForwardedHost
                | Name::XForwardedClientPort
                | Name::StrictTransportSecurity => {}
                Name::Trailer | Name::Expect | Name::Proxy | Name::Other => {
                    if !is(token, b"authorization") && !is(token, b"cache-control") {
                        listed.push(token);
                    }
                }
            }
        }
    }
    listed
}

/// The members of a comma-separated list, without the white space around them.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

pub(super) fn is(token: &[u8], lower: &[u8]) -> bool {
    token.eq_ignore_ascii_case(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, kind) in [
            ("TE", Name::Te),
            ("te", Name::Te),
            ("Host", Name::Host),
            ("hosT", Name::Host),
            ("cOOkie", Name::Cookie),
            ("Expect", Name::Expect),
            ("transfer-Encoding", Name::TransferEncoding),
            ("Content-Length", Name::ContentLength),
            ("Keep-Alive", Name::HopByHop),
            ("Proxy-Connection", Name::HopByHop),
            ("Proxy-Authorization", Name::HopByHop),
            ("X-Forwarded-For", Name::XForwardedFor),
            ("X_Forwarded-For", Name::XForwardedFor),
            ("x_forwarded_client_port", Name::XForwardedClientPort),
            ("X-Forwarded-LBIP", Name::XForwardedLbIp),
            ("Transfer_Encoding", Name::Other),
            ("Content_Length", Name::Other),
            ("X-Forwarded-Fox", Name::Other),
            ("", Name::Other),
            ("Accept", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), kind, "{name}");
        }
    }
}
