//! The `node` section: what is local to this host.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    cursor::{Field, Object, Range},
    files, format,
};
use crate::model::{
    AccessKey, AccessLog, Api, ApiTls, CookieKey, DatapathMode, LogFormat, Node, PortRange, Quotas,
    Snat,
};

const FLOWS: Range<u32> = Range::new(1024..=16_777_216, 1_048_576);
const WORKERS: Range<u16> = Range::new(0..=1024, 0);
const RATE_LIMIT: Range<u32> = Range::new(0..=10_000_000, 0);
const LOG_BYTES: Range<i64> = Range::new(65_536..=1 << 40, 104_857_600);
const LOG_KEEP: Range<u32> = Range::new(0..=1000, 5);
const QUOTA: std::ops::RangeInclusive<u32> = 0..=1_000_000;
const REGION: &str = "local";
const ZONE: &str = "local-a";
pub(crate) const BPFFS: &str = "/sys/fs/bpf/alb";
const STATE_DIR: &str = "/var/lib/alb";
const SOCKET: &str = "alb.sock";
/// Below the kernel's ephemeral range, so that the host's own connections do not collide.
pub(crate) const SNAT_PORTS: PortRange = PortRange { first: 10_000, last: 29_999 };
/// `sun_path` holds 108 bytes with the final zero.
const SOCKET_BYTES: usize = 107;
/// Fewest characters of a cookie key: what can be guessed can be forged.
const COOKIE_KEY: usize = 32;
/// `IFNAMSIZ` is 16 bytes with the final zero.
const INTERFACE_BYTES: usize = 15;

const DATAPATHS: &[(&str, DatapathMode)] = &[
    ("auto", DatapathMode::Auto),
    ("xdp", DatapathMode::Xdp),
    ("xdp-generic", DatapathMode::XdpGeneric),
    ("tc", DatapathMode::Tc),
    ("proxy", DatapathMode::Proxy),
];
const FORMATS: &[(&str, LogFormat)] =
    &[("json", LogFormat::Json), ("common", LogFormat::Common), ("text", LogFormat::Text)];
const ACCESS: &[(&str, bool)] = &[("ReadOnly", false), ("ReadWrite", true)];

pub(super) fn read(object: &Object<'_>) -> Option<Node> {
    let name = object.get("name").map(|field| host_name(&field));
    let region = object.get("region").map(|field| format::name_of(&field));
    let zones = zones(object);
    let datapath = object.choice("datapath", DATAPATHS, DatapathMode::default());
    let interfaces = interfaces(object, datapath);
    let base = object.whole().cx().base;
    let bpffs = object.get("bpffs").map_or_else(|| Some(BPFFS.into()), |field| field.file());
    let state_dir =
        object.get("stateDir").map_or_else(|| Some(base.join(STATE_DIR)), |field| field.file());
    let socket = socket(object, state_dir.as_deref());
    let snat = object.get("snat").map_or_else(
        || Some(Snat { addresses: Vec::new(), port_range: SNAT_PORTS }),
        |field| field.object(|object| Some(snat(object))),
    );
    let flows = object.int("flows", &FLOWS);
    let workers = object.int("workers", &WORKERS);
    let access_log = object.get("accessLog").map(|field| field.object(access_log));
    let quotas = object
        .get("quotas")
        .map_or_else(|| Some(QUOTAS), |field| field.object(|object| Some(quotas(object))));
    let cookie_key = cookie_key(object);
    let api = object.get("api").map(|field| field.object(api));
    Some(Node {
        name: name.unwrap_or_else(|| Some(this_host()))?,
        region: region.unwrap_or_else(|| Some(REGION.to_owned()))?,
        zones,
        interfaces,
        datapath,
        bpffs: bpffs?,
        state_dir: state_dir?,
        socket: socket?,
        snat: snat?,
        flows,
        workers: workers.into(),
        access_log: flatten(access_log)?,
        quotas: quotas?,
        cookie_key: flatten(cookie_key)?,
        api: flatten(api)?,
    })
}

/// Stands in for a node that could not be read, while the rest of the file is.
pub(super) fn broken() -> Node {
    Node {
        name: String::new(),
        region: String::new(),
        zones: Vec::new(),
        interfaces: Vec::new(),
        datapath: DatapathMode::default(),
        bpffs: PathBuf::new(),
        state_dir: PathBuf::new(),
        socket: PathBuf::new(),
        snat: Snat { addresses: Vec::new(), port_range: SNAT_PORTS },
        flows: FLOWS.default,
        workers: 0,
        access_log: None,
        quotas: QUOTAS,
        cookie_key: None,
        api: None,
    }
}

/// Nothing given is fine, something wrong is not.
#[expect(clippy::option_option, reason = "not given, given wrong and given right differ")]
fn flatten<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    given.map_or(Some(None), |read| read.map(Some))
}

