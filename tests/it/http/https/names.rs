//! Which certificate a name gets, and which requests belong on its connection.

use alb_tests::{origin::Origin, wait};

use super::{ECDSA, RSA, certificate, curl, s_client, served, site, subject};
use crate::{
    http::setting::{ORIGIN, lab},
    seeing::{metrics, value},
};

#[test]
fn exact_goes_before_the_longest_wildcard_before_the_default() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, host, key) in [
        ("default", "shop.test", ECDSA),
        ("api", "*.api.test", ECDSA),
        ("v1", "*.v1.api.test", ECDSA),
        ("exact", "one.v1.api.test", ECDSA),
        ("rsa", "old.test", RSA),
    ] {
        certificate(dir.path(), name, &[host], key, 90);
    }
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = site(&lab, dir.path(), &["default"]);
    site.file = super::section(dir.path(), &["default", "api", "v1", "exact", "rsa"]);
    let site = site.listener(
        "extensionCertificates: [{ certificate: api, domain: '*.api.test' }, \
         { certificate: v1, domain: '*.v1.api.test' }, { certificate: rsa, domain: old.test }, \
         { certificate: exact, domain: one.v1.api.test }]",
    );
    let daemon = site.serve(&lab);
    let namespace = &lab.client.namespace;
    for (host, expected) in [
        (None, "default"),
        (Some("shop.test"), "default"),
        (Some("unknown.test"), "default"),
        (Some("api.test"), "default"),
        (Some("a.api.test"), "api"),
        (Some("b.a.api.test"), "api"),
        (Some("A.API.test"), "api"),
        (Some("two.v1.api.test"), "v1"),
        (Some("one.v1.api.test"), "exact"),
        (Some("old.test"), "rsa"),
    ] {
        assert_eq!(served(namespace, host), expected, "{host:?}");
    }
    // The name's own certificate cannot be verified: the default can.
    let said = s_client(namespace, &["-servername", "old.test", "-sigalgs", "ECDSA+SHA256"], "");
    assert_eq!(subject(&said), Some("default"), "{said}");

    // 421 where the connection is for another certificate.
    for (version, host, authority, expected) in [
        ("--http2", "a.api.test", "b.api.test", "200"),
        ("--http2", "a.api.test", "b.api.test:443", "200"),
        ("--http2", "a.api.test", "shop.test", "421"),
        ("--http2", "a.api.test", "one.v1.api.test", "421"),
        ("--http2", "shop.test", "unknown.test", "200"),
        ("--http2", "shop.test", "a.api.test", "421"),
        ("--http1.1", "shop.test", "a.api.test", "421"),
        ("--http1.1", "shop.test", "www.shop.test", "200"),
    ] {
        let (field, url) = (format!("Host: {authority}"), format!("https://{host}/"));
        let arguments = [version, "-o", "/dev/null", "-w", "%{http_code}", "-H", &field, &url];
        assert_eq!(curl(namespace, &arguments), expected, "{version} {host} {authority}");
    }

    // Each was verified after the start, and its serial number told.
    wait::until("every certificate verified", wait::LONG, || {
        (daemon.log().matches("certificate is served").count() == 5).then_some(())
    });
    assert_eq!(value(&metrics(&lab), "alb_certificate_verify_failures_total", &[]), 0);
}
