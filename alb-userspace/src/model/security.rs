//! Security groups, security policies and certificates.

use std::{fmt, net::IpAddr, path::PathBuf, time::SystemTime};

use ipnet::IpNet;

/// A packet filter. No rule matching = deny; the lowest priority number decides; at equal
/// priority deny wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Derived id, `sg-…`.
    pub id: String,
    /// Name, unique; `default` is built in and open.
    pub name: String,
    /// Id of its vpc; the built-in group serves every vpc.
    pub vpc: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// In file order.
    pub rules: Vec<SecurityRule>,
    /// The built-in group that lets everything through.
    pub open: bool,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// `In`: client to load balancer; `Out`: load balancer to target.
    pub direction: Direction,
    /// Which packets it is about.
    pub protocol: RuleProtocol,
    /// What happens to them.
    pub action: RuleAction,
    /// 1–32768; lower numbers are looked at first.
    pub priority: u16,
    /// First and last destination port, inclusive; 0–65535 where the protocol has none.
    pub ports: (u16, u16),
    /// The other side: clients for `In`, targets for `Out`.
    pub prefix: IpNet,
}

/// Which way a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to load balancer.
    In,
    /// Load balancer to target.
    Out,
}

/// Which packets a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// Every protocol and port.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and `ICMPv6`.
    Icmp,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// Let it through.
    Allow,
    /// Drop it silently.
    Deny,
}

/// Which TLS versions and ciphers a listener offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// Derived id, `policy-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// Free text, at most 256 characters.
    pub description: String,
    /// Never empty; each has a cipher in `ciphers`.
    pub protocols: Vec<TlsVersion>,
    /// Never empty; each serves one of `protocols`.
    pub ciphers: Vec<Cipher>,
}

impl SecurityPolicy {
    /// Whether one of its ciphers goes with a key of this kind: in TLS 1.2 a cipher names the kind.
    pub fn serves(&self, kind: KeyAlgorithm) -> bool {
        self.ciphers.iter().any(|Cipher(name)| match kind {
            KeyAlgorithm::Rsa => !name.starts_with("ECDHE-ECDSA-"),
            KeyAlgorithm::Ecdsa | KeyAlgorithm::Ed25519 => !name.starts_with("ECDHE-RSA-"),
        })
    }
}

/// A TLS version that is offered; older ones are retired (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// `TLSv1.2`.
    V1_2,
    /// `TLSv1.3`.
    V1_3,
}

/// A cipher suite that is offered, by its OpenSSL name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cipher(pub &'static str);

/// A certificate chain with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Derived id, `cert-…`.
    pub id: String,
    /// Name, unique.
    pub name: String,
    /// PEM text of the chain, leaf first.
    pub chain: String,
    /// Its key.
    pub key: PrivateKey,
    /// Files the two were read from, absolute; `None` = inline.
    pub files: (Option<PathBuf>, Option<PathBuf>),
    /// What its leaf says.
    pub facts: CertificateFacts,
}

/// What people and rules are told of a certificate; the leaf's (RFC 5280 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Kind of its key.
    pub algorithm: KeyAlgorithm,
    /// Serial number, upper-case hexadecimal as `openssl x509 -serial` prints it.
    pub serial: String,
    /// Distinguished name of the owner.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Names it is for (`subjectAltName`), lower case, wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// Addresses it is for (`subjectAltName`).
    pub addresses: Vec<IpAddr>,
    /// It is not valid before.
    pub not_before: SystemTime,
    /// It is not valid after.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Whether clients accept it for a host (RFC 9525 §6.3: a wildcard stands for one label), or
    /// for every host of a wildcard if `host` is one itself. `host` is lower case.
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            name == host || name.strip_prefix("*.").is_some_and(|rest| Some(rest) == parent)
        })
    }
}

/// Kind of a key, as far as certificates of different kinds serve different clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// ECDSA on a NIST curve.
    Ecdsa,
    /// `Ed25519`.
    Ed25519,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// PEM text of a private key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub String);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}
