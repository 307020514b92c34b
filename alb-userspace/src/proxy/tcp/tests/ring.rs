//! The same again, over the ring from the first byte.

use std::cell::Cell;

use tokio::task::LocalSet;

use super::*;
use crate::proxy::tcp::ring::{allow_at_once, is_used};

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Lets what is forwarded use a ring, in the tests below.
pub(super) fn if_wanted<T>(forwarding: impl Future<Output = T>) -> impl Future<Output = T> {
    let forwarding = Box::pin(forwarding);
    async {
        if !WANTED.get() {
            return forwarding.await;
        }
        let forwarding = async {
            allow_at_once();
            forwarding.await
        };
        LocalSet::new().run_until(forwarding).await
    }
}

macro_rules! over_the_ring {
    ($($test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            WANTED.set(true);
            super::$test();
        })*
    };
}

over_the_ring![
    the_client_goes_on_after_the_target_has_ended,
    a_reset_goes_through_both_ways,
    a_target_that_speaks_first_gets_its_line_first,
    silence_ends_a_connection_and_a_byte_puts_it_off,
    an_early_answer_arrives_although_nobody_reads_the_question,
];

#[test]
fn a_slow_receiver_is_not_idle() {
    WANTED.set(true);
    slow::one_that_takes_bytes_is_not_idle_though_none_come();
}

/// What goes over, what makes it come back, and what comes then.
#[tokio::test]
async fn small_messages_then_much_then_the_end() {
    const MESSAGES: usize = 200;
    WANTED.set(true);
    let (listener, address) = bind().await;
    let (up, down) = (pattern(5, 1 << 20), pattern(6, 1 << 20));
    let backend = backend(false, 0, &[address]);
    let (at_client, at_target, ended) = through(
        &backend,
        &listener,
        IDLE,
        async |mut stream| {
            for _ in 0..MESSAGES {
                let mut answer = [0; 100];
                stream.write_all(&[1; 100]).await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, [2; 100]);
            }
            assert!(is_used(), "over the other engine");
            stream.write_all(&up).await.unwrap();
            stream.shutdown().await.unwrap();
            rest(&mut stream).await.unwrap()
        },
        async |mut stream| {
            for _ in 0..MESSAGES {
                let mut question = [0; 100];
                stream.read_exact(&mut question).await.unwrap();
                assert_eq!(question, [1; 100]);
                stream.write_all(&[2; 100]).await.unwrap();
            }
            let all = rest(&mut stream).await.unwrap();
            stream.write_all(&down).await.unwrap();
            all
        },
    )
    .await;
    assert!(at_client == down && at_target == up);
    let total = (MESSAGES * 100 + (1 << 20)) as u64;
    assert_eq!((ended.received, ended.sent, ended.end), (total, total, End::Closed));
}
