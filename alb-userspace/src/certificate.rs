//! A certificate chain and its key: PEM text → what TLS presents, and what people are told of
//! it. Knows neither files nor listeners.

mod facts;

use std::sync::Arc;

use rustls::{
    SignatureAlgorithm,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use x509_parser::{error::X509Error, nom, parse_x509_certificate, prelude::X509Certificate};

pub use self::facts::{EXPIRY_NOTICE, warnings};
use crate::model::{CertificateFacts, KeyAlgorithm};

/// A chain and the key of its leaf; they fit each other.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What TLS presents and signs with.
    pub certified: Arc<CertifiedKey>,
    /// What the leaf says.
    pub facts: CertificateFacts,
}

/// Why a chain and a key cannot be used. No text of a key is ever quoted.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The text of the chain is no PEM.
    #[error("certificate {number} of the chain is not PEM: {}", broken(source))]
    ChainPem {
        /// Position in the chain, from 1.
        number: usize,
        /// What the reader found.
        source: pem::Error,
    },
    /// No certificate at all.
    #[error("must be PEM with a `-----BEGIN CERTIFICATE-----` block")]
    NoCertificate,
    /// A certificate is no X.509.
    #[error("certificate {number} of the chain is not X.509: {source}")]
    NotX509 {
        /// Position in the chain, from 1.
        number: usize,
        /// What the reader found.
        source: nom::Err<X509Error>,
    },
    /// A certificate is followed by one that did not issue it.
    #[error(
        "certificate {} of the chain ({found}) did not issue certificate {number} ({subject}), which names {issuer}; the order is leaf, its issuer, that one's issuer",
        number + 1
    )]
    Order {
        /// Position of the certificate that lacks its issuer, from 1.
        number: usize,
        /// Its owner.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// Who follows instead.
        found: String,
    },
    /// The key's text is no PEM, or holds no key.
    #[error("the key cannot be decoded (PKCS#8, PKCS#1 and SEC1 in PEM are understood)")]
    KeyPem(#[source] pem::Error),
    /// The key is of a kind or size that cannot be used.
    #[error(
        "the key cannot be used: {0}; allowed is RSA with 2048–8192 bits, ECDSA on P-256, P-384 or P-521, and Ed25519"
    )]
    Key(#[source] rustls::Error),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate ({subject})")]
    Mismatch {
        /// Owner of the leaf.
        subject: String,
    },
    /// The key belongs to a certificate of the chain that is not the first.
    #[error(
        "the key belongs to certificate {number} of the chain; the leaf comes first, then its issuer"
    )]
    LeafNotFirst {
        /// Position in the chain, from 1.
        number: usize,
    },
    /// The leaf is X.509 that TLS cannot present.
    #[error("the certificate ({subject}) cannot be used: {source}")]
    Leaf {
        /// Owner of the leaf.
        subject: String,
        /// What TLS says of it.
        source: rustls::Error,
    },
}

impl IdentityError {
    /// Whether the key's text is what must change.
    pub fn is_of_the_key(&self) -> bool {
        match self {
            Self::KeyPem(_) | Self::Key(_) | Self::Mismatch { .. } => true,
            Self::ChainPem { .. }
            | Self::NoCertificate
            | Self::NotX509 { .. }
            | Self::Order { .. }
            | Self::LeafNotFirst { .. }
            | Self::Leaf { .. } => false,
        }
    }
}

/// What every key and suite here is from.
pub fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

impl Identity {
    /// Reads a chain (leaf first) and the key of its leaf, both PEM.
    pub fn read(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let ders = chain_ders(chain)?;
        let certificates = ders.iter().enumerate().map(|(index, der)| x509(index + 1, der));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let leaf = certificates.first().ok_or(IdentityError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(IdentityError::KeyPem)?;
        let key = provider().key_provider.load_private_key(key).map_err(IdentityError::Key)?;
        // The one question about the key first: a leaf that is not the first breaks the order too.
        if let Some(spki) = key.public_key() {
            let owner = certificates.iter().position(|one| one.public_key().raw == spki.as_ref());
            match owner {
                Some(0) => {}
                Some(index) => return Err(IdentityError::LeafNotFirst { number: index + 1 }),
                None => {
                    return Err(IdentityError::Mismatch { subject: leaf.subject().to_string() });
                }
            }
        }
        order(&certificates)?;
        let algorithm = key.algorithm();
        // Whatever else the library signs with is ECDSA.
        let algorithm = if algorithm == SignatureAlgorithm::RSA {
            KeyAlgorithm::Rsa
        } else if algorithm == SignatureAlgorithm::ED25519 {
            KeyAlgorithm::Ed25519
        } else {
            KeyAlgorithm::Ecdsa
        };
        let facts = facts::of(leaf, algorithm);
        let certified = CertifiedKey::new(ders, key);
        certified
            .keys_match()
            .map_err(|source| IdentityError::Leaf { subject: facts.subject.clone(), source })?;
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// The leaf's serial number, as `CertificateFacts::serial`.
    pub fn serial_of(leaf: &CertificateDer<'_>) -> Option<String> {
        let (_, certificate) = parse_x509_certificate(leaf).ok()?;
        Some(facts::serial(&certificate))
    }
}

fn chain_ders(text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let blocks = CertificateDer::pem_slice_iter(text.as_bytes()).enumerate();
    blocks
        .map(|(index, der)| {
            der.map_err(|source| IdentityError::ChainPem { number: index + 1, source })
        })
        .collect()
}

/// What is wrong with a block, in words. The library shows lines as lists of numbers, and a line
/// may hold a key.
fn broken(error: &pem::Error) -> String {
    if let pem::Error::MissingSectionEnd { end_marker } = error {
        let label = end_marker.escape_ascii();
        format!("it ends before its line `-----END {label}-----`")
    } else if let pem::Error::IllegalSectionStart { .. } = error {
        "a line that starts with `-----BEGIN` does not end with `-----`".to_owned()
    } else {
        error.to_string()
    }
}

fn x509<'d>(
    number: usize,
    der: &'d CertificateDer<'_>,
) -> Result<X509Certificate<'d>, IdentityError> {
    parse_x509_certificate(der)
        .map(|(_, certificate)| certificate)
        .map_err(|source| IdentityError::NotX509 { number, source })
}

/// Each certificate is followed by its issuer; the root may be left out.
fn order(chain: &[X509Certificate<'_>]) -> Result<(), IdentityError> {
    for (index, pair) in chain.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.issuer().as_raw() != next.subject().as_raw() {
            return Err(IdentityError::Order {
                number: index + 1,
                subject: one.subject().to_string(),
                issuer: one.issuer().to_string(),
                found: next.subject().to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
