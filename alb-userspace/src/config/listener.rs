//! Listeners.

use std::{collections::BTreeMap, num::NonZeroU16, ops::RangeInclusive, time::Duration};

use super::{
    backend::PORT,
    cursor::{Field, Object, Range},
    format,
    scope::Scope,
};
use crate::model::{
    Backend, BackendProtocol, Certificate, ExtensionCertificate, Listener, ListenerHttp,
    ListenerProtocol, ListenerTls, SecurityPolicy, TargetSource,
};

const IDLE: RangeInclusive<u32> = 1..=86_400;
const IDLE_TCP: u32 = 1800;
const IDLE_HTTP: u32 = 60;
const CERTIFICATES: usize = 2;
const HSTS_AGE: Range<u32> = Range::new(1..=94_608_000, 31_536_000);
const QPS: RangeInclusive<i64> = 100..=500_000;
const CONNECTIONS: RangeInclusive<i64> = 100..=5_000_000;
const HEADER_BYTES: Range<u32> = Range::new(1024..=1_048_576, 65_536);
const HEADERS: Range<u32> = Range::new(1..=1000, 128);
const REQUEST_LINE: Range<u32> = Range::new(256..=65_536, 16_384);
const BODY_BYTES: Range<i64> = Range::new(0..=1 << 50, 0);
const HEADER_TIMEOUT: Range<u16> = Range::new(1..=3600, 10);
const BODY_IDLE: Range<u16> = Range::new(1..=3600, 60);
const WRITE_IDLE: Range<u16> = Range::new(1..=3600, 60);

const PROTOCOLS: &[(&str, ListenerProtocol)] = &[
    ("Tcp", ListenerProtocol::Tcp),
    ("Tls", ListenerProtocol::Tls),
    ("Http", ListenerProtocol::Http),
    ("Https", ListenerProtocol::Https),
];
const STATUS: &[(&str, bool)] = &[("On", true), ("Off", false)];
const ACTIONS: &[(&str, ())] = &[("Forward", ())];

/// What listeners refer to.
#[derive(Debug)]
pub(super) struct Scopes<'s> {
    pub(super) listeners: &'s Scope,
    pub(super) backends: &'s Scope,
    pub(super) url_maps: &'s Scope,
    pub(super) certificates: &'s Scope,
    pub(super) security_policies: &'s Scope,
    /// The certificates that could be read, by id.
    pub(super) known: &'s BTreeMap<&'s str, &'s Certificate>,
    /// The security policies that could be read, by id.
    pub(super) policies: &'s BTreeMap<&'s str, &'s SecurityPolicy>,
}

/// Reads one listener; `backends` are those of its load balancer that could be read.
pub(super) fn read(
    object: &Object<'_>,
    scopes: &Scopes<'_>,
    backends: &[Backend],
) -> Option<Listener> {
    let name = format::name(object);
    let description = format::description(object);
    let protocol = object.need("protocol").and_then(|field| protocol(&field));
    let port = object.need("port").and_then(|field| field.int(PORT));
    let enabled = object.choice("status", STATUS, true);
    action(object);
    let backend =
        object.need("backend").and_then(|field| backend(&field, scopes, protocol, backends));
    let url_map = object.get("urlMap").and_then(|field| scopes.url_maps.resolve(&field));
    let idle = object.get("connectionIdleTimeSeconds").and_then(|field| field.int(IDLE));
    let (max_qps, max_connections) = object
        .get("limitation")
        .and_then(|field| field.object(|object| Some(limitation(object, protocol))))
        .unwrap_or_default();
    let tls = tls(object, scopes, protocol);
    let http = http(object);
    let protocol = protocol?;
    let (is_http, is_tls) = layers(protocol);
    if !is_tls {
        let what = "is for listeners with protocol Https or Tls";
        only_for(object, &["certificates", "extensionCertificates", "securityPolicy"], what);
    }
    if !is_http {
        only_for(
            object,
            &["urlMap", "limits", "timeouts"],
            "is for listeners with protocol Http or Https",
        );
    }
    if protocol != ListenerProtocol::Https {
        only_for(object, &["hstsEnable", "hstsMaxAge"], "is for listeners with protocol Https");
    }
    let idle = idle.unwrap_or(if is_http { IDLE_HTTP } else { IDLE_TCP });
    let name = name?;
    Some(Listener {
        id: scopes.listeners.id(&name),
        name,
        description,
        protocol,
        port: NonZeroU16::new(port?)?,
        enabled,
        backend: backend?,
        url_map,
        idle_timeout: Duration::from_secs(idle.into()),
        max_connections,
        max_qps,
        tls: is_tls.then_some(tls),
        http: is_http.then_some(http).flatten(),
    })
}

