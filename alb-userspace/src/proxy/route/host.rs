//! Which of the hosts that rules name a request is for.

use std::collections::HashMap;

use super::trie::{self, Trie};
use crate::model::DomainPattern;

/// Rules name at most 110 bytes; DNS names have at most 253.
const LONGEST: usize = 255;

/// The hosts of a url map.
#[derive(Debug)]
pub(super) struct Hosts {
    /// `www.example.com` exactly, `www.example.` as prefix.
    forward: Trie<usize>,
    exact: Trie<usize>,
    /// `.example.com` reversed, as prefix.
    backward: Trie<usize>,
}

/// Numbers hosts: those that are named from 0, "every host" last.
#[derive(Debug)]
pub(super) struct Builder {
    groups: HashMap<DomainPattern, usize>,
}

impl Builder {
    /// The numbers, and an empty list for each of them.
    pub(super) fn new<'r>(
        hosts: impl Iterator<Item = &'r Option<DomainPattern>>,
    ) -> (Self, Vec<Vec<usize>>) {
        let mut groups = HashMap::new();
        for host in hosts.flatten() {
            let next = groups.len();
            groups.entry(host.clone()).or_insert(next);
        }
        let lists = vec![Vec::new(); groups.len() + 1];
        (Self { groups }, lists)
    }

    pub(super) fn group(&mut self, host: Option<&DomainPattern>) -> usize {
        host.and_then(|host| self.groups.get(host).copied()).unwrap_or(self.groups.len())
    }

    pub(super) fn build(self) -> Hosts {
        let mut forward = trie::Builder::default();
        let mut exact = trie::Builder::default();
        let mut backward = trie::Builder::default();
        for (host, group) in self.groups {
            match host {
                DomainPattern::Exact(host) => exact.exact(host.as_bytes(), group),
                DomainPattern::Prefix(host) => forward.prefix(host.as_bytes(), group),
                DomainPattern::Suffix(host) => {
                    let reversed: Vec<u8> = host.bytes().rev().collect();
                    backward.prefix(&reversed, group);
                }
            }
        }
        Hosts { forward: forward.build(), exact: exact.build(), backward: backward.build() }
    }
}

impl Hosts {
    /// The number of the most specific host that has rules. `host` comes without a port.
    pub(super) fn find(&self, host: &[u8]) -> Option<usize> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut lower = [0_u8; LONGEST];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        if let Some(group) = self.exact.find(lower) {
            return Some(*group);
        }
        // A star stands for at least one byte.
        let but_one = host.len().checked_sub(1)?;
        let mut reversed = [0_u8; LONGEST];
        for (to, from) in reversed.iter_mut().zip(lower.iter().rev()) {
            *to = *from;
        }
        let suffix = self.backward.find(&reversed[..but_one]);
        suffix.or_else(|| self.forward.find(&lower[..but_one])).copied()
    }
}

/// The host of an authority, as written but without the port; with brackets if it is IPv6.
pub fn host_of(authority: &[u8]) -> &[u8] {
    split(authority).0
}

/// The port of an authority, if it names one.
pub fn port_of(authority: &[u8]) -> Option<u16> {
    std::str::from_utf8(split(authority).1?).ok()?.parse().ok()
}

fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = if authority.first() == Some(&b'[') {
        memchr::memchr(b']', authority).unwrap_or_default()
    } else {
        0
    };
    match memchr::memchr(b':', &authority[from..]) {
        Some(at) => (&authority[..from + at], Some(&authority[from + at + 1..])),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_host_and_port() {
        for (authority, host, port) in [
            ("", "", None),
            ("a.test", "a.test", None),
            ("a.test:8080", "a.test", Some(8080)),
            ("a.test:", "a.test", None),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("[2001:db8::1]:80", "[2001:db8::1]", Some(80)),
            ("198.18.0.1:99999", "198.18.0.1", None),
        ] {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes(), "{authority}");
            assert_eq!(port_of(authority.as_bytes()), port, "{authority}");
        }
    }
}