fn this_host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn host_name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let fine = |char: char| char.is_alphanumeric() || matches!(char, '.' | '_' | '-');
    if (1..=64).contains(&text.chars().count()) && text.chars().all(fine) {
        return Some(text.to_owned());
    }
    field.reject("allowed are 1–64 letters, digits, `.`, `_` and `-`");
    None
}

/// `zones: [a, b]`, or `zone: a` for one.
fn zones(object: &Object<'_>) -> Vec<String> {
    let one = object.get("zone");
    let many = object.get("zones");
    if let (Some(one), Some(_)) = (&one, &many) {
        one.reject("give either `zone` or `zones`");
    }
    if let Some(many) = many {
        let zones = format::zones(&many);
        if many.is_list() && many.items().is_empty() {
            many.complain("at least one zone is needed");
        }
        return zones;
    }
    let zone = one.map_or_else(|| Some(ZONE.to_owned()), |one| format::name_of(&one));
    zone.into_iter().collect()
}

fn interfaces(object: &Object<'_>, datapath: DatapathMode) -> Vec<String> {
    let field = match datapath {
        DatapathMode::Proxy => object.get("interfaces"),
        DatapathMode::Auto | DatapathMode::Xdp | DatapathMode::XdpGeneric | DatapathMode::Tc => {
            object.need("interfaces")
        }
    };
    let Some(field) = field else { return Vec::new() };
    let mut interfaces: Vec<String> = Vec::new();
    let items = field.items();
    if field.is_list() && items.is_empty() && datapath != DatapathMode::Proxy {
        field.complain("at least one interface is needed");
    }
    for item in items {
        let Some(name) = item.text() else { continue };
        let fine = |char: char| char.is_ascii_graphic() && char != '/';
        if !(1..=INTERFACE_BYTES).contains(&name.len())
            || !name.chars().all(fine)
            || matches!(name, "." | "..")
        {
            item.reject(format!(
                "an interface name has 1–{INTERFACE_BYTES} printable characters other than `/`"
            ));
        } else if interfaces.iter().any(|known| known == name) {
            item.reject("is named twice");
        } else {
            interfaces.push(name.to_owned());
        }
    }
    interfaces
}

fn socket(object: &Object<'_>, state_dir: Option<&Path>) -> Option<PathBuf> {
    let field = object.get("socket");
    let text = field.as_ref().map_or(Some(SOCKET), Field::text)?;
    if let Some(field) = field.as_ref().filter(|_| text.is_empty() || text.contains('\0')) {
        field.reject("must be the path of a socket");
        return None;
    }
    let path = state_dir?.join(text);
    if path.as_os_str().len() > SOCKET_BYTES {
        let message = format!(
            "the path {} of the control socket is longer than {SOCKET_BYTES} bytes",
            path.display()
        );
        field.as_ref().unwrap_or(object.whole()).complain(message);
        return None;
    }
    Some(path)
}

fn snat(object: &Object<'_>) -> Snat {
    let mut addresses = Vec::new();
    for item in object.list("addresses") {
        let Some(address) = format::address(&item) else { continue };
        if addresses.contains(&address) {
            item.reject("is named twice");
        } else {
            addresses.push(address);
        }
    }
    let port_range = object.get("portRange").and_then(|field| ports(&field)).unwrap_or(SNAT_PORTS);
    Snat { addresses, port_range }
}

