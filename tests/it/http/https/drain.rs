//! GOAWAY: a client learns that its connection ends, and what it asked before is answered.

use std::{
    fs::{self, File},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alb_tests::{
    daemon::Daemon,
    origin::{Exchange, Origin},
    topology::VIP,
    wait,
};

use super::{ECDSA, certificate, site};
use crate::http::setting::{ORIGIN, Site, lab};

/// A request is in work when `begin` happens: GOAWAY comes at once, the answer when it is there.
fn goes_away(begin: impl FnOnce(&Daemon<'_>, &Site), is_the_end: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go);
    let act = move |exchange: &mut Exchange<'_>| {
        wait::within(wait::LONG, || gate.load(Ordering::Relaxed).then_some(()));
        exchange.answer(200, "at last")
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let site = site(&lab, dir.path(), &["c"]);
    let mut daemon = site.serve(&lab);

    let path = dir.path().join("nghttp");
    let file = File::create(&path).expect("a file");
    let mut nghttp = lab.client.namespace.command("nghttp");
    nghttp.args(["--verbose", "--no-verify-peer", "--timeout=60", &format!("https://{VIP}/")]);
    let error = file.try_clone().expect("a descriptor");
    let mut nghttp = nghttp.stdout(file).stderr(error).spawn().expect("nghttp is installed");
    origin.wait_requests(1);
    let said = || fs::read_to_string(&path).expect("a file");
    assert!(!said().contains("GOAWAY"), "{}", said());

    begin(&daemon, &site);
    let told = wait::within(wait::LONG, || said().contains("recv GOAWAY frame").then_some(()));
    let early = said();
    go.store(true, Ordering::Relaxed);
    let ended = wait::within(wait::LONG, || nghttp.try_wait().expect("a child can be asked"));
    let said = said();
    assert!(told.is_some(), "{said}");
    assert!(!early.contains("at last"), "{early}");
    assert!(ended.is_some_and(|status| status.success()), "{said}");
    assert!(said.contains(":status: 200") && said.contains("at last"), "{said}");
    assert!(said.contains("NO_ERROR(0x00)"), "{said}");
    if is_the_end {
        assert!(daemon.ended().success(), "{}", daemon.log());
    }
}

#[test]
fn at_the_end_of_the_daemon() {
    goes_away(|daemon, _| daemon.ask_to_end(), true);
}

#[test]
fn when_a_reload_switches_the_listener_off() {
    let off = |daemon: &Daemon<'_>, site: &Site| {
        let body = site.clone().listener("status: Off").body();
        assert!(daemon.reload(&body), "{}", daemon.log());
    };
    goes_away(off, false);
}

#[test]
fn a_takeover_loses_no_stream() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = site(&lab, dir.path(), &["c"]);
    site.node = vec!["workers: 2".to_owned()];
    let mut daemon = site.serve(&lab);
    // Streams that it began after GOAWAY it takes elsewhere, as a browser does.
    let urls = format!("https://{VIP}/[1-6000]");
    let mut curl = lab.client.namespace.command("curl");
    curl.args(["--silent", "--insecure", "--http2", "--parallel", "--parallel-max", "32"]);
    curl.args(["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}\n", &urls]);
    let curl = curl.stdout(Stdio::piped()).spawn().expect("curl is installed");
    origin.wait_requests(200);
    daemon.take_over();
    let output = curl.wait_with_output().expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let answered = said.lines().filter(|line| *line == "2 200").count();
    assert!(output.status.success() && answered == 6_000, "{answered}, {}", output.status);
}
