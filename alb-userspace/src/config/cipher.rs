//! The cipher suites a security policy may name, with the TLS version each serves: those of the
//! product's `SecurityPolicySpec` that are offered; the rest is known by name, to be refused.

use super::cursor::{Field, enumerate, nearest};
use crate::model::{Cipher, TlsVersion};

/// TLS 1.3.
const V1_3: &[&str] =
    &["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];

/// TLS 1.2.
const V1_2: &[&str] = &[
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Without forward secrecy: the key exchange is plain RSA.
const STATIC_RSA: &[&str] = &[
    "AES128-SHA",
    "AES256-SHA",
    "CAMELLIA128-SHA",
    "CAMELLIA256-SHA",
    "DES-CBC3-SHA",
    "IDEA-CBC-SHA",
    "SEED-SHA",
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
];

/// CBC mode, which has been broken time and again (Lucky 13, POODLE).
const CBC: &[&str] = &[
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-DES-CBC3-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-DES-CBC3-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-CAMELLIA128-SHA256",
    "ECDHE-RSA-CAMELLIA256-SHA384",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-CAMELLIA256-SHA384",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-CAMELLIA128-SHA256",
];

/// CCM and ARIA: hardly any client has them.
const RARE: &[&str] = &[
    "ECDHE-ARIA128-GCM-SHA256",
    "ECDHE-ARIA256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-ARIA256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-ARIA128-GCM-SHA256",
];

/// What is not offered, and why.
const REFUSED: [(&[&str], &str); 3] = [
    (STATIC_RSA, "no forward secrecy"),
    (CBC, "CBC mode"),
    (RARE, "CCM and ARIA are not implemented"),
];

/// One name of the list.
pub(super) fn read(field: &Field<'_>) -> Option<Cipher> {
    let text = field.text()?;
    let offered = || [V1_3, V1_2].into_iter().flatten().copied();
    let is = |name: &&str| name.eq_ignore_ascii_case(text);
    if let Some(name) = offered().find(is) {
        return Some(Cipher(name));
    }
    let refused = REFUSED.iter().find(|(names, _)| names.iter().any(&is));
    field.reject(match (refused, nearest(text, offered())) {
        (Some((_, why)), _) => {
            let names: Vec<&str> = offered().collect();
            format!("is not offered ({why}), allowed is {}", enumerate(&names))
        }
        (None, Some(near)) => format!("no cipher has this name, did you mean `{near}`?"),
        (None, None) => "no cipher has this name (OpenSSL's names are used)".to_owned(),
    });
    None
}

/// Whether a cipher can be used with a TLS version.
pub(super) fn serves(cipher: Cipher, version: TlsVersion) -> bool {
    let names = match version {
        TlsVersion::V1_2 => V1_2,
        TlsVersion::V1_3 => V1_3,
    };
    names.contains(&cipher.0)
}
