//! Devices of the packet path go, come back and are made anew while the daemon runs.

use alb_tests::{
    client::{tally, who},
    program,
    topology::{Lab, Shape},
    wait,
};
use serde_json::Value;

use crate::setting::{Service, servers, vip};

#[test]
fn a_device_that_is_made_anew_is_served_again() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    tally(client, vip(), 10).expect("served before");
    let is_on = |device| program::on(&lab.balancer.namespace, device).is_some();

    for (device, other) in [("eth1", "eth0"), ("eth0", "eth1")] {
        lab.remove_device(device);
        let said = wait::until("the daemon to say what is missing", wait::LONG, || {
            daemon.status()["notReadyBecause"].as_str().map(str::to_owned)
        });
        assert!(said.contains(&format!("{device} is not there")), "{said}");
        assert!(is_on(other), "the other one stays attached");

        lab.add_device(device);
        wait::until(&format!("{device} to be ready again: {}", daemon.log()), wait::LONG, || {
            (daemon.status()["notReadyBecause"] == Value::Null).then_some(())
        });
        wait::until("traffic to heal", wait::LONG, || who(client, None, vip()).ok());
        tally(client, vip(), 30).expect("served again");
        assert!(is_on(device) && is_on(other));
    }
}

#[test]
fn a_link_that_was_down_heals() {
    let lab = Lab::new(Shape::default());
    let _servers = servers(&lab);
    let _daemon = Service::of(&lab).serve(&lab);
    let client = &lab.client.namespace;
    for device in ["eth1", "eth0"] {
        lab.balancer.namespace.ip(&format!("link set {device} down"));
        who(client, None, vip()).expect_err("the way is cut");
        lab.balancer.namespace.ip(&format!("link set {device} up"));
        wait::until("traffic to heal", wait::LONG, || who(client, None, vip()).ok());
        tally(client, vip(), 30).expect("served again");
    }
}
