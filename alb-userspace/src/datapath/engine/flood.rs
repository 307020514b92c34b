//! What the packet path's defence against floods of SYNs takes from the host.

use std::thread;

use super::EngineError;

/// CPUs that packets may come in by.
pub(super) fn cpus() -> u32 {
    thread::available_parallelism().map_or(1, |all| u32::try_from(all.get()).unwrap_or(u32::MAX))
}

/// A key of SYN cookies.
pub(super) fn key() -> Result<[u32; 4], EngineError> {
    let mut bytes = [0; 16];
    let Ok(()) = aws_lc_rs::rand::fill(&mut bytes) else { return Err(EngineError::Randomness) };
    let (words, _) = bytes.as_chunks();
    Ok(std::array::from_fn(|at| u32::from_ne_bytes(words[at])))
}
