//! The text of `Cookie` and `Set-Cookie` (RFC 6265).

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use crate::proxy::message::Scheme;

/// `ALB-` and ten hexadecimal digits of a backend's id.
pub(super) fn name(backend: &str) -> Box<[u8]> {
    let digest = Sha256::digest(backend.as_bytes());
    let digits = digest.iter().take(5).map(|byte| format!("{byte:02x}"));
    format!("ALB-{}", digits.collect::<String>()).into_bytes().into()
}

/// The values of the cookies called `name` in a `Cookie` field.
pub(super) fn values<'a>(field: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    pairs(field).filter_map(move |pair| value(pair, name))
}

/// Appends a `Cookie` field's value without the cookies called `name`; everything else stays
/// byte for byte.
pub fn strip(field: &[u8], name: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(name) = name.filter(|name| pairs(field).any(|pair| value(pair, name).is_some()))
    else {
        return out.extend_from_slice(field);
    };
    let start = out.len();
    for pair in pairs(field).filter(|pair| value(pair, name).is_none()) {
        if out.len() == start {
            out.extend_from_slice(pair.trim_ascii_start());
        } else {
            out.push(b';');
            out.extend_from_slice(pair);
        }
    }
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

fn value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.trim_ascii()
        .strip_prefix(name)?
        .trim_ascii_start()
        .strip_prefix(b"=")
        .map(<[u8]>::trim_ascii)
}

/// Appends the value of a `Set-Cookie`.
pub(super) fn write(
    name: &[u8],
    value: &[u8],
    max_age: Duration,
    expires: Option<SystemTime>,
    scheme: Scheme,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(value);
    out.extend_from_slice(b"; Path=/; HttpOnly");
    if let Some(expires) = expires {
        let expires = httpdate::HttpDate::from(expires);
        let written = write!(out, "; Max-Age={}; Expires={expires}", max_age.as_secs());
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
    if scheme == Scheme::Https {
        out.extend_from_slice(b"; Secure; SameSite=Lax");
    }
}
