//! How names, addresses, domains and paths look: readers that several kinds of object share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::{Field, Object};

/// Most characters of a name.
const NAME: usize = 32;
/// Most characters of a description.
const DESCRIPTION: usize = 256;
/// Most characters of a domain.
const DOMAIN: usize = 110;

/// `name`: 1–32 Chinese characters, letters, digits, `_` and `-`.
pub(super) fn name(object: &Object<'_>) -> Option<String> {
    object.need("name").and_then(|field| name_of(&field))
}

/// A value that is a name.
pub(super) fn name_of(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if (1..=NAME).contains(&text.chars().count()) && text.chars().all(in_name) {
        return Some(text.to_owned());
    }
    field.reject(format!("allowed are 1–{NAME} letters, digits, Chinese characters, `_` and `-`"));
    None
}

fn in_name(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || matches!(char, '_' | '-' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// `description`: up to 256 characters of any kind.
pub(super) fn description(object: &Object<'_>) -> String {
    let Some(field) = object.get("description") else { return String::new() };
    let text = field.text().unwrap_or_default();
    if text.chars().count() > DESCRIPTION {
        field.reject(format!("allowed are {DESCRIPTION} characters"));
    }
    text.to_owned()
}

/// Names of zones; none when the key is missing.
pub(super) fn zones(field: &Field<'_>) -> Vec<String> {
    let mut zones: Vec<String> = Vec::new();
    for item in field.items() {
        let Some(zone) = name_of(&item) else { continue };
        if zones.contains(&zone) {
            item.reject("is named twice");
        } else {
            zones.push(zone);
        }
    }
    zones
}

/// An address packets can be sent to.
pub(super) fn address(field: &Field<'_>) -> Option<IpAddr> {
    let text = field.text()?;
    let address: IpAddr = match text.parse() {
        Ok(address) => address,
        Err(_not_an_address) => {
            field.reject("must be an IPv4 or IPv6 address");
            return None;
        }
    };
    unicast(field, address).then_some(address)
}

/// An IPv4 address packets can be sent to.
pub(super) fn ipv4(field: &Field<'_>) -> Option<Ipv4Addr> {
    match address(field)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => {
            field.reject("must be an IPv4 address");
            None
        }
    }
}

/// An IPv6 address packets can be sent to.
pub(super) fn ipv6(field: &Field<'_>) -> Option<Ipv6Addr> {
    match address(field)? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => {
            field.reject("must be an IPv6 address");
            None
        }
    }
}

fn unicast(field: &Field<'_>, address: IpAddr) -> bool {
    let what = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_multicast() {
        "a multicast address"
    } else {
        match address {
            IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => "a reserved address",
            IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
            IpAddr::V4(_) | IpAddr::V6(_) => return true,
        }
    };
    field.reject(format!("is {what}; a unicast address is needed"));
    false
}

/// A prefix whose host part is zero.
pub(super) fn prefix(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    let prefix: IpNet = match text.parse() {
        Ok(prefix) => prefix,
        Err(_not_a_prefix) => {
            field.reject("must be a prefix like 198.18.0.0/24 or 2001:db8::/64");
            return None;
        }
    };
    if prefix.trunc() != prefix {
        field.reject(format!("the host part must be zero: {}", prefix.trunc()));
        return None;
    }
    Some(prefix)
}

/// An IPv4 prefix whose host part is zero.
pub(super) fn prefix4(field: &Field<'_>) -> Option<Ipv4Net> {
    match prefix(field)? {
        IpNet::V4(prefix) => Some(prefix),
        IpNet::V6(_) => {
            field.reject("must be an IPv4 prefix");
            None
        }
    }
}

/// An IPv6 prefix whose host part is zero.
pub(super) fn prefix6(field: &Field<'_>) -> Option<Ipv6Net> {
    match prefix(field)? {
        IpNet::V6(prefix) => Some(prefix),
        IpNet::V4(_) => {
            field.reject("must be an IPv6 prefix");
            None
        }
    }
}

/// What is wrong with a domain without its wildcard; `None` = nothing.
pub(super) fn domain_fault(domain: &str) -> Option<&'static str> {
    let edge = |char: char| matches!(char, '.' | '-');
    if !domain.chars().all(|char| char.is_ascii_alphanumeric() || edge(char)) {
        Some("a domain has letters, digits, `.` and `-` only")
    } else if !domain.contains('.') {
        Some("a domain has at least one `.`")
    } else if domain.starts_with(edge) || domain.ends_with(edge) {
        Some("a domain neither starts nor ends with `.` or `-`")
    } else if ["..", ".-", "-."].iter().any(|pair| domain.contains(pair)) {
        Some("in a domain `.` has letters or digits on both sides")
    } else {
        None
    }
}

/// `www.example.com`, `*.example.com` and, where `suffix_star`, `www.example.*`; lower case.
pub(super) fn domain(field: &Field<'_>, suffix_star: bool) -> Option<String> {
    let text = field.text()?;
    if text.chars().count() > DOMAIN {
        field.reject(format!("allowed are {DOMAIN} characters"));
        return None;
    }
    // The part beside a star need not have a dot of its own: `*.test`, `api.*`.
    let fault = if let Some(rest) = text.strip_prefix("*.") {
        domain_fault(&format!("x.{rest}"))
    } else if let Some(rest) = text.strip_suffix(".*").filter(|_| suffix_star) {
        domain_fault(&format!("{rest}.x"))
    } else if text.contains('*') {
        Some(if suffix_star {
            "a wildcard is `*.` in front or `.*` at the end"
        } else {
            "a wildcard is `*.` in front"
        })
    } else {
        domain_fault(text)
    };
    if let Some(fault) = fault {
        field.reject(fault);
        return None;
    }
    Some(text.to_ascii_lowercase())
}
