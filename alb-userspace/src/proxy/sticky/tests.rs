//! Cookies written, read back, forged and expired.

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

const TARGETS: [&str; 3] = ["198.18.1.1:80", "198.18.1.1:81", "[2001:db8::1]:80"];

fn keys(secret: &str, backend: &str, expire: u64, targets: &[&str]) -> Keys {
    let targets = targets.iter().map(|address| address.parse().unwrap());
    Keys::new(&Secret::from_text(secret), backend, Duration::from_secs(expire), targets)
}

fn set(keys: &Keys, target: usize, now: SystemTime) -> String {
    let mut out = Vec::new();
    keys.write(target, Scheme::Http, now, &mut out);
    String::from_utf8(out).unwrap()
}

/// What a browser sends back.
fn pair(keys: &Keys, target: usize, now: SystemTime) -> String {
    set(keys, target, now).split(';').next().unwrap().to_owned()
}

fn find(keys: &Keys, cookie: &str, now: SystemTime) -> Option<usize> {
    keys.find(&[Field { name: b"cookie", value: cookie.as_bytes() }], now)
}

#[test]
fn what_is_set() {
    let session = keys("s", "backend-1", 0, &TARGETS);
    let (name, rest) = ("ALB-", "; Path=/; HttpOnly");
    let text = set(&session, 0, at(0));
    assert!(text.starts_with(name) && text.ends_with(rest), "{text}");
    let expiring = keys("s", "backend-1", 3600, &TARGETS);
    let mut out = Vec::new();
    expiring.write(0, Scheme::Https, at(0), &mut out);
    let text = String::from_utf8(out).unwrap();
    let rest = "; Path=/; HttpOnly; Max-Age=3600; Expires=Tue, 14 Nov 2023 23:13:20 GMT; Secure; \
                SameSite=Lax";
    assert!(text.ends_with(rest), "{text}");
    for hidden in ["198", "18.1", "80", "backend"] {
        let value = text.split(['=', ';']).nth(1).unwrap();
        assert!(!value.contains(hidden) || hidden.len() < 4, "{value}");
        assert_eq!(value.len(), TEXT);
    }
}

#[test]
fn a_cookie_finds_its_target_also_on_another_node_and_after_a_restart() {
    for expire in [0, 3600] {
        let here = keys("s", "backend-1", expire, &TARGETS);
        // Order and company of the targets do not count.
        let there = keys("s", "backend-1", 0, &["198.18.1.9:80", TARGETS[2], TARGETS[0]]);
        for (target, index_there) in [(0, Some(2)), (1, None), (2, Some(1))] {
            let cookie = pair(&here, target, at(0));
            assert_eq!(find(&here, &cookie, at(3599)), Some(target));
            assert_eq!(find(&there, &cookie, at(3599)), index_there);
        }
    }
}

#[test]
fn expired_cookies_count_as_none() {
    let keys = keys("s", "backend-1", 3600, &TARGETS);
    let cookie = pair(&keys, 1, at(0));
    assert_eq!(find(&keys, &cookie, at(3599)), Some(1));
    assert_eq!(find(&keys, &cookie, at(3600)), None);
}

#[test]
fn cookies_of_other_backends_and_secrets_count_as_none() {
    let own = keys("s", "backend-1", 0, &TARGETS);
    let (other, strange) =
        (keys("s", "backend-2", 0, &TARGETS), keys("t", "backend-1", 0, &TARGETS));
    assert_ne!(own.name(), other.name());
    assert_eq!(own.name(), strange.name());
    let value = |keys: &Keys| pair(keys, 0, at(0)).split_once('=').unwrap().1.to_owned();
    let name = String::from_utf8(own.name().to_vec()).unwrap();
    for (value, found) in [(value(&own), Some(0)), (value(&other), None), (value(&strange), None)] {
        assert_eq!(find(&own, &format!("{name}={value}"), at(0)), found);
    }
}

