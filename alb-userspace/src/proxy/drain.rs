//! The end of a listener's work, or of the whole proxy's: told once, seen by every connection
//! of a worker. Single-threaded.

use std::rc::Rc;

use tokio::sync::watch;

/// Tells connections to end when it suits them: one with a request in work after the response, an
/// idle one soon.
#[derive(Clone, Debug)]
pub struct Drain(Rc<watch::Sender<bool>>);

impl Default for Drain {
    fn default() -> Self {
        Self(Rc::new(watch::Sender::new(false)))
    }
}

impl Drain {
    /// From now on.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when it begins. To be made once a connection, not once a request.
    pub fn begun(&self) -> impl Future<Output = ()> + use<> {
        let mut receiver = self.0.subscribe();
        async move {
            // The sender gone is an end too.
            let _gone = receiver.wait_for(|begun| *begun).await.is_err();
        }
    }
}