fn ports(field: &Field<'_>) -> Option<PortRange> {
    const ALLOWED: &str = "must be a range within 1024–65535 like 10000-29999";
    let parsed = field.text()?.split_once('-').and_then(|(first, last)| {
        Some(PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
    });
    let parsed = parsed.filter(|range| range.first >= 1024 && range.first <= range.last);
    if parsed.is_none() {
        field.reject(ALLOWED);
    }
    parsed
}

fn access_log(object: &Object<'_>) -> Option<AccessLog> {
    let file = object.need("file").and_then(|field| field.file());
    let format = object.choice("format", FORMATS, LogFormat::default());
    let max_bytes = object.int("maxBytes", &LOG_BYTES);
    let keep = object.int("keep", &LOG_KEEP);
    let tcp_flows = object.bool("tcpFlows", false);
    let max_bytes = u64::try_from(max_bytes).ok()?;
    Some(AccessLog { file: file?, format, max_bytes, keep, tcp_flows })
}

/// What the product grants. Not documented for policies and configurations: as for listeners.
const QUOTAS: Quotas = Quotas {
    load_balancers: 5,
    listeners: 20,
    backends: 20,
    target_groups: 20,
    targets: 100,
    url_maps: 50,
    rules: 50,
    extension_certificates: 25,
    security_groups: 4,
    security_policies: 20,
    customized_configurations: 20,
};

fn quotas(object: &Object<'_>) -> Quotas {
    let quota = |key, default| object.int(key, &Range::new(QUOTA, default));
    Quotas {
        load_balancers: quota("loadbalancer", QUOTAS.load_balancers),
        listeners: quota("listener", QUOTAS.listeners),
        backends: quota("backend", QUOTAS.backends),
        target_groups: quota("target_group", QUOTAS.target_groups),
        targets: quota("target", QUOTAS.targets),
        url_maps: quota("urlMap", QUOTAS.url_maps),
        rules: quota("rules", QUOTAS.rules),
        extension_certificates: quota("extensionCertificate", QUOTAS.extension_certificates),
        security_groups: quota("securityGroup", QUOTAS.security_groups),
        security_policies: quota("securityPolicy", QUOTAS.security_policies),
        customized_configurations: quota(
            "customizedConfiguration",
            QUOTAS.customized_configurations,
        ),
    }
}

/// `cookieKey`, or `cookieKeyFile` with the same text.
#[expect(clippy::option_option, reason = "not given, given wrong and given right differ")]
fn cookie_key(object: &Object<'_>) -> Option<Option<CookieKey>> {
    let inline = object.get("cookieKey");
    let file = object.get("cookieKeyFile");
    if let (Some(inline), Some(_)) = (&inline, &file) {
        inline.complain("give either `cookieKey` or `cookieKeyFile`");
        return Some(None);
    }
    let field = inline.as_ref().or(file.as_ref())?;
    let text = if inline.is_some() {
        field.text().and_then(|text| secret(field, text))
    } else {
        secret_file(field)
    };
    let long = text.filter(|text| {
        let is_long = text.len() >= COOKIE_KEY;
        if !is_long {
            field.complain(format!(
                "a cookie key has at least {COOKIE_KEY} characters; `openssl rand -hex 32` makes one"
            ));
        }
        is_long
    });
    Some(long.map(CookieKey))
}

fn api(object: &Object<'_>) -> Option<Api> {
    let listen = object.need("listen").and_then(|field| listen(&field));
    let tls = object.get("tls").map(|field| field.object(api_tls));
    let rate_limit_per_minute = object.int("rateLimitPerMinute", &RATE_LIMIT);
    let mut access_keys: Vec<AccessKey> = Vec::new();
    for item in object.list("accessKeys") {
        let Some(key) = item.object(access_key) else { continue };
        if access_keys.iter().any(|known| known.id == key.id) {
            item.complain(format!("the accessKeyId {} is already used", key.id));
        }
        access_keys.push(key);
    }
    Some(Api { listen: listen?, tls: flatten(tls)?, rate_limit_per_minute, access_keys })
}

fn listen(field: &Field<'_>) -> Option<SocketAddr> {
    match field.text()?.parse() {
        Ok(listen) => Some(listen),
        Err(_not_an_address) => {
            field.reject("must be an address with a port like 127.0.0.1:9180 or [::1]:9180");
            None
        }
    }
}

fn api_tls(object: &Object<'_>) -> Option<ApiTls> {
    let cert_file = object.need("certFile").and_then(|field| files::existing(&field));
    let key_file = object.need("keyFile").and_then(|field| {
        let path = files::existing(&field)?;
        files::warn_if_readable(&field, &path);
        Some(path)
    });
    Some(ApiTls { cert_file: cert_file?, key_file: key_file? })
}

fn access_key(object: &Object<'_>) -> Option<AccessKey> {
    let id = object.need("accessKeyId").and_then(|field| {
        let text = field.text()?;
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(text.to_owned());
        }
        field.reject("allowed are 1–128 printable ASCII characters without spaces");
        None
    });
    let inline = object.get("secretAccessKey");
    let file = object.get("secretAccessKeyFile");
    let write = object.choice("access", ACCESS, true);
    let secret = match (inline, file) {
        (Some(inline), None) => inline.text().and_then(|text| secret(&inline, text)),
        (None, Some(file)) => secret_file(&file),
        (Some(inline), Some(_)) => {
            inline.complain("give either `secretAccessKey` or `secretAccessKeyFile`");
            None
        }
        (None, None) => {
            object.whole().complain("`secretAccessKey` or `secretAccessKeyFile` is missing");
            None
        }
    };
    Some(AccessKey { id: id?, secret: secret?, write })
}

fn secret_file(field: &Field<'_>) -> Option<String> {
    let path = field.file()?;
    let text = files::read(field, &path)?;
    files::warn_if_readable(field, &path);
    secret(field, text.trim())
}

fn secret(field: &Field<'_>, text: &str) -> Option<String> {
    if (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    field.complain("a secret has 1–256 printable ASCII characters without spaces");
    None
}
