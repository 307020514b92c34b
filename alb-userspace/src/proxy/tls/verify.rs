//! A handshake in memory: which certificate a client would get from a context.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConnection,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::Context;
use crate::certificate::{self, Identity};

/// More flights than any handshake has.
const FLIGHTS: usize = 8;

/// Why a handshake in memory failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error("{0} cannot be asked for")]
    Name(String),
    #[error(transparent)]
    Tls(#[from] Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the handshake does not end")]
    Endless,
    #[error("no certificate was presented")]
    Nothing,
}

/// The serial number that a client gets which asks for `host` and can verify only what the
/// certificate at `position` signs with.
pub(super) fn serial(
    context: &Context,
    host: Option<&str>,
    position: usize,
) -> Result<String, VerifyError> {
    // Asking for an address sends no name (RFC 6066 §3).
    let name = host.unwrap_or("192.0.2.1").to_owned();
    let name = ServerName::try_from(name.clone()).map_err(|_invalid| VerifyError::Name(name))?;
    let schemes = context.table.served[position].schemes.clone();
    let provider = Arc::new(certificate::provider());
    let verifier = Arc::new(Witness { schemes, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    let mut server = ServerConnection::new(Arc::clone(&context.config))?;
    let mut wire = Vec::new();
    for _ in 0..FLIGHTS {
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread)?;
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread)?;
            client.process_new_packets()?;
        }
        wire.clear();
        if !client.is_handshaking() && !server.is_handshaking() {
            let leaf = client.peer_certificates().and_then(<[_]>::first);
            return leaf.and_then(Identity::serial_of).ok_or(VerifyError::Nothing);
        }
    }
    Err(VerifyError::Endless)
}

/// A client that takes any certificate, if the server has its key.
#[derive(Debug)]
struct Witness {
    schemes: Vec<SignatureScheme>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
