//! Security policies: what a client must offer.

use alb_tests::{origin::Origin, topology::Lab};

use super::{ECDSA, RSA, certificate, s_client, site, subject};
use crate::{
    http::setting::{ORIGIN, Site, lab},
    seeing::wait_value,
};

/// Arguments of a client; the cipher that is agreed on, or the alert.
type Client<'c> = (&'c [&'c str], Result<&'c str, &'c str>);

/// The site with a policy, as it is after a reload.
fn with_policy(lab: &Lab, dir: &std::path::Path, protocols: &str, ciphers: &str) -> Site {
    let mut site = site(lab, dir, &["rsa", "ecdsa"]).listener("securityPolicy: p");
    let policy = format!("name: p, protocols: [{protocols}], ciphers: [{ciphers}]");
    site.file = format!("{}securityPolicies: [{{ {policy} }}]\n", site.file);
    site
}

#[test]
fn versions_and_ciphers_are_those_of_the_policy() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "rsa", &["shop.test"], RSA, 90);
    certificate(dir.path(), "ecdsa", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let daemon = site(&lab, dir.path(), &["rsa", "ecdsa"]).serve(&lab);
    let namespace = &lab.client.namespace;

    let chacha = "TLS_CHACHA20_POLY1305_SHA256";
    let aes = "TLS_AES_128_GCM_SHA256";
    let old = "ECDHE-RSA-AES128-GCM-SHA256";
    // Protocols and ciphers, and who comes.
    let rows: [(&str, &str, &[Client<'_>]); 3] = [
        (
            "TLSv1.3",
            chacha,
            &[
                (&["-tls1_3"], Ok(chacha)),
                (&["-tls1_3", "-ciphersuites", aes], Err("handshake failure")),
                (&["-tls1_2"], Err("protocol version")),
            ],
        ),
        (
            "TLSv1.2",
            old,
            &[
                (&["-tls1_2"], Ok(old)),
                (&[], Ok(old)),
                (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], Err("handshake failure")),
                // There is no suite for this certificate.
                (&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], Err("handshake failure")),
                (&["-tls1_3"], Err("protocol version")),
            ],
        ),
        (
            "TLSv1.2, TLSv1.3",
            "TLS_AES_128_GCM_SHA256, ECDHE-ECDSA-AES256-GCM-SHA384",
            &[
                (&["-tls1_3"], Ok(aes)),
                (&["-tls1_2"], Ok("ECDHE-ECDSA-AES256-GCM-SHA384")),
                (&["-tls1_2", "-cipher", "AES128-SHA"], Err("handshake failure")),
            ],
        ),
    ];
    for (protocols, ciphers, clients) in rows {
        let site = with_policy(&lab, dir.path(), protocols, ciphers);
        assert!(daemon.reload(&site.body()), "{}", daemon.log());
        for (arguments, expected) in clients {
            let said = s_client(namespace, arguments, "");
            match expected {
                Ok(cipher) => {
                    assert!(
                        said.contains(&format!("Cipher is {cipher}\n")),
                        "{arguments:?}: {said}"
                    );
                }
                Err(alert) => {
                    assert!(said.contains(&format!("alert {alert}")), "{arguments:?}: {said}");
                    assert_eq!(subject(&said), None);
                }
            }
        }
    }
    // Who has no ECDHE suite names no groups.
    for (reason, count) in
        [("no_shared_version", 2), ("no_shared_cipher", 3), ("no_shared_group", 1)]
    {
        let labels = [("listener", "web"), ("reason", reason)];
        wait_value(&lab, "alb_tls_handshake_failures_total", &labels, count);
    }

    // What is not offered is refused by name, and the old policy stays.
    let bad = with_policy(&lab, dir.path(), "TLSv1.1, TLSv1.2", "ECDHE-RSA-AES128-SHA");
    assert!(!daemon.reload(&bad.body()));
    let log = daemon.log();
    for words in ["TLSv1.1", "ECDHE-RSA-AES128-SHA", "retired by RFC 8996"] {
        assert!(log.contains(words), "{log}");
    }
    assert!(s_client(namespace, &["-tls1_3"], "").contains(aes));
}
