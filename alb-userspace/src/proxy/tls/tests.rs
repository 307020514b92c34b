//! Whole handshakes: over sockets with a real client side, and what they say afterwards.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CipherSuite, ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{certificate, config, model::Model};

const PATIENCE: Duration = Duration::from_mins(1);

fn dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls")
}

/// A listener with these keys; every certificate of the corpus has the name of its file.
fn model(listener: &str) -> Model {
    let names = ["rsa", "ecdsa", "api", "v1", "ed25519"];
    let certificates: Vec<String> = names
        .iter()
        .map(|name| format!("  - {{ name: {name}, certFile: {name}.pem, keyFile: {name}.key }}\n"))
        .collect();
    let certificates = certificates.concat();
    let text = format!(
        "node: {{ interfaces: [eth0] }}\n\
         subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         securityPolicies:\n\
         \x20 - {{ name: v13, protocols: [TLSv1.3], ciphers: [TLS_CHACHA20_POLY1305_SHA256] }}\n\
         \x20 - {{ name: v12, protocols: [TLSv1.2], ciphers: [ECDHE-RSA-AES128-GCM-SHA256] }}\n\
         certificates:\n{certificates}\
         loadBalancers:\n\
         - name: shop\n\
         \x20 subnet: front\n\
         \x20 backends: [{{ name: b, protocol: Http, port: 80 }}, {{ name: t, protocol: Tcp, port: 80 }}]\n\
         \x20 listeners: [{{ name: l, port: 443, {listener} }}]\n"
    );
    config::parse(&text, &dir()).unwrap_or_else(|errors| panic!("{errors}")).model
}

fn context(listener: &str, tickets: &Arc<Tickets>, before: Option<&Arc<Context>>) -> Arc<Context> {
    let model = model(listener);
    let listener = &model.load_balancers[0].listeners[0];
    let tls = listener.tls.as_ref().unwrap();
    Context::compile(listener.protocol, tls, &model, tickets, before).unwrap()
}

fn https(keys: &str) -> String {
    format!("protocol: Https, backend: b, {keys}")
}

fn tickets() -> Arc<Tickets> {
    Arc::new(Tickets::random(SystemTime::now()).unwrap())
}

/// A client that trusts the corpus.
fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    client_with(certificate::provider(), versions, alpn)
}

fn client_with(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(dir().join("ca.pem")).unwrap();
    roots.add(root).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// A TCP connection over loopback: what the client does with its end, and what `accept` says.
async fn meet<T>(
    context: &Arc<Context>,
    patience: Duration,
    work: impl AsyncFnOnce(TcpStream) -> T,
) -> (T, Result<Accepted, Refused>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    tokio::join!(work(stream), accept(socket.into(), context, patience))
}

/// A handshake and one byte each way, so that tickets have arrived.
async fn shake(context: &Arc<Context>, config: &Arc<ClientConfig>, host: &str) -> Accepted {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::clone(config));
    let (client, accepted) =
        meet(context, PATIENCE, async |stream| connector.connect(name, stream).await).await;
    let (mut client, mut accepted) = (client.unwrap(), accepted.unwrap());
    accepted.stream.write_all(b"x").await.unwrap();
    accepted.stream.flush().await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    accepted
}

/// Both ends of a TLS connection: the listener's and the client's.
pub(crate) async fn pair() -> (Stream, tokio_rustls::client::TlsStream<TcpStream>) {
    let context = context("protocol: Tls, backend: t, certificates: [ecdsa]", &tickets(), None);
    let connector = TlsConnector::from(Arc::new(client(&BOTH, &[])));
    let name = ServerName::try_from("shop.test").unwrap();
    let (client, accepted) =
        meet(&context, PATIENCE, async |stream| connector.connect(name, stream).await).await;
    (accepted.unwrap().stream, client.unwrap())
}

async fn failure(context: &Arc<Context>, config: ClientConfig, host: &str) -> Failure {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let ((), accepted) =
        meet(context, PATIENCE, async |stream| drop(connector.connect(name, stream).await)).await;
    refusal(accepted)
}

fn refusal(outcome: Result<Accepted, Refused>) -> Failure {
    match outcome.expect_err("a refusal") {
        Refused::PlainHttp(_) => Failure::PlainHttp,
        Refused::Failed(failure) => failure,
    }
}

fn name_of(model: &Model, id: &str) -> String {
    model.certificate(id).unwrap().name.clone()
}

