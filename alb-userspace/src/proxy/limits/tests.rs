//! The bucket over time, and counts from several threads.

use std::thread;

use super::*;

/// How many of `tries` at the same moment are let through.
fn burst(bucket: &Bucket, limit: u32, now: u64, tries: usize) -> usize {
    (0..tries).filter(|_| bucket.take_at(limit, now)).count()
}

#[test]
fn a_bucket_holds_one_second() {
    let bucket = Bucket::default();
    assert_eq!(burst(&bucket, 10, SECOND, 50), 10);
    assert_eq!(burst(&bucket, 10, SECOND + SECOND / 10 - 1, 5), 0);
    assert_eq!(burst(&bucket, 10, SECOND + SECOND / 10, 5), 1);
    assert_eq!(burst(&bucket, 10, 2 * SECOND, 50), 9);
    assert_eq!(burst(&bucket, 10, 60 * SECOND, 50), 10);
    assert_eq!(burst(&bucket, 0, 120 * SECOND, 1), 0);
}

#[test]
fn a_lower_limit_holds_at_once() {
    let bucket = Bucket::default();
    assert_eq!(burst(&bucket, 1_000, SECOND, 500), 500);
    // Half a second's worth is taken, whatever the limit.
    assert_eq!(burst(&bucket, 10, SECOND, 50), 5);
}

#[test]
fn threads_together_take_no_more_than_the_limit() {
    let (bucket, shared) = (Bucket::default(), Arc::new(ListenerShared::default()));
    let (taken, kept) = thread::scope(|scope| {
        let each = || {
            let taken = burst(&bucket, 1_000, SECOND, 2_000);
            let kept: Vec<_> =
                (0..500).filter_map(|_| Admission::take(&shared, Some(700))).collect();
            (taken, kept)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(each)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.fold((0, Vec::new()), |(sum, mut all), (taken, kept)| {
            all.extend(kept);
            (sum + taken, all)
        })
    });
    assert_eq!(taken, 1_000);
    assert_eq!((kept.len(), shared.connections.load(Ordering::Relaxed)), (700, 700));
    drop(kept);
    assert_eq!(shared.connections.load(Ordering::Relaxed), 0);
}
