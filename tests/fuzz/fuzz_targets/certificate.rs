//! Any bytes in the place of a certificate are one that can be told of, or refused by name.
#![no_main]

use std::time::SystemTime;

use alb_userspace::certificate::{Identity, warnings};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;

/// Belongs to the seed, whose signature nobody looks at.
const KEY: &str = include_str!("../../fixtures/tls/v1.key");

fuzz_target!(|input: (bool, &[u8])| {
    let (is_text, bytes) = input;
    let chain = if is_text {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        let body = STANDARD.encode(bytes);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    match Identity::read(&chain, KEY) {
        Ok(identity) => {
            let served = Identity::serial_of(&identity.certified.cert[0]);
            assert_eq!(served.as_ref(), Some(&identity.facts.serial));
            for now in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
                assert!(warnings(&identity.facts, now).iter().all(|text| !text.is_empty()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
