//! Files that are replaced, half replaced and broken.

use super::*;
use crate::config;

fn corpus(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls").join(name);
    fs::read_to_string(path).unwrap()
}

fn put(dir: &Path, name: &str, from: &str) {
    // As tools do that care: a new file under the old name.
    let new = dir.join("new");
    fs::write(&new, corpus(from)).unwrap();
    fs::rename(new, dir.join(name)).unwrap();
}

fn look(watch: &mut Watch, model: &mut Model) -> Vec<String> {
    let changes = watch.look(model);
    let told = changes.iter().map(|change| match &change.result {
        Ok(now) => format!("{}: {}", change.name, now.facts.algorithm),
        Err(error) => error.to_string(),
    });
    let told = told.collect();
    if let Some(next) = replaced(model, changes) {
        *model = next;
    }
    told
}

#[test]
fn a_change_is_seen_once_and_a_fault_when_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    let text = "node: { interfaces: [eth0] }\n\
                certificates: [{ name: c, certFile: c.pem, keyFile: c.key }]\n";
    let mut model = config::parse(text, dir.path()).unwrap().model;
    let mut watch = Watch::default();
    let none: [&str; 0] = [];
    assert_eq!(look(&mut watch, &mut model), none, "as the model says");

    // The certificate first, its key later: never an error.
    put(dir.path(), "c.pem", "rsa.pem");
    assert_eq!(look(&mut watch, &mut model), none);
    put(dir.path(), "c.key", "rsa.key");
    assert_eq!(look(&mut watch, &mut model), ["c: RSA"]);
    assert_eq!(look(&mut watch, &mut model), none);

    // A fault that stays is told once; what was served stays.
    let before = model.clone();
    put(dir.path(), "c.key", "api.key");
    assert_eq!(look(&mut watch, &mut model), none);
    let file = dir.path().join("c.key");
    let fault =
        format!("{}: the key does not belong to the certificate (CN=shop.test)", file.display());
    assert_eq!(look(&mut watch, &mut model), [fault]);
    assert_eq!(look(&mut watch, &mut model), none);
    fs::remove_file(&file).unwrap();
    assert_eq!(look(&mut watch, &mut model), none);
    let gone = look(&mut watch, &mut model);
    assert!(gone.len() == 1 && gone[0].contains("cannot be read"), "{gone:?}");
    assert_eq!(model, before);

    put(dir.path(), "c.key", "ecdsa.key");
    put(dir.path(), "c.pem", "ecdsa.pem");
    assert_eq!(look(&mut watch, &mut model), ["c: ECDSA"]);
}
