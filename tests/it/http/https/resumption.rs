//! Sessions go on: on every worker, after a reload, a restart and a takeover.

use std::path::Path;

use alb_tests::{netns::Namespace, origin::Origin};

use super::{ECDSA, certificate, s_client, site};
use crate::{
    http::setting::{ORIGIN, lab},
    seeing::wait_value,
};

/// A request whose connection ends with the answer, so that tickets arrive.
const GET: &str = "GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n";

/// Connects and keeps the session.
fn begin(namespace: &Namespace, version: &str, session: &Path) {
    let file = session.to_str().expect("a path");
    let arguments = [version, "-servername", "shop.test", "-sess_out", file];
    let said = s_client(namespace, &arguments, GET);
    assert!(said.contains("New, TLSv1.") && said.contains("HTTP/1.1 200 "), "{said}");
    assert!(session.exists(), "no ticket: {said}");
}

/// Whether a connection goes on with a kept session.
fn resumes(namespace: &Namespace, version: &str, session: &Path) -> bool {
    let file = session.to_str().expect("a path");
    let arguments = [version, "-servername", "shop.test", "-sess_in", file];
    let said = s_client(namespace, &arguments, GET);
    assert!(said.contains("HTTP/1.1 200 "), "{said}");
    said.contains("\nReused, TLSv1.")
}

#[test]
fn sessions_go_on_whoever_serves_them() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "first", &["shop.test"], ECDSA, 90);
    certificate(dir.path(), "second", &["two.test"], ECDSA, 90);
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = site(&lab, dir.path(), &["first"]);
    site.node = vec!["workers: 4".to_owned()];
    let mut daemon = site.serve(&lab);
    let namespace = &lab.client.namespace;
    let versions = ["-tls1_2", "-tls1_3"];
    let sessions = versions.map(|version| dir.path().join(&version[1..]));
    let all = || versions.into_iter().zip(&sessions);
    for (version, session) in all() {
        begin(namespace, version, session);
        // Of four workers one would be met by chance alone.
        for _ in 0..12 {
            assert!(resumes(namespace, version, session), "{version}");
        }
    }
    for (kind, count) in [("full", 2), ("resumed", 24)] {
        wait_value(&lab, "alb_tls_handshakes_total", &[("listener", "web"), ("kind", kind)], count);
    }

    site.file = super::section(dir.path(), &["first", "second"]);
    let site = site.listener("extensionCertificates: [{ certificate: second, domain: two.test }]");
    assert!(daemon.reload(&site.body()), "{}", daemon.log());
    for (version, session) in all() {
        assert!(resumes(namespace, version, session), "{version} after a reload");
    }
    assert!(daemon.terminate().success(), "{}", daemon.log());
    daemon.restart();
    for (version, session) in all() {
        assert!(resumes(namespace, version, session), "{version} after a restart");
    }
    daemon.take_over();
    for (version, session) in all() {
        assert!(resumes(namespace, version, session), "{version} after a takeover");
    }
}
