//! A listener that becomes another one while connections are open.

use std::sync::Arc;

use super::lab::*;

#[test]
fn an_open_connection_holds_nothing_of_what_was_and_sees_what_is() {
    run(async {
        let (lab, next) = (Lab::new(&[answering(OK).await]).await, Lab::new(&[]).await);
        let mut client = lab.client().await;
        assert_eq!(talk(&mut client, get("/")).await.0.status(), 200);
        let before = Arc::downgrade(&lab.slot.get().shared_listener());
        lab.forget_plan();
        lab.slot.set(next.slot.get().shared_listener());
        assert_eq!(talk(&mut client, get("/")).await.0.status(), 503);
        assert!(before.upgrade().is_none(), "an open connection holds an old listener");
    });
}
