//! Certificates that are replaced under a running daemon, by nothing but new files; and those
//! that end.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use alb_tests::{
    daemon::{Daemon, binary},
    netns::must,
    origin::Origin,
    topology::VIP,
    wait,
};

use super::{ECDSA, RSA, certificate, curl, s_client, served, site};
use crate::{
    http::setting::{ORIGIN, lab},
    seeing::{metrics, value},
};

/// What the daemon tells of the certificate `first`.
fn told(daemon: &Daemon<'_>) -> serde_json::Value {
    daemon.status()["proxy"]["certificates"]["first"].clone()
}

fn serial(dir: &Path, name: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-serial", "-in"]).arg(dir.join(format!("{name}.pem")));
    must(&mut command).trim().trim_start_matches("serial=").to_owned()
}

#[test]
fn changed_files_are_served_under_load_without_a_failed_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    for (name, key) in [("first", ECDSA), ("second", RSA), ("third", ECDSA)] {
        certificate(dir.path(), name, &["shop.test"], key, 90);
    }
    let (second, third) = (serial(dir.path(), "second"), serial(dir.path(), "third"));
    let lab = lab(2);
    let _origins: Vec<_> =
        lab.targets.iter().map(|host| Origin::answering(host, ORIGIN, "ok")).collect();
    let mut site = site(&lab, dir.path(), &["first"]);
    site.node = vec!["workers: 2".to_owned()];
    let daemon = site.serve(&lab);
    let namespace = &lab.client.namespace;

    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    // New connections all the time: each curl makes one.
    let load = |version: &str| {
        while !stop.load(Ordering::Relaxed) {
            let arguments = [version, "-w", " %{http_code}", "https://shop.test/"];
            assert_eq!(curl(namespace, &arguments), "ok 200");
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let more = |count: usize| {
        let wanted = done.load(Ordering::Relaxed) + count;
        wait::until("requests", wait::LONG, || {
            (done.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    };
    // And the same connections all the time.
    let mut h2load = namespace.command("h2load");
    h2load.args(["-D", "12", "-c", "8", "-m", "4", &format!("https://{VIP}/")]);
    let h2load = h2load.stdout(Stdio::piped()).spawn().expect("h2load is installed");
    thread::scope(|scope| {
        let loads = ["--http1.1", "--http2"].map(|version| scope.spawn(move || load(version)));
        let ended = || loads.iter().any(thread::ScopedJoinHandle::is_finished);
        let swap = || {
            more(5);
            // As a careless script does it: in place, the key first.
            fs::copy(path("second.key"), path("first.key")).expect("a new key");
            fs::copy(path("second.pem"), path("first.pem")).expect("a new certificate");
            wait::until("the second certificate", wait::LONG, || {
                (served(namespace, Some("shop.test")) == "second").then_some(())
            });
            more(5);

            let text = fs::read(path("third.pem")).expect("a certificate");
            fs::write(path("first.pem"), &text[..text.len() / 2]).expect("half a certificate");
            wait::until("the fault", wait::LONG, || {
                told(&daemon)["fault"].is_string().then_some(())
            });
            assert_eq!(served(namespace, Some("shop.test")), "second");
            assert_eq!(told(&daemon)["serial"], second);
            assert_eq!(value(&metrics(&lab), "alb_certificate_stale", &[]), 1);
            assert_eq!(daemon.status()["ready"], true);

            // The rest of it is a whole certificate, but not this key's.
            fs::copy(path("third.pem"), path("first.pem")).expect("the other half");
            let fault = |words: &str| {
                wait::until(words, wait::LONG, || {
                    told(&daemon)["fault"].as_str().filter(|text| text.contains(words)).map(drop)
                });
            };
            fault("the key does not belong to the certificate (CN=third)");
            fs::copy(path("third.key"), path("first.key.new")).expect("a new key");
            fs::rename(path("first.key.new"), path("first.key")).expect("renaming");
            wait::until("the third certificate", wait::LONG, || {
                (served(namespace, Some("shop.test")) == "third").then_some(())
            });
            wait::until("no fault", wait::LONG, || told(&daemon)["fault"].is_null().then_some(()));
            more(5);
        };
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(swap));
        let early = ended();
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = swapped {
            std::panic::resume_unwind(panic);
        }
        assert!(!early, "a request failed");
    });
    let output = h2load.wait_with_output().expect("h2load runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(" 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(!said.contains(" 0 succeeded"), "{said}");

    let text = metrics(&lab);
    let reloads = |outcome| {
        let labels = [("certificate", "first"), ("outcome", outcome)];
        value(&text, "alb_certificate_reloads_total", &labels)
    };
    assert_eq!(reloads("applied"), 2);
    // Twice, and each time that it was looked between the copies of two files; not at every look.
    let refused = reloads("refused");
    assert!((2..=4).contains(&refused), "{refused}");
    assert_eq!(value(&text, "alb_certificate_stale", &[]), 0);
    assert_eq!(value(&text, "alb_certificate_verify_failures_total", &[]), 0);
    let log = daemon.log();
    for serial in [&second, &third] {
        let verified = log.lines().filter(|line| line.contains("certificate is served"));
        assert_eq!(verified.filter(|line| line.contains(serial.as_str())).count(), 1, "{log}");
    }
    let told = log.matches("its files changed, but cannot be used").count();
    assert_eq!(told as u64, refused, "{log}");
    let config = &daemon.status()["config"];
    assert_eq!((&config["applied"], &config["refused"]), (&1.into(), &0.into()), "no reload");
}

#[test]
fn a_certificate_that_ends_is_warned_of_and_served() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "first", &["shop.test"], ECDSA, -1);
    certificate(dir.path(), "soon", &["soon.test"], ECDSA, 10);
    certificate(dir.path(), "again", &["shop.test"], ECDSA, -1);
    let lab = lab(1);
    let _origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let mut site = site(&lab, dir.path(), &["first"]);
    site.file = super::section(dir.path(), &["first", "soon"]);
    let daemon = site.serve(&lab);
    let namespace = &lab.client.namespace;
    assert_eq!(served(namespace, Some("shop.test")), "first");
    assert!(s_client(namespace, &[], "").contains("certificate has expired"));

    let mut check = Command::new(binary());
    let output = check.arg("check").arg(daemon.instance.config()).output().expect("alb runs");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("warning: ") && said.contains("the certificate expired on"), "{said}");
    assert!(said.contains("the certificate expires in 9 days, on"), "{said}");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let text = metrics(&lab);
    let end =
        |name| value(&text, "alb_certificate_expiry_timestamp_seconds", &[("certificate", name)]);
    assert!(end("first") < now && now < end("soon"), "{text}");

    // Told at the start, not at every look, and again of another one.
    let told = || daemon.log().matches("the certificate expired on").count();
    wait::until("a look", wait::LONG, || {
        daemon.log().contains("certificate is served").then_some(())
    });
    assert_eq!(told(), 1, "{}", daemon.log());
    fs::copy(dir.path().join("again.key"), dir.path().join("first.key")).expect("a new key");
    fs::copy(dir.path().join("again.pem"), dir.path().join("first.pem")).expect("a certificate");
    wait::until("a second warning", wait::LONG, || (told() == 2).then_some(()));
    assert_eq!(served(namespace, Some("shop.test")), "again");
    assert_eq!(told(), 2, "{}", daemon.log());
    assert_eq!(daemon.log().matches("the certificate expires in 9 days").count(), 1);
}
