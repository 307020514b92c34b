//! Heads of HTTP messages, after their protocol's checks and before routing. They borrow from
//! the buffers of whoever parsed them; how they came over the wire is not known here.

/// One header field as it came. Names are compared ignoring ASCII case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// A token (RFC 9110 §5.1), in the case it came in.
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Is this the field called `name`?
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The protocol a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    H2,
}

impl Version {
    /// As request lines and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::H2 => "HTTP/2.0",
        }
    }
}

/// What a listener speaks under HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As URIs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that URIs of this scheme leave out.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// This many bytes (`Content-Length`, also zero).
    Length(u64),
    /// HTTP/1.1 chunks, trailers after them.
    Chunked,
    /// HTTP/2 data frames without a length known before.
    Stream,
    /// Everything until the connection ends (responses only).
    Close,
}

/// A request head that passed every check of its protocol.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Case-sensitive token.
    pub method: &'a [u8],
    /// What the listener speaks.
    pub scheme: Scheme,
    /// `Host` or `:authority` (of an absolute-form target: its authority) as requested, with
    /// the port if one was given; empty for HTTP/1.0 without `Host`.
    pub authority: &'a [u8],
    /// Origin-form, the raw bytes of path and query: begins with `/`, or is `*` for
    /// `OPTIONS *`.
    pub target: &'a [u8],
    /// What it came in.
    pub version: Version,
    /// In the order they came, without pseudo headers; with `Host` in HTTP/1.
    pub fields: &'a [Field<'a>],
    /// How its body ends; never `Close`.
    pub body: BodyKind,
}

impl<'a> RequestHead<'a> {
    /// The raw path, without the query.
    pub fn path(&self) -> &'a [u8] {
        self.split().0
    }

    /// The raw query, without the `?`; `None` if there is no `?`.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.split().1
    }

    fn split(&self) -> (&'a [u8], Option<&'a [u8]>) {
        match memchr::memchr(b'?', self.target) {
            Some(at) => (&self.target[..at], Some(&self.target[at + 1..])),
            None => (self.target, None),
        }
    }
}

/// A response head that passed every check of its protocol.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 100–599.
    pub status: u16,
    /// Reason phrase, may be empty.
    pub reason: &'a [u8],
    /// In the order they came.
    pub fields: &'a [Field<'a>],
    /// What the target speaks.
    pub version: Version,
    /// How its body ends; `None` for answers that have none whatever their fields say (to
    /// HEAD, 1xx, 204, 304).
    pub body: BodyKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_path_and_query() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a?", "/a", Some("")),
            ("/a?b?c", "/a", Some("b?c")),
            ("/a%3fb", "/a%3fb", None),
            ("*", "*", None),
        ] {
            let head = RequestHead {
                method: b"GET",
                scheme: Scheme::Http,
                authority: b"",
                target: target.as_bytes(),
                version: Version::Http11,
                fields: &[],
                body: BodyKind::None,
            };
            assert_eq!(head.path(), path.as_bytes(), "{target}");
            assert_eq!(head.query(), query.map(str::as_bytes), "{target}");
        }
    }
}
