//! What a leaf says, in the words of the model; and what of it deserves a warning.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use x509_parser::{extensions::GeneralName, prelude::X509Certificate, time::ASN1Time};

use crate::model::{CertificateFacts, KeyAlgorithm};

const DAY: Duration = Duration::from_hours(24);
/// 9999-12-31 23:59:59.
const LAST: u64 = 253_402_300_799;
/// An expiry is warned of from this long before.
pub const EXPIRY_NOTICE: Duration = Duration::from_hours(30 * 24);

pub(super) fn of(leaf: &X509Certificate<'_>, algorithm: KeyAlgorithm) -> CertificateFacts {
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    // A `subjectAltName` that cannot be read names nothing.
    let alternative = leaf.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        } else if let GeneralName::IPAddress(octets) = name {
            addresses.extend(address(octets));
        }
    }
    let validity = leaf.validity();
    CertificateFacts {
        algorithm,
        serial: serial(leaf),
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        names,
        addresses,
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
    }
}

/// Upper-case hexadecimal, whole octets.
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    let octets = certificate.serial.to_bytes_be();
    let digits: Vec<String> = octets.iter().map(|octet| format!("{octet:02X}")).collect();
    digits.concat()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Certificates may name years from 1950 on, and the last hours of 9999 in another time zone; the
/// dates of logs and headers (RFC 9110 §5.6.7) are of 1970 to 9999.
fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// What somebody should do something about: expired, about to expire, not valid yet, no names.
pub fn warnings(facts: &CertificateFacts, now: SystemTime) -> Vec<String> {
    let mut found = Vec::new();
    let date = httpdate::fmt_http_date;
    match facts.not_after.duration_since(now) {
        Err(_) => found.push(format!("the certificate expired on {}", date(facts.not_after))),
        Ok(left) if left <= EXPIRY_NOTICE => found.push(format!(
            "the certificate expires in {} days, on {}",
            left.as_secs() / DAY.as_secs(),
            date(facts.not_after)
        )),
        Ok(_) => {}
    }
    if now < facts.not_before {
        found.push(format!("the certificate is not valid before {}", date(facts.not_before)));
    }
    found
}
