//! Whatever else a `Cookie` field holds: ours is found, nothing else counts as ours, and the
//! target gets every cookie but ours.
#![no_main]

use std::time::{Duration, SystemTime};

use alb_userspace::proxy::{
    message::{Field, Scheme},
    sticky::{self, Keys, Secret},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8], &[u8])| {
    let (expires, before, after) = input;
    let expire = Duration::from_secs(if expires { 60 } else { 0 });
    let targets = (0..4_u8).map(|last| ([198, 18, 0, last], 80).into());
    let keys = Keys::new(&Secret::from_text("a secret"), "backend-1", expire, targets);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let find = |value: &[u8], at| keys.find(&[Field { name: b"Cookie", value }], at);
    for strange in [before, after] {
        assert_eq!(find(strange, now), None, "forged");
    }

    let mut set = Vec::new();
    keys.write(3, Scheme::Http, now, &mut set);
    let ours = set.split(|byte| *byte == b';').next().expect("a pair");
    let field = [before, ours, after].join(&b"; "[..]);
    let is_ours = |pair: &&[u8]| {
        let name = pair.trim_ascii().strip_prefix(keys.name());
        name.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    };
    // Blanks at the beginning are nobody's.
    let pairs = |text: &[u8]| -> Vec<Vec<u8>> {
        let text = text.split(|byte| *byte == b';').filter(|pair| !is_ours(pair));
        let mut pairs: Vec<_> =
            text.skip_while(|pair| pair.trim_ascii().is_empty()).map(<[u8]>::to_vec).collect();
        if let Some(first) = pairs.first_mut() {
            *first = first.trim_ascii_start().to_vec();
        }
        pairs
    };
    // A client that sends many of the name has made them up.
    if before.split(|byte| *byte == b';').filter(is_ours).count() < 3 {
        assert_eq!(find(&field, now), Some(3));
        assert_eq!(find(&field, now + Duration::from_secs(60)).is_none(), expires);
    }

    let mut rest = Vec::new();
    sticky::strip(&field, Some(keys.name()), &mut rest);
    assert!(!rest.split(|byte| *byte == b';').any(|pair| is_ours(&pair)));
    assert_eq!(pairs(&field), pairs(&rest));
});
