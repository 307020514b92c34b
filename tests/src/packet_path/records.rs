//! Records of ended flows, as a daemon reads them.

use alb_common::{abi::map, flow_log::FlowRecord};
use aya::{Ebpf, maps::RingBuf};

use super::Prog;

impl Prog {
    /// Takes what is in the ring.
    pub fn flow_records(&mut self) -> Vec<FlowRecord> {
        take(&mut self.ebpf)
    }

    /// The same of the TC program, if it is loaded.
    pub fn twin_flow_records(&mut self) -> Option<Vec<FlowRecord>> {
        self.twin.as_mut().map(take)
    }
}

fn take(ebpf: &mut Ebpf) -> Vec<FlowRecord> {
    let map = ebpf.map_mut(map::FLOW_LOG).expect("a map");
    let mut ring = RingBuf::try_from(map).expect("a ring buffer");
    let mut records = Vec::new();
    while let Some(bytes) = ring.next() {
        records.push(record(&bytes));
    }
    records
}

#[expect(unsafe_code, reason = "bytes become a value")]
fn record(bytes: &[u8]) -> FlowRecord {
    assert_eq!(bytes.len(), size_of::<FlowRecord>());
    // SAFETY: as many bytes as it has; every bit pattern is one, and the read is unaligned.
    unsafe { bytes.as_ptr().cast::<FlowRecord>().read_unaligned() }
}
