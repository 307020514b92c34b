//! Makes the flow tables of new maps. Their hash is keyed, so that nobody can choose addresses and
//! ports that have one home.

use alb_common::flow_table::RANDOM;

use super::KernelError;
use crate::datapath::maps::Maps;

/// Makes those that are none yet. Before the maps are pinned: what is pinned has its tables, wherever
/// a process is killed.
pub(in crate::datapath) fn make_tables(maps: &Maps) -> Result<(), KernelError> {
    for table in [&maps.flows, &maps.half_open] {
        table.make(seeds()?, seeds()?)?;
    }
    Ok(())
}

fn seeds() -> Result<[u64; RANDOM], KernelError> {
    let mut bytes = [0; size_of::<[u64; RANDOM]>()];
    let Ok(()) = aws_lc_rs::rand::fill(&mut bytes) else { return Err(KernelError::Randomness) };
    let (words, _) = bytes.as_chunks();
    Ok(std::array::from_fn(|at| u64::from_ne_bytes(words[at])))
}