#[tokio::test]
async fn the_certificate_follows_the_name_and_the_keys_a_client_can_verify() {
    let keys = https(
        "certificates: [rsa, ecdsa], extensionCertificates: [\
         { certificate: api, domain: '*.api.test' }, { certificate: v1, domain: '*.v1.api.test' }, \
         { certificate: ed25519, domain: exact.v1.api.test }]",
    );
    let model = model(&keys);
    let context = context(&keys, &tickets(), None);
    let table = &context.table;
    let ecdsa = &rustls::SignatureScheme::ECDSA_NISTP256_SHA256;
    let p384 = &rustls::SignatureScheme::ECDSA_NISTP384_SHA384;
    let rsa = &rustls::SignatureScheme::RSA_PSS_SHA256;
    let ed = &rustls::SignatureScheme::ED25519;
    let rows: [(Option<&str>, &[_], &str); 12] = [
        (None, &[*ecdsa, *rsa], "ecdsa"),
        (None, &[*rsa], "rsa"),
        (Some("shop.test"), &[*rsa, *ecdsa], "ecdsa"),
        (Some("unknown.test"), &[*rsa], "rsa"),
        (Some("a.api.test"), &[*p384, *ecdsa], "api"),
        (Some("b.a.api.test"), &[*p384, *ecdsa], "api"),
        (Some("a.v1.api.test"), &[*p384, *ecdsa], "v1"),
        (Some("exact.v1.api.test"), &[*ed, *ecdsa], "ed25519"),
        (Some("exact.v1.api.test"), &[*p384, *ecdsa], "v1"),
        (Some("a.api.test"), &[*rsa], "rsa"),
        (Some("api.test"), &[*p384, *ecdsa], "ecdsa"),
        (Some("test"), &[], "ecdsa"),
    ];
    for (host, offered, expected) in rows {
        let chosen = table.choose(host, offered).unwrap();
        let served = &table.served[chosen];
        assert_eq!(name_of(&model, &served.id), expected, "{host:?} {offered:?}");
    }
    assert!(context.confirm(None, "l"), "every certificate is served where it should be");
}

#[test]
fn what_a_policy_never_serves_is_nothing_to_verify() {
    let keys = https("certificates: [rsa, ecdsa], securityPolicy: v12");
    assert!(context(&keys, &tickets(), None).confirm(None, "l"));
}

