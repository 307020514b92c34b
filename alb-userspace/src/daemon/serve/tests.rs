//! How long the end is waited for, by a clock that does not take as long.

use tokio::time::{Instant, pause, resume};

use super::*;
use crate::{health, proxy::Proxy, state::fixture};

#[tokio::test]
async fn what_the_proxy_has_open_is_cut_after_the_grace_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = fixture::model(&[], &[]).node;
    (node.state_dir, node.workers) = (dir.path().to_owned(), 2);
    let mut proxy = Proxy::start(&node, &health::passive().0, None).unwrap();
    pause();
    let begun = Instant::now();
    // The workers were not told: they are as if they had connections.
    assert!(!drained(&mut proxy, Some(begun + GRACE)).await);
    assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs());
    resume();
    proxy.drain(false);
    let begun = Instant::now();
    assert!(drained(&mut proxy, Some(begun + GRACE)).await, "nothing is open");
    assert!(begun.elapsed() < GRACE);
}
