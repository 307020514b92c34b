//! Ids derived from what an object is called, so that cookies and tables agree across
//! restarts and nodes.

use sha2::{Digest, Sha256};

/// What an id is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Vpc,
    Subnet,
    ElasticIp,
    InstanceTemplate,
    AvailabilityGroup,
    SecurityGroup,
    SecurityPolicy,
    Certificate,
    LoadBalancer,
    TargetGroup,
    Target,
    Backend,
    UrlMap,
    Rule,
    Listener,
}

impl Kind {
    /// What ids of this kind start with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Subnet => "subnet",
            Self::ElasticIp => "fip",
            Self::InstanceTemplate => "template",
            Self::AvailabilityGroup => "ag",
            Self::SecurityGroup => "sg",
            Self::SecurityPolicy => "policy",
            Self::Certificate => "cert",
            Self::LoadBalancer => "alb",
            Self::TargetGroup => "tg",
            Self::Target => "target",
            Self::Backend => "backend",
            Self::UrlMap => "urlmap",
            Self::Rule => "rule",
            Self::Listener => "listener",
        }
    }

    /// What people call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Subnet => "subnet",
            Self::ElasticIp => "elastic IP",
            Self::InstanceTemplate => "instance template",
            Self::AvailabilityGroup => "availability group",
            Self::SecurityGroup => "security group",
            Self::SecurityPolicy => "security policy",
            Self::Certificate => "certificate",
            Self::LoadBalancer => "load balancer",
            Self::TargetGroup => "target group",
            Self::Target => "target",
            Self::Backend => "backend",
            Self::UrlMap => "url map",
            Self::Rule => "rule",
            Self::Listener => "listener",
        }
    }
}

/// `prefix-` and ten characters of `[0-9a-z]`. `owner` is the name (or the chain of names)
/// of what the object is nested in, empty at the top.
pub(super) fn derive(kind: Kind, owner: &str, name: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut hash = Sha256::new();
    // Lengths keep ("a", "bc") and ("ab", "c") apart.
    for part in [kind.prefix(), owner, name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut number = digest.iter().take(16).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    let mut id = format!("{}-", kind.prefix());
    for _ in 0..10 {
        let digit = usize::try_from(number % 36).unwrap_or_default();
        id.push(char::from(DIGITS[digit]));
        number /= 36;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are kept in cookies and pinned tables: a change of the formula loses them.
    #[test]
    fn ids_are_stable() {
        assert_eq!(derive(Kind::LoadBalancer, "", "shop"), "alb-wdgptrgijf");
    }

    #[test]
    fn kind_owner_and_name_all_count() {
        let ids = [
            derive(Kind::Backend, "a", "bc"),
            derive(Kind::Backend, "ab", "c"),
            derive(Kind::Backend, "", "abc"),
            derive(Kind::Listener, "a", "bc"),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{id} twice");
            let (_, tail) = id.split_once('-').unwrap();
            assert_eq!(tail.len(), 10);
            assert!(tail.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{id}");
        }
    }
}
