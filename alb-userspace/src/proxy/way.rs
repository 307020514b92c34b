//! Where a request goes, whatever protocol it came in: what the listener's routes say of it, and
//! the target its client is bound to. Knows nothing of connections to targets.

use std::{sync::Arc, time::SystemTime};

use super::{
    message::RequestHead,
    peer::Peer,
    plan::{Backend, Listener},
    refusal::Refusal,
    route::{Choice, Redirection, Rule},
};

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict<'l> {
    /// It goes to a target.
    Forward(Way<'l>),
    /// The client is sent elsewhere.
    Redirect(Redirection<'l>),
    /// It is not served.
    Refuse(Refusal),
}

/// The way of a request to its targets.
#[derive(Clone, Copy, Debug)]
pub struct Way<'l> {
    /// Where it goes.
    pub backend: &'l Arc<Backend>,
    /// The rule that matched; `None` = none did.
    pub rule: Option<&'l Rule<Arc<Backend>>>,
    /// Gets a copy.
    pub mirror: Option<&'l Arc<Backend>>,
    /// The target (its position) that the client is bound to.
    pub bound: Option<usize>,
}

/// Finds the way of a request that passed the checks of its protocol.
pub fn find<'l>(head: &RequestHead<'_>, listener: &'l Listener, peer: &Peer) -> Verdict<'l> {
    let elsewhere = |tls: &super::peer::TlsInfo| !tls.is_for(head.authority);
    if !head.authority.is_empty() && peer.tls.as_ref().is_some_and(elsewhere) {
        return Verdict::Refuse(Refusal::Misdirected);
    }
    match listener.routes.find(head.authority, head.path()) {
        Choice::Forward { backend, mirror, rule } => {
            let sticky = backend.sticky.is_some();
            let bound = sticky.then(|| backend.bound(head.fields, SystemTime::now())).flatten();
            Verdict::Forward(Way { backend, rule, mirror, bound })
        }
        Choice::Redirect(to) => Verdict::Redirect(to),
        Choice::Refuse(reason) => Verdict::Refuse(Refusal::Malformed(reason)),
    }
}
