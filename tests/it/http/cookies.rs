//! Cookie persistence from outside: who is sent where, what the cookie says and what it hides.

use std::collections::BTreeSet;

use alb_tests::{
    http::{Client, Response},
    origin::{Exchange, Origin},
    topology::Lab,
};

use super::setting::{ORIGIN, Site, client, lab};

/// Each target answers with its own number.
fn origins(lab: &Lab) -> Vec<Origin> {
    let numbered = lab.targets.iter().zip(["1", "2", "3"]);
    let start = |(host, name): (_, &'static str)| {
        Origin::start(host, ORIGIN, move |exchange: &mut Exchange<'_>| exchange.answer(200, name))
    };
    numbered.map(start).collect()
}

/// The cookie of an answer, `name=value`, and its attributes.
fn cookie(response: &Response) -> (String, Vec<String>) {
    let [field] = response.values("set-cookie")[..] else { panic!("one cookie: {response:?}") };
    let mut parts = field.split("; ").map(str::to_owned);
    (parts.next().expect("a pair"), parts.collect())
}

fn ask(client: &mut Client, path: &str, cookie: &str) -> Response {
    let response =
        client.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    assert_eq!(response.status, 200);
    response
}

#[test]
fn a_cookie_binds_to_its_target_and_shows_nothing_of_it() {
    let lab = lab(3);
    let origins = origins(&lab);
    let site =
        Site::of(&lab).backend("sessionStickiness: true").backend("httpCookieExpireSeconds: 3600");
    let mut daemon = site.serve(&lab);
    let mut bound = Vec::new();
    for _ in 0..3 {
        let first = client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (pair, attributes) = cookie(&first);
        for attribute in ["HttpOnly", "Path=/", "Max-Age=3600"] {
            assert!(attributes.iter().any(|is| is == attribute), "{attributes:?}");
        }
        assert!(!attributes.iter().any(|is| is == "Secure"), "on plain HTTP: {attributes:?}");
        let address = lab.targets.iter().find(|host| pair.contains(&host.address.to_string()));
        assert!(pair.starts_with("ALB-") && address.is_none(), "{pair}");
        bound.push((pair, first.text()));
    }
    let targets: BTreeSet<_> = bound.iter().map(|(_, target)| target.clone()).collect();
    assert_eq!(targets.len(), 3, "in turn: {bound:?}");
    for (pair, target) in &bound {
        for _ in 0..4 {
            let again = ask(&mut client(&lab), "/", &format!("theirs=1; {pair}; more=2"));
            assert_eq!(again.text(), *target);
            // Its time begins anew.
            assert_eq!(cookie(&again).0.split('=').next(), pair.split('=').next());
        }
    }
    let heard = origins.iter().flat_map(Origin::heard).collect::<String>();
    assert!(heard.contains("Cookie: theirs=1; more=2\r\n") && !heard.contains("ALB-"), "{heard}");
    // Nothing is kept of them but the key.
    assert!(daemon.terminate().success(), "{}", daemon.log());
    daemon.restart();
    for (pair, target) in &bound {
        assert_eq!(ask(&mut client(&lab), "/", pair).text(), *target);
    }
}

#[test]
fn nodes_with_one_key_know_each_other_s_cookies() {
    let lab = lab(3);
    let _origins = origins(&lab);
    let with_key = |key: &str| {
        let mut site = Site::of(&lab).backend("sessionStickiness: true");
        site.node.push(format!("cookieKey: {key}"));
        site
    };
    let shared = "the-key-of-all-nodes-which-is-long-enough";
    let mut bound = Vec::new();
    {
        let _first = with_key(shared).serve(&lab);
        for _ in 0..3 {
            let response = client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            bound.push((cookie(&response).0, response.text()));
        }
    }
    {
        // Another state directory: nothing but the key is the same.
        let _second = with_key(shared).serve(&lab);
        for (pair, target) in &bound {
            for _ in 0..2 {
                assert_eq!(ask(&mut client(&lab), "/", pair).text(), *target);
            }
        }
    }
    let _stranger = with_key("another-key-which-is-as-long-as-the-first").serve(&lab);
    let (pair, _) = &bound[0];
    let seen: BTreeSet<_> = (0..3).map(|_| ask(&mut client(&lab), "/", pair).text()).collect();
    assert_eq!(seen.len(), 3, "it says nothing here: {seen:?}");
}

#[test]
fn a_cookie_that_is_forged_or_not_ours_is_none() {
    let lab = lab(3);
    let _origins = origins(&lab);
    let _daemon = Site::of(&lab).backend("sessionStickiness: true").serve(&lab);
    let (pair, attributes) = cookie(&client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!attributes.iter().any(|is| is.starts_with("Max-Age")), "a session's: {attributes:?}");
    let (name, value) = pair.split_once('=').expect("a pair");
    let flipped = |at: usize| {
        let mut bytes = value.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    for forged in [
        flipped(0),
        flipped(value.len() / 2),
        flipped(value.len() - 2),
        String::new(),
        "A".repeat(value.len()),
        value[..value.len() - 4].to_owned(),
        format!("{value}AAAA"),
    ] {
        let mut client = client(&lab);
        let seen: BTreeSet<_> =
            (0..3).map(|_| ask(&mut client, "/", &format!("{name}={forged}")).text()).collect();
        assert_eq!(seen.len(), 3, "{forged} binds to {seen:?}");
    }
    let mut client = client(&lab);
    let seen: BTreeSet<_> = (0..6).map(|_| ask(&mut client, "/", &pair).text()).collect();
    assert_eq!(seen.len(), 1, "the real one does");
}

#[test]
fn a_target_at_weight_zero_keeps_its_clients_while_it_drains_and_no_longer() {
    let lab = lab(2);
    let _origins = origins(&lab);
    let of_draining = |seconds: u32| {
        Site::of(&lab)
            .backend("sessionStickiness: true")
            .backend(&format!("connectionDrainingSeconds: {seconds}"))
    };
    let without_first = |site: &Site| {
        let first = format!("ipAddress: {}, port: {ORIGIN}", lab.targets[0].address);
        let body = site.body();
        assert!(body.contains(&first), "{body}");
        body.replace(&first, &format!("{first}, weight: 0"))
    };
    let daemon = of_draining(300).serve(&lab);
    let (pair, _) = loop {
        let response = client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if response.text() == "1" {
            break cookie(&response);
        }
    };
    assert!(daemon.reload(&without_first(&of_draining(300))), "{}", daemon.log());
    let mut talk = client(&lab);
    for _ in 0..4 {
        assert_eq!(ask(&mut talk, "/", &pair).text(), "1");
        assert_eq!(ask(&mut talk, "/", "").text(), "2", "nobody new");
    }
    assert!(daemon.reload(&without_first(&of_draining(0))), "{}", daemon.log());
    let moved = ask(&mut talk, "/", &pair);
    assert_eq!(moved.text(), "2");
    let (new, _) = cookie(&moved);
    assert_ne!(new, pair);
    assert_eq!(ask(&mut talk, "/", &new).text(), "2");
}

#[test]
fn a_dead_target_means_another_one_and_a_new_cookie() {
    let lab = lab(2);
    let mut origins = origins(&lab);
    let _daemon = Site::of(&lab).backend("sessionStickiness: true").serve(&lab);
    let first = client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let ((pair, _), target) = (cookie(&first), first.text());
    let at = usize::from(target == "2");
    origins[at].kill();
    let moved = ask(&mut client(&lab), "/", &pair);
    let (new, _) = cookie(&moved);
    assert!(moved.text() != target && new != pair, "{moved:?}");
    for _ in 0..3 {
        assert_eq!(ask(&mut client(&lab), "/", &new).text(), moved.text());
    }
}

#[test]
fn two_sticky_backends_on_one_host_do_not_disturb_each_other() {
    let lab = lab(3);
    let _origins = origins(&lab);
    let mut site = Site::of(&lab).backend("sessionStickiness: true").listener("urlMap: m").with(
        "backends",
        format!(
            "{{ name: other, protocol: Http, port: {ORIGIN}, targetGroup: all, \
             closeHealthCheck: true, sessionStickiness: true }}"
        ),
    );
    site.balancer.push_str("  urlMaps: [{ name: m, rules: [{ path: /other, backend: other }] }]\n");
    let _daemon = site.serve(&lab);
    let mut client = client(&lab);
    let one = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let two = client.ask("GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    let ((one_pair, _), (two_pair, _)) = (cookie(&one), cookie(&two));
    assert_ne!(one_pair.split('=').next(), two_pair.split('=').next(), "names of their own");
    let both = format!("{two_pair}; {one_pair}");
    for _ in 0..4 {
        assert_eq!(ask(&mut client, "/", &both).text(), one.text());
        assert_eq!(ask(&mut client, "/other", &both).text(), two.text());
    }
}