#[tokio::test]
async fn the_suite_is_chosen_here_unless_the_client_is_without_aes() {
    use CipherSuite as C;
    let (aes256, aes128) = (C::TLS13_AES_256_GCM_SHA384, C::TLS13_AES_128_GCM_SHA256);
    let chacha = C::TLS13_CHACHA20_POLY1305_SHA256;
    let (old256, old128) =
        (C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let context = context(&https("certificates: [ecdsa]"), &tickets(), None);
    for (offered, chosen) in [
        (vec![aes256, chacha, aes128], "TLS_AES_128_GCM_SHA256"),
        (vec![aes256, chacha], "TLS_AES_256_GCM_SHA384"),
        (vec![chacha, aes128], "TLS_CHACHA20_POLY1305_SHA256"),
        (vec![old256, old128], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (vec![old256], "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ] {
        let mut provider = certificate::provider();
        let known = std::mem::take(&mut provider.cipher_suites);
        let find = |of: &CipherSuite| *known.iter().find(|suite| suite.suite() == *of).unwrap();
        provider.cipher_suites = offered.iter().map(find).collect();
        let versions: &[_] = if offered[0] == old256 { &[&version::TLS12] } else { &BOTH[..1] };
        let config = Arc::new(client_with(provider, versions, &[]));
        let accepted = shake(&context, &config, "shop.test").await;
        assert_eq!(accepted.info.cipher, chosen, "{offered:?}");
    }
}

#[tokio::test]
async fn versions_ciphers_and_protocols_are_told() {
    let context = context(&https("certificates: [rsa, ecdsa]"), &tickets(), None);
    let rows: [(&[_], &[&str], _, _, _); 4] = [
        (&[&version::TLS13], &["h2", "http/1.1"], "TLSv1.3", "TLS_AES_128_GCM_SHA256", Some("h2")),
        (
            &[&version::TLS12],
            &["http/1.1"],
            "TLSv1.2",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            Some("http/1.1"),
        ),
        (&BOTH, &["http/1.1", "h2"], "TLSv1.3", "TLS_AES_128_GCM_SHA256", Some("h2")),
        (&BOTH, &[], "TLSv1.3", "TLS_AES_128_GCM_SHA256", None),
    ];
    for (versions, alpn, protocol, cipher, chosen) in rows {
        let config = Arc::new(client(versions, alpn));
        let Accepted { info, .. } = shake(&context, &config, "WWW.shop.test").await;
        assert_eq!((info.protocol, info.cipher, info.alpn), (protocol, cipher, chosen));
        assert_eq!(info.sni.as_deref(), Some("www.shop.test"));
        for (authority, fits) in [
            ("www.shop.test", true),
            ("SHOP.test:443", true),
            ("shop.test:8443", true),
            // The default serves every name that has no certificate of its own.
            ("other.test", true),
            ("[2001:db8::1]:443", true),
        ] {
            assert_eq!(info.is_for(authority.as_bytes()), fits, "{authority}");
        }
    }
    let tls = "protocol: Tls, backend: t, certificates: [rsa]";
    let plain = self::context(tls, &tickets(), None);
    let config = Arc::new(client(&BOTH, &["h2"]));
    assert_eq!(shake(&plain, &config, "shop.test").await.info.alpn, None, "tls has no protocol");
}

#[tokio::test]
async fn an_authority_of_another_certificate_is_misdirected() {
    let keys = https(
        "certificates: [ecdsa], extensionCertificates: [{ certificate: api, domain: '*.api.test' }, \
         { certificate: api, domain: also.test }]",
    );
    let context = context(&keys, &tickets(), None);
    let config = Arc::new(client(&BOTH, &[]));
    let api = shake(&context, &config, "a.api.test").await.info.presented;
    let shop = shake(&context, &config, "shop.test").await.info.presented;
    let rows = [
        (&api, "a.api.test", true),
        (&api, "z.api.test:443", true),
        (&api, "z.api.test.:443", true),
        (&api, "also.test.", true),
        (&api, "also.test", true),
        (&api, "shop.test", false),
        (&api, "unknown.test", false),
        (&shop, "www.shop.test", true),
        (&shop, "unknown.test", true),
        (&shop, "a.api.test", false),
        (&shop, "a.api.test.", false),
        (&shop, "\u{e9}.test", true),
    ];
    for (presented, authority, fits) in rows {
        assert_eq!(presented.is_for(authority.as_bytes()), fits, "{authority}");
    }
}

#[tokio::test]
async fn sessions_resume_in_the_next_context_and_on_every_worker() {
    let tickets = tickets();
    let first = context(&https("certificates: [ecdsa]"), &tickets, None);
    for version in BOTH {
        let config = Arc::new(client(&[version], &[]));
        assert!(!shake(&first, &config, "shop.test").await.info.resumed, "{version:?}");
        assert!(shake(&first, &config, "shop.test").await.info.resumed, "{version:?}");
        // After a reload with another certificate beside it.
        let second = context(&https("certificates: [rsa, ecdsa]"), &tickets, Some(&first));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(shake(&second, &config, "shop.test").await.info.resumed, "{version:?}");
        // Another name is another session, and other keys take no tickets.
        assert!(!shake(&second, &config, "www.shop.test").await.info.resumed, "{version:?}");
        let foreign = context(&https("certificates: [ecdsa]"), &self::tickets(), None);
        assert!(!shake(&foreign, &config, "shop.test").await.info.resumed, "{version:?}");
    }
    let Tally { full, resumed, .. } = first.counts.tally();
    assert_eq!((full, resumed), (4, 4), "the counts of a listener go on");
}

#[tokio::test]
async fn a_swap_leaves_open_connections_alone() {
    let tickets = tickets();
    let old = context(&https("certificates: [ecdsa]"), &tickets, None);
    let same = context(&https("certificates: [ecdsa], hstsEnable: true"), &tickets, Some(&old));
    assert!(Arc::ptr_eq(&old, &same), "nothing of TLS changed");
    let connector = TlsConnector::from(Arc::new(client(&BOTH, &[])));
    let name = ServerName::try_from("shop.test").unwrap();
    let (mine, theirs) =
        meet(&old, PATIENCE, async |stream| connector.connect(name, stream).await).await;
    let (mut mine, mut theirs) = (mine.unwrap(), theirs.unwrap().stream);

    let new = context(&https("certificates: [rsa]"), &tickets, Some(&old));
    assert!(new.confirm(Some(&old), "l"));
    drop(old);
    let mut config = client(&BOTH, &[]);
    config.resumption = Resumption::disabled();
    let after = shake(&new, &Arc::new(config), "shop.test").await.info;
    assert_eq!(name_of(&model(&https("certificates: [rsa]")), &after.certificate), "rsa");

    mine.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    theirs.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn failures_have_names() {
    let context = context(&https("certificates: [rsa], securityPolicy: v13"), &tickets(), None);
    let chosen = |config| failure(&context, config, "shop.test");
    assert_eq!(chosen(client(&[&version::TLS12], &[])).await, Failure::NoSharedVersion);
    assert_eq!(chosen(client(&BOTH, &["gopher"])).await, Failure::NoSharedProtocol);
    let aes = |suite: &rustls::SupportedCipherSuite| {
        suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    };
    let mut few = certificate::provider();
    few.cipher_suites.retain(aes);
    assert_eq!(chosen(client_with(few, &BOTH[..1], &[])).await, Failure::NoSharedCipher);
    assert_eq!(failure(&context, client(&BOTH, &[]), "a.test").await, Failure::CertificateRefused);

    // A whole hello of TLS 1.1: version, random, no session, one suite, no compression, one group.
    let hello = b"\x03\x02________________________________\x00\x00\x02\xc0\x13\x01\x00\
                  \x00\x08\x00\x0a\x00\x04\x00\x02\x00\x17";
    let old = [b"\x16\x03\x01\x00\x37\x01\x00\x00\x33".as_slice(), hello].concat();
    let rows: [(&[u8], Failure); 7] = [
        (&old, Failure::NoSharedVersion),
        (b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", Failure::PlainHttp),
        (b"POST", Failure::PlainHttp),
        (b"\x00\x00", Failure::NotTls),
        (b"*1\r\n", Failure::NotTls),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", Failure::Malformed),
        (b"", Failure::ClientGone),
    ];
    for (bytes, expected) in rows {
        let (_, outcome) = meet(&context, PATIENCE, async |mut stream| {
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        })
        .await;
        assert_eq!(refusal(outcome), expected, "{}", bytes.escape_ascii());
    }
    let slow = Duration::from_millis(50);
    let (_, outcome) = meet(&context, slow, async |mut stream| {
        stream.write_all(b"\x16\x03").await.unwrap();
        stream
    })
    .await;
    assert_eq!(refusal(outcome), Failure::Timeout);
    let Tally { full, failed, .. } = context.counts.tally();
    assert_eq!(full, 0);
    assert_eq!(failed.iter().map(|(_, count)| count).sum::<u64>(), 12);
    assert!(failed.contains(&(Failure::PlainHttp, 2)), "{failed:?}");
}

#[test]
fn every_cipher_a_file_may_name_is_offered() {
    let names = [
        ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
    ];
    for (protocol, cipher) in names {
        let text = format!(
            "node: {{ interfaces: [eth0] }}\n\
             securityPolicies: [{{ name: p, protocols: [{protocol}], ciphers: [{cipher}] }}]\n"
        );
        let model = config::parse(&text, Path::new("/")).unwrap().model;
        let policy = Some(&model.security_policies[0]);
        let suites = &policy::provider(policy).cipher_suites;
        assert_eq!(suites.len(), 1, "{cipher}");
        assert_eq!(policy::openssl_name(suites[0].suite()), cipher);
        assert_eq!(policy::versions(policy).len(), 1);
    }
    assert_eq!(policy::provider(None).cipher_suites.len(), names.len());
    assert_eq!(policy::versions(None).len(), 2);
}

#[test]
fn the_order_of_a_policy_does_not_matter() {
    let text = "node: { interfaces: [eth0] }\n\
                securityPolicies: [{ name: p, protocols: [TLSv1.3], \
                ciphers: [TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256] }]\n";
    let model = config::parse(text, Path::new("/")).unwrap().model;
    let suites = &policy::provider(Some(&model.security_policies[0])).cipher_suites;
    let names: Vec<_> = suites.iter().map(|suite| policy::openssl_name(suite.suite())).collect();
    assert_eq!(names, ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]);
}

#[test]
fn the_first_suite_that_is_known_says_who_is_without_aes() {
    // RFC 8701 §3.1.
    const GREASE: CipherSuite = CipherSuite::Unknown(0x0a0a);
    const CHACHA: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    const AES: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;
    for (offered, expected) in [
        (&[][..], false),
        (&[GREASE], false),
        (&[GREASE, CHACHA, AES], true),
        (&[GREASE, AES, CHACHA], false),
        (&[CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, AES], true),
    ] {
        assert_eq!(policy::is_without_aes(offered), expected, "{offered:?}");
    }
}

#[test]
fn every_failure_has_a_counter_and_a_word_of_its_own() {
    for (at, failure) in Failure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, at);
    }
    let words: std::collections::BTreeSet<_> = Failure::ALL.map(Failure::word).into();
    assert_eq!(words.len(), Failure::ALL.len());
}

#[test]
fn a_tls_listener_offers_no_protocols() {
    let context = context("protocol: Tls, backend: t, certificates: [rsa]", &tickets(), None);
    assert!(context.config.alpn_protocols.is_empty());
    assert_eq!(context.config.max_early_data_size, 0);
}
