//! Hashed clients: the packet path and the proxy send them to the same targets.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_client_has_the_same_target_on_either_engine() {
    let lab = Lab::new(Shape { targets: 5, ..Shape::default() });
    let _servers = servers(&lab);
    let clients = lab.add_client_addresses(60);
    let mut service = Service { algorithm: "IpHash", ..Service::of(&lab) };
    for (target, weight) in service.targets.iter_mut().zip([30, 10, 20, 10, 5]) {
        target.1 = weight;
    }
    let both = |service: &Service| {
        with_kernel_listener(service).replace("{ name: plain,", "{ name: plain, algorithm: IpHash,")
    };
    let node = Node::xdp(lab.interfaces());
    let daemon = Instance::new(&lab.balancer.namespace, node, &both(&service)).start();
    let ask = |to| -> Vec<String> {
        let ask = |from| who(&lab.client.namespace, Some(from), to).expect("an answer");
        clients.iter().map(|from| ask((*from).into())).collect()
    };
    let distinct = |answers: &[String]| answers.iter().collect::<BTreeSet<_>>().len();

    let by_proxy = ask(vip());
    assert_eq!(ask(kernel_vip()), by_proxy);
    assert_eq!(distinct(&by_proxy), 5, "{by_proxy:?}");
    assert!(daemon.reason("proxied") >= 60 && daemon.reason("new_flow") >= 60);

    // Without one of them, and with other weights.
    service.targets.remove(2);
    service.targets[0].1 = 1;
    assert!(daemon.reload(&both(&service)), "{}", daemon.log());
    let after = wait::until("both to send clients elsewhere", wait::LONG, || {
        let after = ask(vip());
        let is_new = !after.iter().any(|name| name == "t3");
        (is_new && ask(kernel_vip()) == after).then_some(after)
    });
    assert_ne!(after, by_proxy);
}
