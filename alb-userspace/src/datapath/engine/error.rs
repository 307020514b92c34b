//! Why the packet path could not be opened or changed.

use super::super::{extents::NoRoom, kernel::KernelError, maps::MapError, tables::TablesError};

/// The datapath could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Loading, adopting or attaching failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The snapshot does not fit into the tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// There is no room for a selection table.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// SYN cookies need a key that nobody can guess.
    #[error("the operating system gave no randomness for the key of SYN cookies")]
    Randomness,
}
