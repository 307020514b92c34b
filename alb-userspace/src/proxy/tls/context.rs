//! Model → what a listener's handshakes are done with. Immutable; a reload that changes nothing
//! of it keeps it.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage};

use super::{
    Counts, Tickets, policy,
    table::{Resolver, Served, Table},
    verify,
};
use crate::{
    certificate::{Identity, IdentityError},
    model::{Certificate, ListenerProtocol, ListenerTls, Model, SecurityPolicy},
};

/// Protocols of an https listener, in the order of preference.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Tickets a TLS 1.3 client gets: one to resume with, one more for a second connection.
const TICKETS: usize = 2;

/// Why a listener's TLS cannot be set up. A model was read with the same eyes, so that this is a
/// defect of the program.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A certificate of the model cannot be used.
    #[error("certificate {name}: {source}")]
    Certificate {
        /// Its name.
        name: String,
        /// Why not.
        source: IdentityError,
    },
    /// The library refuses the versions and suites.
    #[error("the security policy cannot be used: {0}")]
    Policy(#[source] rustls::Error),
    /// There is nothing to serve.
    #[error("no default certificate")]
    NoCertificate,
}

/// What a listener's handshakes are done with.
#[derive(Debug)]
pub struct Context {
    pub(super) config: Arc<ServerConfig>,
    /// The same by the client's order of suites.
    pub(super) by_client: Arc<ServerConfig>,
    pub(super) table: Arc<Table>,
    /// What happened so far; goes on in the context that follows.
    pub counts: Arc<Counts>,
    source: Source,
}

/// Everything a context is made from.
#[derive(Debug, PartialEq)]
struct Source {
    protocol: ListenerProtocol,
    defaults: Vec<Certificate>,
    domains: Vec<(String, Certificate)>,
    policy: Option<SecurityPolicy>,
}

impl Source {
    fn of(protocol: ListenerProtocol, tls: &ListenerTls, model: &Model) -> Self {
        let defaults = tls.certificates.iter().filter_map(|id| model.certificate(id));
        let domains = tls.extension_certificates.iter().filter_map(|extension| {
            let certificate = model.certificate(&extension.certificate)?;
            Some((extension.domain.clone(), certificate.clone()))
        });
        let policy = tls.security_policy.as_ref().and_then(|id| model.security_policy(id));
        Self {
            protocol,
            defaults: defaults.cloned().collect(),
            domains: domains.collect(),
            policy: policy.cloned(),
        }
    }

    fn table(&self) -> Result<Table, ContextError> {
        let mut table = Table::default();
        for certificate in &self.defaults {
            table.add_default(served(certificate)?);
        }
        if self.defaults.is_empty() {
            return Err(ContextError::NoCertificate);
        }
        for (domain, certificate) in &self.domains {
            table.add_domain(domain, served(certificate)?);
        }
        Ok(table)
    }
}

fn served(certificate: &Certificate) -> Result<Served, ContextError> {
    let Certificate { id, name, chain, key, .. } = certificate;
    let identity = Identity::read(chain, &key.0)
        .map_err(|source| ContextError::Certificate { name: name.clone(), source })?;
    Ok(Served::new(id, name, identity.facts, identity.certified))
}

impl Context {
    /// What a listener (https or tls) of a model does its handshakes with. `before` is what it
    /// did them with until now: the same is returned if nothing changed, and its counts go on if
    /// something did.
    pub fn compile(
        protocol: ListenerProtocol,
        tls: &ListenerTls,
        model: &Model,
        tickets: &Arc<Tickets>,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, ContextError> {
        let source = Source::of(protocol, tls, model);
        if let Some(before) = before.filter(|before| before.source == source) {
            return Ok(Arc::clone(before));
        }
        let table = Arc::new(source.table()?);
        let policy = source.policy.as_ref();
        let mut config = ServerConfig::builder_with_provider(policy::provider(policy))
            .with_protocol_versions(&policy::versions(policy))
            .map_err(ContextError::Policy)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&table))));
        config.ticketer = Arc::clone(tickets) as _;
        // Tickets are the one way to resume: nothing is remembered for clients without them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        config.max_early_data_size = 0;
        if protocol == ListenerProtocol::Https {
            config.alpn_protocols = HTTP.map(<[u8]>::to_vec).to_vec();
        }
        let by_client = Arc::new(config.clone());
        config.ignore_client_order = true;
        let counts = before.map(|before| Arc::clone(&before.counts)).unwrap_or_default();
        Ok(Arc::new(Self { config: Arc::new(config), by_client, table, counts, source }))
    }

    /// Does a handshake in memory for every name and default, and logs the serial numbers that
    /// are served where they differ from those of `before`; whether all are as they should be.
    pub fn confirm(&self, before: Option<&Self>, listener: &str) -> bool {
        let known: Vec<&str> = before
            .iter()
            .flat_map(|before| &before.table.served)
            .map(|served| &*served.facts.serial)
            .collect();
        let mut right = true;
        for (host, position) in self.table.probe_names() {
            let Served { name, facts, .. } = &self.table.served[position];
            let host = host.as_deref();
            let certificate = &**name;
            if self.source.policy.as_ref().is_some_and(|policy| !policy.serves(facts.algorithm)) {
                // The file was warned of; there is nothing to verify.
                continue;
            }
            match verify::serial(self, host, position) {
                Ok(serial) if serial == facts.serial => {
                    if !known.contains(&&*serial) {
                        let not_after = httpdate::fmt_http_date(facts.not_after);
                        tracing::info!(
                            listener,
                            certificate,
                            host,
                            serial,
                            not_after,
                            "certificate is served"
                        );
                    }
                }
                Ok(serial) => {
                    right = false;
                    let expected = &*facts.serial;
                    tracing::error!(
                        listener,
                        certificate,
                        host,
                        serial,
                        expected,
                        "another certificate is served than the one that is set"
                    );
                }
                Err(error) => {
                    right = false;
                    tracing::error!(%error, listener, certificate, host, "a handshake for this certificate fails");
                }
            }
        }
        right
    }
}
