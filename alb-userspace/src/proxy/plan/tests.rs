//! What is carried from plan to plan, and who serves what.

use std::num::NonZeroU16;

use super::*;
use crate::{
    model::{self, DatapathMode, Model},
    state::{Store, TargetStates, fixture},
};

fn listener(id: &str, protocol: ListenerProtocol, port: u16, backend: &str) -> model::Listener {
    model::Listener {
        id: id.into(),
        name: id.into(),
        description: String::new(),
        protocol,
        port: NonZeroU16::new(port).unwrap(),
        enabled: true,
        backend: backend.into(),
        url_map: None,
        idle_timeout: Duration::from_mins(1),
        max_connections: None,
        max_qps: None,
        tls: None,
        http: None,
    }
}

/// An http listener on two targets, and a tcp one that the kernel can serve.
fn model() -> Model {
    let targets = [
        fixture::target("a", "198.18.1.1:80".parse().unwrap()),
        fixture::target("b", "198.18.1.2:80".parse().unwrap()),
    ];
    let mut model = fixture::model(&[("web", None), ("db", None)], &targets);
    model.load_balancers[0].backends[0].protocol = BackendProtocol::Http;
    model.load_balancers[0].listeners = vec![
        listener("http", ListenerProtocol::Http, 80, "web"),
        listener("tcp", ListenerProtocol::Tcp, 5432, "db"),
    ];
    model
}

/// The same, with an https listener; the certificate's text can be spoilt.
fn secured() -> Model {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls");
    let text = "node: { interfaces: [eth0] }\n\
                certificates: [{ name: c, certFile: ecdsa.pem, keyFile: ecdsa.key }]\n";
    let mut model = model();
    model.certificates = crate::config::parse(text, &dir).unwrap().model.certificates;
    let mut https = listener("https", ListenerProtocol::Https, 443, "web");
    https.tls = Some(model::ListenerTls {
        certificates: vec![model.certificates[0].id.clone()],
        extension_certificates: Vec::new(),
        security_policy: None,
        hsts_max_age: None,
    });
    model.load_balancers[0].listeners.push(https);
    model
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.listeners.iter().map(|listener| &*listener.id).collect()
}

fn compile(model: &Model, before: &Plan) -> Plan {
    let store = Store::new(model.clone(), &TargetStates::default());
    Plan::compile(&store.snapshot(), &Secrets::of_a_test(), before)
}

#[test]
fn the_proxy_serves_what_the_kernel_does_not() {
    let mut model = model();
    assert_eq!(ids(&compile(&model, &Plan::default())), ["http"]);
    model.load_balancers[0].backends[1].proxy_protocol = true;
    assert_eq!(ids(&compile(&model, &Plan::default())), ["http", "tcp"]);
    model.load_balancers[0].backends[1].proxy_protocol = false;
    model.node.datapath = DatapathMode::Proxy;
    assert_eq!(ids(&compile(&model, &Plan::default())), ["http", "tcp"]);
}

#[test]
fn counters_go_on_in_the_next_plan_unless_a_target_moves() {
    let mut model = model();
    let first = compile(&model, &Plan::default());
    let (a, b) = (&first.listeners[0].backend.targets[0], &first.listeners[0].backend.targets[1]);
    let (_on_a, _on_b) = (a.enter(), b.enter());
    assert_eq!((a.in_flight(), b.in_flight()), (1, 1));
    assert!(a.serves() && a.health == Health::Unchecked);

    model.load_balancers[0].target_groups[0].targets[1].address = [198, 18, 1, 3].into();
    model.load_balancers[0].target_groups[0].targets[0].weight = 0;
    let second = compile(&model, &first);
    let backend = &second.listeners[0].backend;
    assert_eq!((backend.targets[0].in_flight(), backend.targets[1].in_flight()), (1, 0));
    assert!(!backend.targets[0].serves());
    assert!(Arc::ptr_eq(&second.listeners[0].shared, &first.listeners[0].shared));
    assert!(Arc::ptr_eq(&backend.shared, &first.listeners[0].backend.shared));
}

#[test]
fn a_listener_whose_certificates_turn_unusable_goes_on_with_what_it_had() {
    let mut model = secured();
    let first = compile(&model, &Plan::default());
    assert_eq!((ids(&first), &first.failed), (vec!["http", "https"], &vec![]));

    model.certificates[0].chain = "nothing of use".into();
    model.load_balancers[0].target_groups[0].targets[1].weight = 0;
    let second = compile(&model, &first);
    assert_eq!(ids(&second), ["http", "https"]);
    let told = second.failed.concat();
    assert!(told.contains("listener https") && told.contains("goes on with what it had"), "{told}");
    let tls = |plan: &Plan| Arc::clone(plan.listeners[1].tls.as_ref().unwrap());
    assert!(Arc::ptr_eq(&tls(&first), &tls(&second)));
    assert!(!second.listeners[1].backend.targets[1].serves(), "everything else is the new plan's");

    // Nothing to go on with: it is left out, and said so.
    for before in [Plan::default(), compile(&self::model(), &Plan::default())] {
        let plan = compile(&model, &before);
        assert_eq!((ids(&plan), plan.failed.len()), (vec!["http"], 1));
        assert!(!plan.failed[0].contains("goes on"), "{:?}", plan.failed);
    }
}