/// Whether a protocol speaks HTTP, and whether it speaks TLS.
fn layers(protocol: ListenerProtocol) -> (bool, bool) {
    match protocol {
        ListenerProtocol::Tcp => (false, false),
        ListenerProtocol::Tls => (false, true),
        ListenerProtocol::Http => (true, false),
        ListenerProtocol::Https => (true, true),
    }
}

fn only_for(object: &Object<'_>, keys: &[&'static str], what: &str) {
    for field in keys.iter().filter_map(|key| object.get(key)) {
        field.reject(what);
    }
}

fn protocol(field: &Field<'_>) -> Option<ListenerProtocol> {
    if field.peek().is_some_and(|text| text.eq_ignore_ascii_case("udp")) {
        field.reject("UDP is not offered, allowed is Tcp, Tls, Http or Https");
        return None;
    }
    field.choice(PROTOCOLS)
}

fn action(object: &Object<'_>) {
    let Some(field) = object.get("action") else { return };
    if field.peek().is_some_and(|text| text.eq_ignore_ascii_case("redirect")) {
        field.reject("a listener always forwards; redirect with a rule of a url map");
    } else {
        field.choice(ACTIONS);
    }
}

fn backend(
    field: &Field<'_>,
    scopes: &Scopes<'_>,
    protocol: Option<ListenerProtocol>,
    backends: &[Backend],
) -> Option<String> {
    let id = scopes.backends.resolve(field)?;
    let backend = backends.iter().find(|backend| backend.id == id);
    if backend.is_some_and(|backend| backend.source == TargetSource::None) {
        field.warn("the backend has no targets yet: every connection is refused");
    }
    if let (Some(backend), Some(protocol)) = (backend, protocol) {
        match (backend.protocol, layers(protocol).0) {
            (BackendProtocol::Http, true) | (BackendProtocol::Tcp, false) => {}
            (BackendProtocol::Http, false) => field.reject(
                "is an Http backend, which pairs with Http and Https listeners; this listener needs a Tcp backend",
            ),
            (BackendProtocol::Tcp, true) => field.reject(
                "is a Tcp backend, which pairs with Tcp and Tls listeners; this listener needs an Http backend",
            ),
        }
    }
    Some(id)
}

fn limitation(
    object: &Object<'_>,
    protocol: Option<ListenerProtocol>,
) -> (Option<u32>, Option<u32>) {
    let qps = object.get("qps");
    if let (Some(field), Some(ListenerProtocol::Tcp | ListenerProtocol::Tls)) = (&qps, protocol) {
        field.reject("is for listeners with protocol Http or Https");
        return (None, None);
    }
    (
        qps.and_then(|field| limit(&field, &QPS)),
        object.get("activeConnections").and_then(|field| limit(&field, &CONNECTIONS)),
    )
}

/// A limit, or −1 for none.
fn limit(field: &Field<'_>, range: &RangeInclusive<i64>) -> Option<u32> {
    let allowed = format!("-1 (unlimited) or {}–{}", range.start(), range.end());
    let number = field.integer(&allowed)?;
    if number != -1 && !range.contains(&number) {
        field.reject(format!("allowed is {allowed}"));
    }
    u32::try_from(number).ok()
}

fn tls(
    object: &Object<'_>,
    scopes: &Scopes<'_>,
    protocol: Option<ListenerProtocol>,
) -> ListenerTls {
    let is_tls = protocol.is_some_and(|protocol| layers(protocol).1);
    let field = if is_tls { object.need("certificates") } else { object.get("certificates") };
    let certificates = field.map(|field| certificates(&field, scopes)).unwrap_or_default();
    let mut extension_certificates: Vec<ExtensionCertificate> = Vec::new();
    for item in object.list("extensionCertificates") {
        let Some(extension) = item.object(|object| {
            let certificate =
                object.need("certificate").and_then(|field| scopes.certificates.resolve(&field));
            let field = object.need("domain");
            let domain = field.as_ref().and_then(|field| format::domain(field, false));
            if let (Some(field), Some(domain), Some(id)) = (&field, &domain, &certificate)
                && let Some(known) = scopes.known.get(&**id)
                && !known.facts.covers(domain)
            {
                field.warn(not_covered(known));
            }
            Some(ExtensionCertificate { certificate: certificate?, domain: domain? })
        }) else {
            continue;
        };
        if extension_certificates.iter().any(|other| other.domain == extension.domain) {
            item.complain(format!("the domain {} is named twice", extension.domain));
        }
        extension_certificates.push(extension);
    }
    let security_policy = object.get("securityPolicy").and_then(|field| {
        let id = scopes.security_policies.resolve(&field)?;
        if let Some(policy) = scopes.policies.get(&*id) {
            let known = |id: &String| scopes.known.get(&**id).copied();
            let defaults: Vec<_> = certificates.iter().filter_map(known).collect();
            let named = extension_certificates.iter().map(|extension| &extension.certificate);
            fits(&field, policy, &defaults, named.filter_map(known));
        }
        Some(id)
    });
    let hsts = object.bool("hstsEnable", false);
    let age = object.int("hstsMaxAge", &HSTS_AGE);
    ListenerTls {
        certificates,
        extension_certificates,
        security_policy,
        hsts_max_age: hsts.then(|| Duration::from_secs(age.into())),
    }
}

