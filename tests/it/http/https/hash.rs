//! Hashed clients: HTTP/1, HTTP/2 and the packet path send them to the same targets.

use std::collections::BTreeSet;

use alb_tests::{origin::Origin, wait};

use super::{ECDSA, VIP, certificate, must, site};
use crate::http::setting::{ORIGIN, Site, lab};

/// Port of the listener that the kernel serves.
const KERNEL: u16 = 9090;

#[test]
fn a_client_has_the_same_target_however_it_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(5);
    let names = ["a", "b", "c", "d", "e"];
    let _origins: Vec<_> = lab
        .targets
        .iter()
        .zip(names)
        .map(|(host, name)| Origin::answering(host, ORIGIN, name))
        .collect();
    let clients = lab.add_client_addresses(40);
    let mut site = site(&lab, dir.path(), &["c"])
        .backend("algorithm: IpHash")
        .with(
            "backends",
            format!(
                "{{ name: plain, protocol: Tcp, port: {ORIGIN}, algorithm: IpHash, \
                 targetGroup: all, closeHealthCheck: true }}"
            ),
        )
        .with("listeners", "{ name: web-plain, protocol: Http, port: 80, backend: all }")
        .with("listeners", format!("{{ name: k, protocol: Tcp, port: {KERNEL}, backend: plain }}"));
    site.node = vec!["workers: 2".to_owned()];
    let daemon = site.serve(&lab);
    // What each client is answered by each listener, and by which version of HTTP.
    let ask = || -> Vec<String> {
        let urls =
            ["https://shop.test/", &format!("http://{VIP}/"), &format!("http://{VIP}:{KERNEL}/")];
        let mut answers = Vec::new();
        for client in &clients {
            let client = client.to_string();
            let from = ["--interface", &client, "-w", " %{http_version}\n"];
            let mut curl = lab.client.namespace.command("curl");
            curl.args(["-sSk", "-m", "20", "--connect-to", &format!("shop.test::{VIP}:443")]);
            answers.push(must(curl.args(from).args(urls)));
        }
        answers
    };
    let same = |answers: &[String]| {
        answers.iter().all(|answer| {
            let [two, one, kernel] = answer.lines().collect::<Vec<_>>()[..] else {
                panic!("{answer}")
            };
            let name = two.strip_suffix(" 2").unwrap_or_else(|| panic!("{answer}"));
            one == format!("{name} 1.1") && kernel == one
        })
    };
    let first = ask();
    assert!(same(&first), "{first:?}");
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 5, "{first:?}");
    assert!(daemon.reason("new_flow") >= 40 && daemon.reason("proxied") >= 80);

    // Without one of them, and with another weight.
    let fewer = Site { targets: site.targets[1..].to_vec(), ..site.clone() };
    let light = format!("ipAddress: {}", site.targets[1]);
    let body = fewer.body().replace(&light, &format!("weight: 1, {light}"));
    assert!(daemon.reload(&body), "{}", daemon.log());
    let after = wait::until("all to follow", wait::LONG, || {
        let after = ask();
        let is_new = !after.iter().any(|answer| answer.starts_with('a'));
        (is_new && same(&after)).then_some(after)
    });
    assert_ne!(after, first);
}
