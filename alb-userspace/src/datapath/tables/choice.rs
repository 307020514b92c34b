//! Who a target is, and the selection table of a backend's targets.

use std::sync::Arc;

use alb_common::{selection::weighted, service::algorithm};
use sha2::{Digest as _, Sha256};

use super::TargetIdentity;
use crate::{
    balance,
    model::{Algorithm, Backend, Target},
};

/// One target of a backend, ready for selection.
pub(super) struct Candidate {
    pub(super) index: u32,
    pub(super) of: balance::Candidate,
}

pub(super) fn identity(backend: &Backend, target: &Target) -> TargetIdentity {
    let mut hash = Sha256::new();
    for part in [&backend.id, &target.id, &target.address.to_string()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(target.port_for(backend).get().to_be_bytes());
    let digest = hash.finalize();
    u64::from_be_bytes(std::array::from_fn(|index| digest[index]))
}

/// The extent of the kernel's table. A target that cannot be reached has no share whatever its
/// health.
pub(super) fn select(backend: &Backend, candidates: &[Candidate]) -> Arc<[u32]> {
    let of: Vec<balance::Candidate> = candidates.iter().map(|candidate| candidate.of).collect();
    let weights = balance::weights(backend.panic_mode, &of);
    if backend.algorithm == Algorithm::LeastConn {
        let slot = |(candidate, weight): (&Candidate, &u32)| {
            let weight = u8::try_from(*weight).unwrap_or(u8::MAX);
            (weight > 0).then(|| weighted(candidate.index, weight))
        };
        return candidates.iter().zip(&weights).filter_map(slot).collect();
    }
    let order = balance::order(backend.algorithm, &of, &weights);
    order.into_iter().map(|position| candidates[position].index).collect()
}

pub(super) fn code(algorithm: Algorithm) -> u16 {
    match algorithm {
        Algorithm::RoundRobin => algorithm::ROUND_ROBIN,
        Algorithm::IpHash => algorithm::IP_HASH,
        Algorithm::LeastConn => algorithm::LEAST_CONN,
    }
}
