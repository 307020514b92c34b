//! The cipher suites a security policy may name, with the TLS versions each serves: the list
//! of the product's `SecurityPolicySpec`.

use super::cursor::{Field, nearest};
use crate::model::{Cipher, TlsVersion};

/// TLS 1.3 only.
const V1_3: &[&str] =
    &["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];

/// TLS 1.0 and 1.1 only.
const OLD: &[&str] = &["IDEA-CBC-SHA"];

/// TLS 1.0, 1.1 and 1.2.
const ANY: &[&str] = &[
    "AES128-SHA",
    "AES256-SHA",
    "CAMELLIA128-SHA",
    "CAMELLIA256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-DES-CBC3-SHA",
    "SEED-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-DES-CBC3-SHA",
];

/// TLS 1.2 only.
const V1_2: &[&str] = &[
    "AES128-CCM",
    "AES128-CCM8",
    "AES128-GCM-SHA256",
    "AES128-SHA256",
    "AES256-CCM",
    "AES256-CCM8",
    "AES256-GCM-SHA384",
    "AES256-SHA256",
    "ARIA128-GCM-SHA256",
    "ARIA256-GCM-SHA384",
    "CAMELLIA128-SHA256",
    "CAMELLIA256-SHA256",
    "ECDHE-ARIA128-GCM-SHA256",
    "ECDHE-ARIA256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-CAMELLIA128-SHA256",
    "ECDHE-RSA-CAMELLIA256-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-ARIA256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-ARIA128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-CAMELLIA256-SHA384",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-CAMELLIA128-SHA256",
];

const LISTS: [&[&str]; 4] = [V1_3, V1_2, ANY, OLD];

/// One name of the list.
pub(super) fn read(field: &Field<'_>) -> Option<Cipher> {
    let text = field.text()?;
    let names = || LISTS.into_iter().flatten().copied();
    let found = names().find(|name| name.eq_ignore_ascii_case(text));
    if found.is_none() {
        field.reject(match nearest(text, names()) {
            Some(near) => format!("no cipher has this name, did you mean `{near}`?"),
            None => "no cipher has this name (OpenSSL's names are used)".to_owned(),
        });
    }
    found.map(Cipher)
}

/// Whether a cipher can be used with a TLS version.
pub(super) fn serves(cipher: Cipher, version: TlsVersion) -> bool {
    let lists: &[&[&str]] = match version {
        TlsVersion::V1_0 | TlsVersion::V1_1 => &[ANY, OLD],
        TlsVersion::V1_2 => &[ANY, V1_2],
        TlsVersion::V1_3 => &[V1_3],
    };
    lists.iter().any(|list| list.contains(&cipher.0))
}
