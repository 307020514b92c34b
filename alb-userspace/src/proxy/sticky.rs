//! Cookie persistence: which target a client is bound to, told by the client itself. Pure but
//! for `secret`, which reads the key; knows nothing of health and of how targets are chosen.
//!
//! The value is opaque: `base64url(expiry ‖ identity ‖ mac)`, where the identity is a keyed
//! hash of the target's address and port and the mac covers both. Keys derive from one secret
//! and the backend's id, so that every node with the same secret reads the same cookies.

mod cookie;
mod recent;
mod secret;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub use cookie::strip;
pub use secret::{Secret, SecretError};

use self::recent::Recent;
use super::message::{Field, Scheme};

const EXPIRY: usize = 4;
const IDENTITY: usize = 8;
/// 96 of 256 bits: 2^96 guesses for a cookie that only chooses a target.
const MAC: usize = 12;
const TOKEN: usize = EXPIRY + IDENTITY + MAC;
const TEXT: usize = TOKEN / 3 * 4;
/// Cookies of our name that are looked at in one request; a client has one.
const CANDIDATES: usize = 4;

type Identity = [u8; IDENTITY];

/// What one backend reads and writes cookies with.
pub struct Keys {
    /// `ALB-` and a hash of the backend's id: two sticky backends on one host keep apart.
    name: Box<[u8]>,
    key: hmac::Key,
    /// Zero = until the browser closes.
    expire: Duration,
    /// In the order of the backend's targets.
    identities: Vec<Identity>,
    targets: HashMap<Identity, usize>,
    /// What was written last for each target.
    recent: Recent,
}

impl Keys {
    /// For a backend and the addresses of its targets, in their order. `expire` is
    /// `httpCookieExpireSeconds`; zero makes session cookies.
    pub fn new(
        secret: &Secret,
        backend: &str,
        expire: Duration,
        targets: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        let key = secret.derive(&[b"cookie persistence", backend.as_bytes()]);
        let identities: Vec<_> = targets.map(|address| identity(&key, address)).collect();
        let targets = identities.iter().enumerate().map(|(index, id)| (*id, index)).collect();
        Self {
            name: cookie::name(backend),
            key,
            expire,
            identities,
            targets,
            recent: Recent::new(),
        }
    }

    /// Name of the cookie, which is kept from the targets.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The target (its index) that a request's cookie is for. Cookies that are forged, expired
    /// or for a target that is gone count as none.
    pub fn find(&self, fields: &[Field<'_>], now: SystemTime) -> Option<usize> {
        let cookies = fields.iter().filter(|field| field.name.len() == 6 && field.is("cookie"));
        cookies
            .flat_map(|field| cookie::values(field.value, &self.name))
            .take(CANDIDATES)
            .find_map(|value| self.read(value, now))
    }

    /// Appends the value of the `Set-Cookie` that binds a client to a target. It goes with
    /// every answer, so that the expiry counts from the last one. It is signed once a second for
    /// each target and thread at most.
    pub fn write(&self, target: usize, scheme: Scheme, now: SystemTime, out: &mut Vec<u8>) {
        let expires = (!self.expire.is_zero()).then(|| now + self.expire);
        let of = recent::Of { target, scheme, expires: expires.map_or(0, seconds) };
        self.recent.write(of, out, |out| self.sign(target, scheme, expires, out));
    }

    fn sign(&self, target: usize, scheme: Scheme, expires: Option<SystemTime>, out: &mut Vec<u8>) {
        let Some(identity) = self.identities.get(target) else { return };
        let mut token = [0_u8; TOKEN];
        token[..EXPIRY].copy_from_slice(&expires.map_or(0, seconds).to_be_bytes());
        token[EXPIRY..EXPIRY + IDENTITY].copy_from_slice(identity);
        let mac = self.mac(&token);
        token[EXPIRY + IDENTITY..].copy_from_slice(&mac.as_ref()[..MAC]);
        let mut text = [0_u8; TEXT];
        let encoded = URL_SAFE_NO_PAD.encode_slice(token, &mut text);
        debug_assert_eq!(encoded, Ok(TEXT), "24 bytes are 32 digits");
        cookie::write(&self.name, &text, self.expire, expires, scheme, out);
    }

    fn read(&self, value: &[u8], now: SystemTime) -> Option<usize> {
        if value.len() != TEXT {
            return None;
        }
        let mut token = [0_u8; TOKEN];
        URL_SAFE_NO_PAD.decode_slice_unchecked(value, &mut token).ok()?;
        let mac = self.mac(&token);
        let (_, given) = token.split_at(EXPIRY + IDENTITY);
        constant_time::verify_slices_are_equal(given, &mac.as_ref()[..MAC]).ok()?;
        let (expiry, rest) = token.split_first_chunk::<EXPIRY>()?;
        let expiry = u32::from_be_bytes(*expiry);
        if expiry != 0 && expiry <= seconds(now) {
            return None;
        }
        self.targets.get(rest.first_chunk::<IDENTITY>()?).copied()
    }

    fn mac(&self, token: &[u8; TOKEN]) -> hmac::Tag {
        hmac::sign(&self.key, &token[..EXPIRY + IDENTITY])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key: _, expire, identities: _, targets: _, recent: _ } = self;
        f.debug_struct("Keys")
            .field("name", &String::from_utf8_lossy(name))
            .field("expire", expire)
            .finish_non_exhaustive()
    }
}

/// Does a client stay with the target its cookie names? Not with one that failed its checks;
/// with one at weight 0 for as long as the backend drains. `zero_for` is how long the weight
/// has been 0, `None` if it is not.
pub fn holds(is_healthy: bool, zero_for: Option<Duration>, draining: Duration) -> bool {
    is_healthy && zero_for.is_none_or(|zero_for| zero_for <= draining)
}

fn identity(key: &hmac::Key, address: SocketAddr) -> Identity {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    // Longer than what tokens are signed over: the two cannot be mistaken for each other.
    let mut text = [0; 18];
    text[..16].copy_from_slice(&ip.octets());
    text[16..].copy_from_slice(&address.port().to_be_bytes());
    let tag = hmac::sign(key, &text);
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Since 1970; cookies live until 2106.
fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