fn certificates(field: &Field<'_>, scopes: &Scopes<'_>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut algorithms = Vec::new();
    let items = field.items();
    if field.is_list() && !(1..=CERTIFICATES).contains(&items.len()) {
        field.complain(format!("a listener has 1–{CERTIFICATES} default certificates"));
    }
    for item in items {
        let Some(id) = scopes.certificates.resolve(&item) else { continue };
        if ids.contains(&id) {
            item.reject("is named twice");
        } else if let Some(known) = scopes.known.get(&*id) {
            let algorithm = known.facts.algorithm;
            if algorithms.contains(&algorithm) {
                item.reject(format!(
                    "has a key of kind {algorithm} too; two default certificates must differ in it, so that each client gets the one it can use"
                ));
            }
            algorithms.push(algorithm);
        }
        ids.push(id);
    }
    ids
}

/// Certificates that no cipher of the policy goes with: a fault if that are all of the defaults.
fn fits<'c>(
    field: &Field<'_>,
    policy: &SecurityPolicy,
    defaults: &[&'c Certificate],
    named: impl Iterator<Item = &'c Certificate>,
) {
    let useless = |certificate: &&&Certificate| !policy.serves(certificate.facts.algorithm);
    let all = !defaults.is_empty() && defaults.iter().all(|one| useless(&one));
    if all {
        let kinds: Vec<_> = defaults.iter().map(|one| one.facts.algorithm.to_string()).collect();
        field.reject(format!(
            "none of its ciphers goes with the key of a default certificate ({}): no client could connect",
            kinds.join(", ")
        ));
        return;
    }
    let mut told: Vec<&str> = Vec::new();
    for certificate in defaults.iter().copied().chain(named).filter(|one| useless(&one)) {
        let Certificate { name, facts, .. } = certificate;
        if !told.contains(&&**name) {
            told.push(name);
            field.warn(format!(
                "none of its ciphers goes with the key of certificate {name} ({}), which is never served",
                facts.algorithm
            ));
        }
    }
}

fn not_covered(certificate: &Certificate) -> String {
    match &certificate.facts.names[..] {
        [] => format!(
            "certificate {} names no host at all (no subjectAltName); clients will refuse it",
            certificate.name
        ),
        names => format!(
            "certificate {} is not for this domain but for {}; clients will refuse it",
            certificate.name,
            names.join(", ")
        ),
    }
}

fn http(object: &Object<'_>) -> Option<ListenerHttp> {
    let mut http = ListenerHttp {
        header_bytes: HEADER_BYTES.default,
        headers: HEADERS.default,
        request_line_bytes: REQUEST_LINE.default,
        body_bytes: u64::try_from(BODY_BYTES.default).ok()?,
        header_timeout: Duration::from_secs(HEADER_TIMEOUT.default.into()),
        body_idle_timeout: Duration::from_secs(BODY_IDLE.default.into()),
        write_idle_timeout: Duration::from_secs(WRITE_IDLE.default.into()),
    };
    if let Some(field) = object.get("limits") {
        field.object(|object| {
            http.header_bytes = object.int("headerBytes", &HEADER_BYTES);
            http.headers = object.int("headers", &HEADERS);
            http.request_line_bytes = object.int("requestLineBytes", &REQUEST_LINE);
            http.body_bytes = u64::try_from(object.int("bodyBytes", &BODY_BYTES)).ok()?;
            Some(())
        });
    }
    if let Some(field) = object.get("timeouts") {
        field.object(|object| {
            let seconds =
                |key, rule: &Range<u16>| Duration::from_secs(object.int(key, rule).into());
            http.header_timeout = seconds("headerSeconds", &HEADER_TIMEOUT);
            http.body_idle_timeout = seconds("bodyIdleSeconds", &BODY_IDLE);
            http.write_idle_timeout = seconds("writeIdleSeconds", &WRITE_IDLE);
            Some(())
        });
    }
    Some(http)
}