#[test]
fn the_right_one_among_others() {
    let keys = keys("s", "backend-1", 0, &TARGETS);
    let good = pair(&keys, 1, at(0));
    let name = String::from_utf8(keys.name().to_vec()).unwrap();
    for (cookie, found) in [
        (format!("a=1; {good}; b=2"), Some(1)),
        (format!("a=1;{good}"), Some(1)),
        (format!("{name}=forged; {good}"), Some(1)),
        (format!("x{good}"), None),
        (format!("{name}={name}={good}"), None),
        (format!("a={good}"), None),
        (good.to_lowercase(), None),
        (format!("{name}=x; {name}=x; {name}=x; {name}=x; {good}"), None),
        (String::new(), None),
    ] {
        assert_eq!(find(&keys, &cookie, at(0)), found, "{cookie}");
    }
    let crumbs = [
        Field { name: b"cookie", value: b"a=1" },
        Field { name: b"cookie", value: good.as_bytes() },
    ];
    assert_eq!(keys.find(&crumbs, at(0)), Some(1));
}

proptest! {
    /// One bit of difference anywhere makes it a forgery.
    #[test]
    fn changed_cookies_count_as_none(target in 0_usize..3, byte in 0..TEXT, to in "[A-Za-z0-9_-]") {
        let keys = keys("s", "backend-1", 3600, &TARGETS);
        let cookie = pair(&keys, target, at(0));
        let at_byte = keys.name().len() + 1 + byte;
        let mut forged = cookie.clone();
        forged.replace_range(at_byte..=at_byte, &to);
        let wanted = (forged == cookie).then_some(target);
        prop_assert_eq!(find(&keys, &forged, at(0)), wanted);
    }

    #[test]
    fn noise_counts_as_none(noise in prop::collection::vec(any::<u8>(), 0..80)) {
        let keys = keys("s", "backend-1", 0, &TARGETS);
        let cookie = [keys.name(), b"=", &noise].concat();
        prop_assert_eq!(keys.find(&[Field { name: b"Cookie", value: &cookie }], at(0)), None);
    }

    #[test]
    fn stripping_leaves_the_others(pairs in prop::collection::vec("( ?(ALB|a|b)=[x=]{0,3} ?)|ALB", 0..6)) {
        let mut out = Vec::new();
        let whole = pairs.join(";");
        strip(whole.as_bytes(), Some(b"ALB"), &mut out);
        let ours = |pair: &&String| pair.trim().starts_with("ALB=");
        let rest: Vec<_> = pairs.iter().filter(|pair| !ours(pair)).cloned().collect();
        let wanted = rest.join(";");
        let wanted = if rest.len() == pairs.len() { &*wanted } else { wanted.trim_start() };
        prop_assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}

#[test]
fn who_stays() {
    let seconds = Duration::from_secs;
    for (healthy, zero_for, holds_wanted) in [
        (true, None, true),
        (false, None, false),
        (true, Some(seconds(0)), true),
        (true, Some(seconds(300)), true),
        (true, Some(seconds(301)), false),
        (false, Some(seconds(1)), false),
    ] {
        assert_eq!(holds(healthy, zero_for, seconds(300)), holds_wanted, "{healthy} {zero_for:?}");
    }
}

#[test]
fn the_file_is_made_once_for_its_owner_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let targets = || TARGETS.iter().map(|address| address.parse().unwrap());
    let load = || {
        let secret = Secret::load(dir.path()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        Keys::new(&secret, "b", Duration::ZERO, targets())
    };
    let first = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        let keys: Vec<_> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        let cookies: Vec<_> = keys.iter().map(|keys| pair(keys, 0, at(0))).collect();
        assert!(cookies.iter().all(|cookie| *cookie == cookies[0]), "{cookies:?}");
        cookies[0].clone()
    });
    assert_eq!(find(&load(), &first, at(0)), Some(0));
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_broken_file_is_refused_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cookie.key");
    for text in ["", "abc\n", &"g".repeat(64), &"a".repeat(65)] {
        std::fs::write(&path, text).unwrap();
        let error = Secret::load(dir.path()).unwrap_err();
        assert!(matches!(error, SecretError::Broken { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
