//! The whole tick: files on disk, tickets, contexts.

use std::{fs, path::Path};

use super::*;
use crate::{
    config,
    proxy::plan::Secrets,
    state::{Store, TargetStates},
};

fn put(dir: &Path, name: &str, from: &str) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls");
    fs::copy(corpus.join(from), dir.join(name)).unwrap();
}

struct Node {
    store: Store,
    plan: Plan,
    secrets: Secrets,
    certificates: Certificates,
}

impl Node {
    fn new(dir: &Path) -> Self {
        let text = "node: { interfaces: [eth0], datapath: proxy }\n\
                    subnets: [{ name: front, addressPrefix: 198.18.0.0/24 }]\n\
                    certificates: [{ name: c, certFile: c.pem, keyFile: c.key }]\n\
                    loadBalancers:\n- name: lb\n  subnet: front\n  \
                    backends: [{ name: b, protocol: Http, port: 80 }]\n  \
                    listeners: [{ name: l, protocol: Https, port: 443, backend: b, certificates: [c], \
                    extensionCertificates: [{ certificate: c, domain: shop.test }] }]\n";
        let model = config::parse(text, dir).unwrap().model;
        let certificates = Certificates::new(&model);
        let store = Store::new(model, &TargetStates::default());
        let secrets = Secrets::of_a_test();
        let plan = Plan::compile(&store.snapshot(), &secrets, &Plan::default());
        Self { store, plan, secrets, certificates }
    }

    /// A tick of the daemon's loop; the serial number that is served after it.
    fn tick(&mut self) -> String {
        let model = Arc::clone(&self.store.snapshot().model);
        let watch = std::mem::take(&mut self.certificates.watch);
        let swaps = self.certificates.swaps(&self.plan);
        let looked = look(model, watch, swaps, &self.secrets.tickets);
        assert_eq!(looked.wrong, 0, "what is served is what is set");
        if let Some(next) = self.certificates.take(looked, &self.store.snapshot().model) {
            self.store.apply(next);
            self.plan = Plan::compile(&self.store.snapshot(), &self.secrets, &self.plan);
        }
        self.store.snapshot().model.certificates[0].facts.serial.clone()
    }

    fn counts(&self) -> (u64, u64, usize) {
        let Reloads { applied, refused, faults, .. } = self.certificates.reloads();
        (applied.values().sum(), refused.values().sum(), faults.len())
    }
}

#[tokio::test]
async fn changed_files_are_taken_over_and_broken_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    let mut node = Node::new(dir.path());
    let first = node.tick();
    assert_eq!(node.tick(), first);
    assert_eq!(node.certificates.verified.len(), 1);
    let context = Arc::clone(node.plan.listeners[0].tls.as_ref().unwrap());

    put(dir.path(), "c.key", "rsa.key");
    for _ in 0..3 {
        assert_eq!(node.tick(), first);
    }
    assert_eq!(node.counts(), (0, 1, 1), "told once");
    assert!(Arc::ptr_eq(&context, node.plan.listeners[0].tls.as_ref().unwrap()));

    put(dir.path(), "c.pem", "rsa.pem");
    let second = node.tick();
    assert_ne!(second, first);
    assert_eq!(node.counts(), (1, 1, 0));
    assert_eq!(node.certificates.swaps(&node.plan).len(), 1, "the new one is to be verified");
    assert_eq!(node.tick(), second);
    assert_eq!(node.certificates.swaps(&node.plan).len(), 0);
}

#[tokio::test]
async fn what_was_found_of_another_model_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "c.pem", "ecdsa.pem");
    put(dir.path(), "c.key", "ecdsa.key");
    let mut node = Node::new(dir.path());
    let first = node.tick();
    put(dir.path(), "c.pem", "rsa.pem");
    put(dir.path(), "c.key", "rsa.key");
    // A reload while files are looked at.
    let old = Arc::clone(&node.store.snapshot().model);
    let looked =
        look(old, std::mem::take(&mut node.certificates.watch), vec![], &node.secrets.tickets);
    assert_eq!(looked.changes.len(), 1);
    let mut other = Model::clone(&node.store.snapshot().model);
    other.load_balancers[0].description = "another".into();
    node.store.apply(other);
    assert!(node.certificates.take(looked, &node.store.snapshot().model).is_none());
    assert_ne!(node.tick(), first);
    assert_eq!(node.store.snapshot().model.load_balancers[0].description, "another");
}
