//! Who gets requests while targets fail, and while they begin slowly.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::lab::*;
use crate::{
    model::Algorithm,
    state::{Health, TargetState},
};

const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo";

/// Two targets that say which one they are.
async fn two(change: impl FnOnce(&mut crate::model::Backend)) -> Lab {
    let targets = [answering(ONE).await, answering(TWO).await];
    Lab::with(&targets, |_, backend| change(backend)).await
}

/// Bodies of answers to so many requests over one connection, and how many there were of each;
/// 503 instead of a body.
async fn tally(lab: &Lab, count: usize) -> BTreeMap<String, usize> {
    let mut client = lab.connect().await;
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.until("\r\n\r\n").await;
        let answer = if statuses(&head) == ["503"] {
            client.until("Request id: ").await;
            client.until("\n").await;
            "503".to_owned()
        } else {
            let mut body = client.until("o").await;
            // `one` or `two`.
            if body == "o" {
                body.push_str(&client.until("ne").await);
            }
            body
        };
        *answers.entry(answer).or_default() += 1;
    }
    answers
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.map(|(answer, count)| (answer.to_owned(), count)).into()
}

#[test]
fn failed_targets_serve_in_a_panic_and_only_then() {
    run(async {
        let lab = two(|_| {}).await;
        let both = [(0, Health::Unhealthy), (1, Health::Unhealthy)];
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn, Algorithm::IpHash] {
            for (panic, failed, answer) in [
                (false, &both[..], Some("503")),
                (true, &both[..], None),
                // One that is well is no panic.
                (true, &both[..1], Some("two")),
                (true, &both[1..], Some("one")),
            ] {
                let mut model = lab.model.clone();
                let backend = &mut model.load_balancers[0].backends[0];
                (backend.algorithm, backend.panic_mode) = (algorithm, panic);
                lab.replace(&model, failed);
                let told = tally(&lab, 6).await;
                match answer {
                    Some(answer) => assert_eq!(told, counts([(answer, 6)]), "{algorithm:?}"),
                    None if algorithm == Algorithm::IpHash => {
                        assert!(told.len() == 1 && !told.contains_key("503"), "{told:?}");
                    }
                    None => assert_eq!(told, counts([("one", 3), ("two", 3)]), "{algorithm:?}"),
                }
            }
        }
    });
}

#[test]
fn a_target_that_comes_into_service_gets_its_share_by_and_by() {
    const HOUR: Duration = Duration::from_hours(1);
    run(async {
        let lab = two(|backend| backend.slow_start = HOUR).await;
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConn] {
            let mut model = lab.model.clone();
            model.load_balancers[0].backends[0].algorithm = algorithm;
            // The minutes that this takes on the slowest machine are a small part of an hour.
            for (ago, least, most) in [(0, 1, 8), (30, 28, 38), (60, 50, 50)] {
                let since = SystemTime::now() - Duration::from_mins(ago);
                lab.serve(&model, |at, state: &mut TargetState| {
                    state.since = if at == 1 { since } else { since - 2 * HOUR };
                });
                let told = tally(&lab, 100).await;
                let share = told.get("two").copied().unwrap_or(0);
                assert!((least..=most).contains(&share), "{algorithm:?} after {ago} min: {told:?}");
                assert_eq!(told["one"], 100 - share);
            }
        }
    });
}
