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

/// A look when the files are no longer young.
fn look(watch: &mut Watch, model: &mut Model) -> Vec<String> {
    look_at(watch, model, SystemTime::now() + 10 * YOUNG)
}

fn look_at(watch: &mut Watch, model: &mut Model, now: SystemTime) -> Vec<String> {
    let changes = watch.look(model, now);
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

    assert_eq!(watch.faults().map(|(_, fault)| fault).collect::<Vec<_>>(), gone);

    put(dir.path(), "c.key", "ecdsa.key");
    put(dir.path(), "c.pem", "ecdsa.pem");
    assert_eq!(look(&mut watch, &mut model), ["c: ECDSA"]);
    assert_eq!(watch.faults().count(), 0);
}

#[test]
fn what_was_served_all_along_is_no_change_and_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    let text = "node: { interfaces: [eth0] }\n\
                certificates: [{ name: c, certFile: c.pem, keyFile: c.key }]\n";
    let mut model = config::parse(text, dir.path()).unwrap().model;
    let mut watch = Watch::default();
    let none: [&str; 0] = [];
    fs::write(dir.path().join("c.pem"), "-----BEGIN CERT").unwrap();
    assert_eq!(look(&mut watch, &mut model), none);
    assert_eq!(look(&mut watch, &mut model).len(), 1, "half written for long");
    assert_eq!(watch.faults().count(), 1);
    put(dir.path(), "c.pem", "ecdsa.pem");
    assert_eq!(look(&mut watch, &mut model), none);
    assert_eq!(watch.faults().count(), 0);
}

#[test]
fn a_file_that_changes_twice_within_its_time_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    let text = "node: { interfaces: [eth0] }\n\
                certificates: [{ name: c, certFile: c.pem, keyFile: c.key }]\n";
    let mut model = config::parse(text, dir.path()).unwrap().model;
    let mut watch = Watch::default();
    let none: [&str; 0] = [];
    assert_eq!(look_at(&mut watch, &mut model, SystemTime::now()), none);
    // As if the second change had left no trace: the watch has seen nothing yet.
    assert!(watch.0.is_empty(), "{watch:?}");
    assert_eq!(look(&mut watch, &mut model), none);
    assert_eq!(watch.0.len(), 1);
}

#[test]
fn a_key_that_the_policy_has_no_cipher_for_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "rsa.pem");
    put(dir.path(), "c.key", "rsa.key");
    let text = "node: { interfaces: [eth0] }\n\
                subnets: [{ name: front, addressPrefix: 198.18.0.0/24 }]\n\
                securityPolicies: [{ name: p, protocols: [TLSv1.2], ciphers: [ECDHE-RSA-AES128-GCM-SHA256] }]\n\
                certificates: [{ name: c, certFile: c.pem, keyFile: c.key }]\n\
                loadBalancers:\n- name: lb\n  subnet: front\n  \
                backends: [{ name: b, protocol: Http, port: 80 }]\n  \
                listeners: [{ name: l, protocol: Https, port: 443, backend: b, certificates: [c], securityPolicy: p }]\n";
    let mut model = config::parse(text, dir.path()).unwrap().model;
    let mut watch = Watch::default();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    assert!(look(&mut watch, &mut model).is_empty());
    let told = look(&mut watch, &mut model).concat();
    assert!(told.contains("none of the ciphers of security policy p of listener l"), "{told}");
    // A file that says so is refused for the same reason.
    let errors = config::parse(text, dir.path()).unwrap_err().to_string();
    assert!(errors.contains("none of its ciphers goes with the key of a default"), "{errors}");
}

#[test]
fn a_second_default_of_the_same_kind_is_a_fault_while_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["rsa", "ecdsa"] {
        put(dir.path(), &format!("{name}.pem"), &format!("{name}.pem"));
        put(dir.path(), &format!("{name}.key"), &format!("{name}.key"));
    }
    let text = "node: { interfaces: [eth0] }\n\
                subnets: [{ name: front, addressPrefix: 198.18.0.0/24 }]\n\
                certificates: [{ name: r, certFile: rsa.pem, keyFile: rsa.key }, \
                { name: e, certFile: ecdsa.pem, keyFile: ecdsa.key }]\n\
                loadBalancers:\n- name: lb\n  subnet: front\n  \
                backends: [{ name: b, protocol: Http, port: 80 }]\n  \
                listeners: [{ name: l, protocol: Https, port: 443, backend: b, certificates: [r, e] }]\n";
    let mut model = config::parse(text, dir.path()).unwrap().model;
    let mut watch = Watch::default();
    put(dir.path(), "rsa.pem", "api.pem");
    put(dir.path(), "rsa.key", "api.key");
    assert!(look(&mut watch, &mut model).is_empty());
    let told = look(&mut watch, &mut model).concat();
    assert!(told.contains("of kind ECDSA now, as that of certificate e is"), "{told}");
    // The other one makes room.
    put(dir.path(), "ecdsa.pem", "rsa.pem");
    put(dir.path(), "ecdsa.key", "rsa.key");
    assert_eq!(look(&mut watch, &mut model), ["r: ECDSA", "e: RSA"]);
}
