//! What a process leaves half-way in the flow tables when it is killed is cleared by the next one.

use alb_common::{
    abi::map,
    flow_table::{BUSY, EMPTY, FlowLine, GROUP, OFFERED},
};
use alb_tests::{
    client::tally,
    packet_path::Raw,
    topology::{Lab, Shape},
    wait,
};
use aya::maps::{Array, Map, MapData};

use crate::setting::{Service, servers, vip};

#[test]
fn lines_that_a_killed_process_was_writing_are_emptied() {
    let lab = Lab::new(Shape { targets: 1, ..Shape::default() });
    let _servers = servers(&lab);
    let mut daemon = Service::of(&lab).serve(&lab);
    daemon.kill();
    let version = std::fs::read_dir(daemon.instance.bpffs()).expect("pins").flatten().next();
    let maps = version.expect("a version").path().join("maps");
    let written = [map::FLOWS, map::HALF_OPEN].map(|name| {
        let data = MapData::from_pin(maps.join(name)).expect("a map");
        let mut lines: Array<_, Raw<FlowLine>> =
            Map::Array(data).try_into().expect("an array of lines");
        let free = |line: &u32| lines.get(line, 0).expect("a line").0.state == EMPTY;
        let free: Vec<u32> = (GROUP..).filter(free).take(2).collect();
        for (line, state) in free.iter().zip([BUSY, OFFERED]) {
            let half = FlowLine { state, ..FlowLine::default() };
            lines.set(*line, Raw(half), 0).expect("a line");
        }
        (lines, free)
    });
    tally(&lab.client.namespace, vip(), 20).expect("served without a daemon");
    daemon.restart();
    wait::until("the lines to be empty", wait::LONG, || {
        let is_left = |line: &u32, lines: &Array<_, Raw<FlowLine>>| {
            let state = lines.get(line, 0).expect("a line").0.state;
            state == BUSY || state == OFFERED
        };
        written
            .iter()
            .all(|(lines, free)| !free.iter().any(|line| is_left(line, lines)))
            .then_some(())
    });
    tally(&lab.client.namespace, vip(), 20).expect("served");
}
