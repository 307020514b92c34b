//! What a process leaves half-way in the flow tables when it is killed is cleared by the next one.

use std::path::Path;

use alb_common::{
    abi::map,
    flow_table::{BUSY, EMPTY, FlowLine, GROUP, Lined, OFFERED},
    net::{Be32, Be128},
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
    let maps = daemon.instance.maps();
    let four = [map::FLOWS, map::HALF_OPEN].map(|name| Written::<Be32>::into(&maps, name));
    let six = [map::FLOWS6, map::HALF_OPEN6].map(|name| Written::<Be128>::into(&maps, name));
    tally(&lab.client.namespace, vip(), 20).expect("served without a daemon");
    daemon.restart();
    wait::until("the lines to be empty", wait::LONG, || {
        let is_left = four.iter().any(Written::is_left) || six.iter().any(Written::is_left);
        (!is_left).then_some(())
    });
    tally(&lab.client.namespace, vip(), 20).expect("served");
}

/// Lines of a table that somebody was writing.
struct Written<A: Lined> {
    table: Array<MapData, Raw<FlowLine<A>>>,
    lines: Vec<u32>,
}

impl<A: Lined> Written<A> {
    fn into(maps: &Path, name: &str) -> Self {
        let data = MapData::from_pin(maps.join(name)).expect("a map");
        let mut table: Array<_, Raw<FlowLine<A>>> =
            Map::Array(data).try_into().expect("an array of lines");
        let free = |line: &u32| table.get(line, 0).expect("a line").0.state == EMPTY;
        let lines: Vec<u32> = (GROUP..).filter(free).take(2).collect();
        for (line, state) in lines.iter().zip([BUSY, OFFERED]) {
            table.set(*line, Raw(FlowLine { state, ..FlowLine::default() }), 0).expect("a line");
        }
        Self { table, lines }
    }

    fn is_left(&self) -> bool {
        self.lines.iter().any(|line| {
            let state = self.table.get(line, 0).expect("a line").0.state;
            state == BUSY || state == OFFERED
        })
    }
}
