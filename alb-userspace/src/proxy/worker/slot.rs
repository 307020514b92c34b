//! A listener as one worker's connections see it: always the newest.

use std::{cell::RefCell, ops::Deref, rc::Rc, sync::Arc};

use crate::proxy::{drain::Drain, plan::Listener};

/// A listener as one worker holds it: counted within the thread, so that taking it touches no
/// word that other workers write.
#[derive(Debug)]
pub struct Current(Arc<Listener>);

#[cfg(test)]
impl Current {
    /// The listener itself, to see how long it lives.
    pub(crate) fn shared_listener(&self) -> Arc<Listener> {
        Arc::clone(&self.0)
    }
}

impl Deref for Current {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.0
    }
}

/// A worker's view of one listener. Connections ask it once a request, so that a reload is
/// seen by the next request and touches no open connection.
#[derive(Debug)]
pub struct Slot {
    current: RefCell<Rc<Current>>,
    /// Begins when the listener is removed or switched off, or the proxy ends.
    pub drain: Drain,
}

impl Slot {
    /// Begins with a listener.
    pub fn new(listener: Arc<Listener>) -> Self {
        Self { current: RefCell::new(Rc::new(Current(listener))), drain: Drain::default() }
    }

    /// The listener as it is now.
    pub fn get(&self) -> Rc<Current> {
        Rc::clone(&self.current.borrow())
    }

    /// Replaces it.
    pub fn set(&self, listener: Arc<Listener>) {
        self.current.replace(Rc::new(Current(listener)));
    }
}
