//! A security policy → versions and suites of the library, by OpenSSL's names.

use std::sync::Arc;

use rustls::{
    CipherSuite, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::cipher_suite as suite},
    version,
};

use crate::{
    certificate,
    model::{SecurityPolicy, TlsVersion},
};

/// Every suite that is offered, by OpenSSL's name, in the order of preference. A handshake hashes some
/// forty times, and SHA-256 is an instruction where SHA-384 is not: AES-128 goes first, as with most
/// clouds' balancers, though OpenSSL's clients would have it otherwise.
static SUITES: [(&str, &SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", &suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", &suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", &suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", &suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", &suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", &suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", &suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", &suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", &suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Keys, groups and the suites of a policy, in the order of preference; all suites without one.
pub(super) fn provider(policy: Option<&SecurityPolicy>) -> Arc<CryptoProvider> {
    let is_named = |name: &str| {
        policy.is_none_or(|policy| policy.ciphers.iter().any(|cipher| cipher.0 == name))
    };
    let named = SUITES.iter().filter(|(name, _)| is_named(name));
    let cipher_suites = named.map(|(_, suite)| **suite).collect();
    Arc::new(CryptoProvider { cipher_suites, ..certificate::provider() })
}

/// The versions of a policy; TLS 1.2 and 1.3 without one.
pub(super) fn versions(policy: Option<&SecurityPolicy>) -> Vec<&'static SupportedProtocolVersion> {
    let all = [TlsVersion::V1_3, TlsVersion::V1_2];
    let is_named = |of: &TlsVersion| policy.is_none_or(|policy| policy.protocols.contains(of));
    let named = all.into_iter().filter(is_named);
    named
        .map(|of| match of {
            TlsVersion::V1_2 => &version::TLS12,
            TlsVersion::V1_3 => &version::TLS13,
        })
        .collect()
}

/// Whether a client's own order counts: one that begins with `ChaCha20` says that it has no instructions
/// for AES (RFC 8446 has no other way to).
pub(super) fn is_without_aes(offered: &[CipherSuite]) -> bool {
    let known = |of: &&CipherSuite| SUITES.iter().any(|(_, suite)| suite.suite() == **of);
    let first = offered.iter().find(known).map(|first| openssl_name(*first));
    first.is_some_and(|name| name.contains("CHACHA20"))
}

/// OpenSSL's name of a suite; empty for one that is not offered.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    let found = SUITES.iter().find(|(_, known)| known.suite() == suite);
    found.map_or("", |(name, _)| name)
}
