//! Health checks: which probes the model asks for, running them, and telling the store what
//! changed. Knows nothing of how a verdict is used.

mod host;
mod http;
mod passive;
mod plan;
mod probe;
mod schedule;
mod threshold;

use std::time::Duration;

pub use passive::{Passive, Suspects, passive};
pub use plan::{Check, plan};
pub use schedule::run;

use crate::state::Store;

/// Waits until every target has a verdict, at most `within`. False = some still have none.
pub async fn settled(store: &Store, within: Duration) -> bool {
    let mut snapshots = store.subscribe();
    let settled = snapshots.wait_for(|snapshot| snapshot.is_settled());
    matches!(tokio::time::timeout(within, settled).await, Ok(Ok(_)))
}
