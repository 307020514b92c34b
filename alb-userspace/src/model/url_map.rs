//! Url maps: which request goes to which backend, and what is changed on the way.

/// A routing table; takes effect on the http and https listeners that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlMap {
    /// Derived id, `urlmap-…`.
    pub id: String,
    /// Name, unique in its load balancer.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// In file order; host and path are unique together.
    pub rules: Vec<Rule>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Derived id, `rule-…`.
    pub id: String,
    /// `None` = every host.
    pub host: Option<DomainPattern>,
    /// Which paths.
    pub path: PathPattern,
    /// What happens to requests that match.
    pub action: RouteAction,
    /// Changes to the response's header.
    pub post_actions: Vec<HeaderAction>,
}

/// A host to match; lower case. Exact before the longest suffix before the longest prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `www.example.com` or an IPv4 address.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`.
    Suffix(String),
    /// `www.example.*`, kept as `www.example.`.
    Prefix(String),
}

/// A path to match, case-sensitive. Exact before the longest prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// The whole path.
    Exact(String),
    /// `/api/*`, kept as `/api/`.
    Prefix(String),
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// It goes to a backend.
    Forward {
        /// Id of an http backend of the same load balancer.
        backend: String,
        /// Change of host, path or query.
        rewrite: Option<Rewrite>,
        /// Id of an http backend that gets a copy; never `backend`.
        mirror: Option<String>,
        /// Changes to the request's header.
        headers: Vec<HeaderAction>,
    },
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// Where a client is sent; `None` = as in its request. At least one is `Some`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme.
    pub protocol: Option<RedirectProtocol>,
    /// Port, 1–65535.
    pub port: Option<u16>,
    /// Host.
    pub host: Option<String>,
    /// Path, starts with `/`.
    pub path: Option<String>,
    /// Query without the leading `?`.
    pub query: Option<String>,
    /// 301, 302, 307 or 308.
    pub status: u16,
}

/// Scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectProtocol {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// What a target sees instead; `None` = as the client sent it. At least one is `Some`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Host; may hold `${host}`.
    pub host: Option<String>,
    /// Path; may hold `${path}`; a `*` takes what the rule's `*` matched.
    pub path: Option<String>,
    /// Query; may hold `${query}`.
    pub query: Option<String>,
}

/// A change to a header field. A name occurs once in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// Set a field, replacing what is there.
    Insert {
        /// Field name.
        key: String,
        /// Field value.
        value: HeaderValue,
    },
    /// Remove a field.
    Delete {
        /// Field name.
        key: String,
    },
}

/// Value of an inserted header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// What the balancer knows under this `X-Forwarded-*` name.
    System(&'static str),
    /// Text as given: printable ASCII.
    Custom(String),
}
