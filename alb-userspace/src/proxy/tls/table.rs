//! Which certificate a client gets: exact name, longest wildcard, default; among those the first
//! that it can verify signatures of.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::model::{CertificateFacts, KeyAlgorithm};

/// What keys here may sign with; asked of each key once.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

thread_local! {
    /// Position of the certificate that was chosen last on this thread: the library asks within
    /// `Accepted::into_connection` and does not tell its caller.
    static CHOSEN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A certificate that is served.
#[derive(Debug)]
pub(super) struct Served {
    /// Id in the model.
    pub(super) id: Arc<str>,
    /// Name in the model.
    pub(super) name: Arc<str>,
    pub(super) facts: CertificateFacts,
    pub(super) certified: Arc<CertifiedKey>,
    /// What its key signs with.
    pub(super) schemes: Vec<SignatureScheme>,
}

impl Served {
    pub(super) fn new(
        id: &str,
        name: &str,
        facts: CertificateFacts,
        certified: Arc<CertifiedKey>,
    ) -> Self {
        let can = |scheme: &SignatureScheme| certified.key.choose_scheme(&[*scheme]).is_some();
        let schemes = SCHEMES.into_iter().filter(can).collect();
        Self { id: id.into(), name: name.into(), facts, certified, schemes }
    }
}

/// The certificates of one listener.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order they were added; each once.
    pub(super) served: Vec<Served>,
    defaults: Vec<usize>,
    exact: HashMap<String, usize>,
    /// `*.api.test` is kept as `api.test`.
    wildcard: HashMap<String, usize>,
}

impl Table {
    /// Adds a certificate for every name that has none of its own. ECDSA goes before RSA: a
    /// client that can take both costs less to serve with it.
    pub(super) fn add_default(&mut self, served: Served) {
        let cheap = served.facts.algorithm != KeyAlgorithm::Rsa;
        let position = self.position(served);
        self.defaults.insert(if cheap { 0 } else { self.defaults.len() }, position);
    }

    /// Adds a certificate for one domain, lower case, or for everything below `*.`.
    pub(super) fn add_domain(&mut self, domain: &str, served: Served) {
        let position = self.position(served);
        match domain.strip_prefix("*.") {
            Some(parent) => self.wildcard.insert(parent.to_owned(), position),
            None => self.exact.insert(domain.to_owned(), position),
        };
    }

    fn position(&mut self, served: Served) -> usize {
        let known = self.served.iter().position(|known| known.id == served.id);
        known.unwrap_or_else(|| {
            self.served.push(served);
            self.served.len() - 1
        })
    }

    /// What may be served for a name (lower case), best first. Without a name, or with one that
    /// nothing was added for: the defaults.
    pub(super) fn candidates(&self, host: Option<&str>) -> impl Iterator<Item = usize> {
        let exact = host.and_then(|host| self.exact.get(host));
        let parents = std::iter::successors(host.and_then(parent), |host| parent(host));
        let wildcards = parents.filter_map(|parent| self.wildcard.get(parent));
        exact.into_iter().chain(wildcards).chain(&self.defaults).copied()
    }

    /// What is set for a name (lower case): the certificate of its domain, or the defaults.
    pub(super) fn set_for(&self, host: &str) -> &[usize] {
        let parents = std::iter::successors(parent(host), |host| parent(host));
        let mut wildcards = parents.filter_map(|parent| self.wildcard.get(parent));
        let named = self.exact.get(host).or_else(|| wildcards.next());
        named.map_or(&self.defaults[..], std::slice::from_ref)
    }

    /// What is served to a client that asks for a name and can verify these signatures.
    pub(super) fn choose(&self, host: Option<&str>, offered: &[SignatureScheme]) -> Option<usize> {
        let suits =
            |at: &usize| self.served[*at].schemes.iter().any(|scheme| offered.contains(scheme));
        // Without a suitable one the best is named: the handshake fails, and says why.
        self.candidates(host).find(suits).or_else(|| self.candidates(host).next())
    }

    /// A name under which exactly this domain's certificate is found.
    pub(super) fn probe_names(&self) -> Vec<(Option<String>, usize)> {
        let defaults = self.defaults.iter().map(|at| (None, *at));
        let exact = self.exact.iter().map(|(host, at)| (Some(host.clone()), *at));
        let wildcard = self.wildcard.iter().map(|(parent, at)| {
            let labels = (0..).map(|number| format!("probe-{number}.{parent}"));
            (labels.into_iter().find(|host| !self.exact.contains_key(host)), *at)
        });
        defaults.chain(exact).chain(wildcard).collect()
    }
}

/// `a.b.test` → `b.test`.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

/// The table as the library asks it.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<Table>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Self(table) = self;
        // The library gives the name in lower case.
        let chosen = table.choose(hello.server_name(), hello.signature_schemes());
        CHOSEN.set(chosen);
        chosen.map(|at| Arc::clone(&table.served[at].certified))
    }
}

/// What was chosen since this was asked last on this thread.
pub(super) fn take_chosen() -> Option<usize> {
    CHOSEN.take()
}
