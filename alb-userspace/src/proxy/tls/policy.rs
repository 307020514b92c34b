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

/// Every suite that is offered, by OpenSSL's name, in the order of the built-in policy.
static SUITES: [(&str, &SupportedCipherSuite); 9] = [
    ("TLS_AES_256_GCM_SHA384", &suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", &suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", &suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", &suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", &suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", &suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", &suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", &suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", &suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Keys, groups and the suites of a policy; all suites without one.
pub(super) fn provider(policy: Option<&SecurityPolicy>) -> Arc<CryptoProvider> {
    let named = |policy: &SecurityPolicy| {
        let find = |name: &str| SUITES.iter().find(|(known, _)| *known == name);
        policy
            .ciphers
            .iter()
            .filter_map(|cipher| find(cipher.0))
            .map(|(_, suite)| **suite)
            .collect()
    };
    let all = || SUITES.iter().map(|(_, suite)| **suite).collect();
    let cipher_suites = policy.map_or_else(all, named);
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

/// OpenSSL's name of a suite; empty for one that is not offered.
pub(super) fn openssl_name(suite: CipherSuite) -> &'static str {
    let found = SUITES.iter().find(|(_, known)| known.suite() == suite);
    found.map_or("", |(name, _)| name)
}
