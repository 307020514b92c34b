//! What a handshake that did not succeed is called: counter, metric label and log word.

use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Failure {
    /// Plain HTTP on a TLS port.
    PlainHttp,
    /// Neither TLS nor HTTP.
    NotTls,
    /// The client took too long.
    Timeout,
    /// The client went away before the end.
    ClientGone,
    /// The client speaks only versions that the policy does not offer.
    NoSharedVersion,
    /// The client has none of the policy's suites.
    NoSharedCipher,
    /// The client has none of the key exchange groups.
    NoSharedGroup,
    /// The client cannot verify signatures of any of the listener's keys.
    NoSharedSignature,
    /// The client offers protocols (ALPN), but none that is served.
    NoSharedProtocol,
    /// The client did not accept the certificate.
    CertificateRefused,
    /// The client ended the handshake with another alert.
    ClientAlert,
    /// What the client sent breaks the rules of TLS.
    Malformed,
    /// A failure on this side.
    Internal,
}

impl Failure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 13] = [
        Self::PlainHttp,
        Self::NotTls,
        Self::Timeout,
        Self::ClientGone,
        Self::NoSharedVersion,
        Self::NoSharedCipher,
        Self::NoSharedGroup,
        Self::NoSharedSignature,
        Self::NoSharedProtocol,
        Self::CertificateRefused,
        Self::ClientAlert,
        Self::Malformed,
        Self::Internal,
    ];

    /// Counter, metric label and log word.
    pub fn word(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Timeout => "handshake_timeout",
            Self::ClientGone => "client_gone",
            Self::NoSharedVersion => "no_shared_version",
            Self::NoSharedCipher => "no_shared_cipher",
            Self::NoSharedGroup => "no_shared_group",
            Self::NoSharedSignature => "no_shared_signature",
            Self::NoSharedProtocol => "no_shared_protocol",
            Self::CertificateRefused => "certificate_refused",
            Self::ClientAlert => "client_alert",
            Self::Malformed => "malformed",
            Self::Internal => "internal",
        }
    }

    /// What an I/O error of a handshake means.
    pub(super) fn of_io(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|source| source.downcast_ref::<Error>());
        tls.map_or(Self::ClientGone, Self::of)
    }

    /// What an error of the library means.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enums may grow")]
    pub(super) fn of(error: &Error) -> Self {
        use PeerIncompatible as Lacks;
        match error {
            Error::NoApplicationProtocol => Self::NoSharedProtocol,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::Malformed,
            Error::PeerIncompatible(lack) => match lack {
                Lacks::Tls12NotOffered
                | Lacks::Tls12NotOfferedOrEnabled
                | Lacks::SupportedVersionsExtensionRequired
                // The library asks for this before the version. Clients of TLS 1.0 and 1.1 have
                // none; those of later versions all send it (RFC 8446 §4.2.3).
                | Lacks::SignatureAlgorithmsExtensionRequired => Self::NoSharedVersion,
                Lacks::NoKxGroupsInCommon | Lacks::NamedGroupsExtensionRequired => {
                    Self::NoSharedGroup
                }
                Lacks::NoSignatureSchemesInCommon => Self::NoSharedSignature,
                _ => Self::NoSharedCipher,
            },
            _ => Self::Internal,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enums may grow")]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA => Self::CertificateRefused,
            _ => Self::ClientAlert,
        }
    }
}
