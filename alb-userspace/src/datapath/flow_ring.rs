//! The ring buffer in which the packet path leaves records of flows that have ended. One reader at a
//! time: whoever holds the claim of the pin directory.

use std::fmt;

use alb_common::{abi::map, flow_log::FlowRecord};
use aya::maps::{Map, MapData, RingBuf};

use super::{
    kernel::{Kernel, KernelError, duplicate, map_data},
    sys,
};

/// The reader's end.
pub struct FlowRing(RingBuf<MapData>);

impl FlowRing {
    /// Takes the records from this one that reads them next.
    pub fn take(&mut self, mut visit: impl FnMut(&FlowRecord)) {
        while let Some(bytes) = self.0.next() {
            // The kernel writes nothing else.
            if let Some(record) = sys::value(&bytes) {
                visit(&record);
            }
        }
    }
}

impl fmt::Debug for FlowRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowRing").finish_non_exhaustive()
    }
}

impl Kernel {
    /// The ring of the maps that are used.
    pub fn flow_ring(&self) -> Result<FlowRing, KernelError> {
        let name = map::FLOW_LOG;
        let failed = |source| KernelError::Open { name, source };
        let fd = duplicate(map_data(self.ebpf(), name)?, name)?;
        let data = MapData::from_fd(fd).map_err(failed)?;
        RingBuf::try_from(Map::RingBuf(data)).map(FlowRing).map_err(failed)
    }
}
