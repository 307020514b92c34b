//! Chains and keys of the corpus, and the texts of what is refused.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use super::*;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(chain: &str, key: &str) -> Result<Identity, IdentityError> {
    Identity::read(&text(chain), &text(key))
}

#[test]
fn every_form_of_key_is_read() {
    let rows = [
        ("rsa.pem", "rsa.key", KeyAlgorithm::Rsa, 2),
        ("rsa.pem", "rsa.pkcs1.key", KeyAlgorithm::Rsa, 2),
        ("ecdsa.pem", "ecdsa.key", KeyAlgorithm::Ecdsa, 2),
        ("ecdsa.pem", "ecdsa.sec1.key", KeyAlgorithm::Ecdsa, 2),
        ("api.pem", "api.key", KeyAlgorithm::Ecdsa, 2),
        ("ed25519.pem", "ed25519.key", KeyAlgorithm::Ed25519, 2),
        ("expired.pem", "v1.key", KeyAlgorithm::Ecdsa, 1),
    ];
    for (chain, key, algorithm, length) in rows {
        let identity = read(chain, key).unwrap_or_else(|error| panic!("{chain} {key}: {error}"));
        assert_eq!(identity.facts.algorithm, algorithm, "{chain} {key}");
        assert_eq!(identity.certified.cert.len(), length, "{chain} {key}");
        let served = Identity::serial_of(&identity.certified.cert[0]);
        assert_eq!(served.as_ref(), Some(&identity.facts.serial), "{chain} {key}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = [
        ("rsa.pem", "ecdsa.key", true, "the key does not belong to the certificate (CN=shop.test)"),
        (
            "reversed.pem",
            "ecdsa.key",
            false,
            "the key belongs to certificate 2 of the chain; the leaf comes first, then its issuer",
        ),
        (
            "gap.pem",
            "ecdsa.key",
            false,
            "certificate 2 of the chain (CN=ALB test root) did not issue certificate 1 (CN=shop.test), \
             which names CN=ALB test intermediate; the order is leaf, its issuer, that one's issuer",
        ),
        ("rsa.key", "rsa.key", false, "must be PEM with a `-----BEGIN CERTIFICATE-----` block"),
    ];
    for (chain, key, of_key, message) in rows {
        let error = read(chain, key).expect_err(chain);
        assert_eq!((error.is_of_the_key(), error.to_string()), (of_key, message.to_owned()));
    }
    let weak = read("weak.pem", "weak.key").expect_err("1024 bits").to_string();
    assert!(weak.starts_with("the key cannot be used"), "{weak}");
    let no_key = read("rsa.pem", "rsa.pem").expect_err("no key").to_string();
    assert!(no_key.starts_with("the key cannot be decoded"), "{no_key}");
}

#[test]
fn what_is_no_pem_is_told_in_words() {
    let (chain, key) = (text("ecdsa.pem"), text("ecdsa.key"));
    let second = chain.rfind("-----BEGIN").expect("two certificates");
    let joined = chain.replacen("CERTIFICATE-----\n", "CERTIFICATE----- ", 1);
    let rows = [
        (
            &chain[..300],
            "certificate 1 of the chain is not PEM: it ends before its line `-----END CERTIFICATE-----`",
        ),
        (
            &chain[..second + 300],
            "certificate 2 of the chain is not PEM: it ends before its line `-----END CERTIFICATE-----`",
        ),
        (
            &joined[..],
            "certificate 1 of the chain is not PEM: a line that starts with `-----BEGIN` does not end with `-----`",
        ),
    ];
    for (chain, message) in rows {
        let error = Identity::read(chain, &key).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn names_cover_one_label() {
    let rows = [
        ("rsa.pem", "rsa.key", "shop.test", true),
        ("rsa.pem", "rsa.key", "www.shop.test", true),
        ("rsa.pem", "rsa.key", "api.shop.test", false),
        ("rsa.pem", "rsa.key", "*.shop.test", false),
        ("api.pem", "api.key", "a.api.test", true),
        ("api.pem", "api.key", "*.api.test", true),
        ("api.pem", "api.key", "a.b.api.test", false),
        ("api.pem", "api.key", "api.test", false),
        ("api.pem", "api.key", "198.18.0.1", false),
    ];
    for (chain, key, host, covered) in rows {
        assert_eq!(read(chain, key).unwrap().facts.covers(host), covered, "{chain} {host}");
    }
}

#[test]
fn times_are_warned_of() {
    let facts = read("expired.pem", "v1.key").unwrap().facts;
    let after = |time: SystemTime, days: u64| time + Duration::from_secs(days * 86_400);
    let rows = [
        (
            facts.not_before - Duration::from_secs(1),
            "is not valid before Wed, 01 Jan 2020 00:00:00 GMT",
        ),
        (facts.not_before, ""),
        (after(facts.not_before, 335), ""),
        (after(facts.not_before, 336), "expires in 30 days, on Fri, 01 Jan 2021 00:00:00 GMT"),
        (facts.not_after, "expires in 0 days, on Fri, 01 Jan 2021 00:00:00 GMT"),
        (facts.not_after + Duration::from_secs(1), "expired on Fri, 01 Jan 2021 00:00:00 GMT"),
    ];
    for (now, expected) in rows {
        let found = warnings(&facts, now).join("; ");
        let expected =
            if expected.is_empty() { String::new() } else { format!("the certificate {expected}") };
        assert_eq!(found, expected);
    }
}

/// `expired.pem` with other times in it: UTC times of 13 bytes, `YYMMDDhhmmssZ`.
fn with_times(not_before: &[u8; 13], not_after: &[u8; 13]) -> CertificateFacts {
    let chain = chain_ders(&text("expired.pem")).unwrap();
    let mut der = chain[0].to_vec();
    for (old, new) in [(b"200101000000Z", not_before), (b"210101000000Z", not_after)] {
        let at = der.windows(13).position(|time| time == old).expect("its time");
        der[at..at + 13].copy_from_slice(new);
    }
    let (_, certificate) = parse_x509_certificate(&der).unwrap();
    facts::of(&certificate, KeyAlgorithm::Ecdsa)
}

#[test]
fn times_that_no_date_can_be_of_are_the_nearest() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
    let ended = with_times(b"500101000000Z", b"691231235959Z");
    let expected = ["the certificate expired on Thu, 01 Jan 1970 00:00:00 GMT"];
    assert_eq!(warnings(&ended, now), expected);
    assert_eq!(ended.not_before, SystemTime::UNIX_EPOCH);
}
