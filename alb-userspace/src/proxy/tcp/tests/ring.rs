//! The same again, over the ring from the first byte.

use std::cell::Cell;

use tokio::task::LocalSet;

use super::*;
use crate::proxy::tcp::ring::allow_at_once;

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
    an_answer_comes_after_the_client_has_ended,
    the_client_goes_on_after_the_target_has_ended,
    a_reset_goes_through_both_ways,
    a_target_that_speaks_first_gets_its_line_first,
    what_a_client_said_already_follows_the_line_at_once,
    another_target_takes_over_when_one_refuses,
    silence_ends_a_connection_and_a_byte_puts_it_off,
    an_early_answer_arrives_although_nobody_reads_the_question,
    bulk_arrives_as_it_was_sent,
    any_mix_of_sizes_arrives_as_it_was_sent,
];

#[test]
fn a_slow_receiver_is_not_idle() {
    WANTED.set(true);
    slow::one_that_takes_bytes_is_not_idle_though_none_come();
}
