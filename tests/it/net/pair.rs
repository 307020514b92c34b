//! Two hosts on one link, without a balancer between them.

use alb_tests::netns::Namespace;

/// The near host is 198.18.1.1, the far one 198.18.1.2; their interfaces are called `near`
/// and `far`.
pub(crate) struct Pair {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let pair = Self { near: Namespace::new("near"), far: Namespace::new("far") };
        let Self { near, far } = &pair;
        near.ip(&format!("link add near type veth peer far netns {}", far.name()));
        near.ip("address add 198.18.1.1/24 dev near");
        far.ip("address add 198.18.1.2/24 dev far");
        near.ip("link set near address 02:00:00:00:00:01 up");
        far.ip("link set far address 02:00:00:00:00:02 up");
        pair
    }

    /// Runs asynchronous code on the near host.
    pub(crate) fn on_near(&self, code: impl AsyncFnOnce() + Send) {
        self.near.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(code());
        });
    }
}
