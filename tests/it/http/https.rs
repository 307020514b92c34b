//! HTTPS and TLS listeners with real clients: curl, openssl, nghttp and h2load.

mod answers;
mod drain;
mod h2;
mod hash;
mod names;
mod policy;
mod resumption;
mod swap;
mod tunnel;
mod unserved;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use alb_tests::{
    http::Client,
    netns::{Namespace, must},
    origin::Origin,
    topology::{Lab, VIP},
};

use super::setting::{ORIGIN, Site, lab};

pub(super) const ECDSA: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["rsa:2048"];

/// Makes `{name}.pem` and `{name}.key`: a certificate of `CN={name}` for `hosts`, by openssl.
pub(super) fn certificate(dir: &Path, name: &str, hosts: &[&str], key: &[&str], days: i32) {
    let path = |extension| dir.join(format!("{name}.{extension}"));
    let hosts: Vec<_> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
    let alternative = format!("subjectAltName={}", hosts.join(","));
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-nodes", "-subj"]).arg(format!("/CN={name}"));
    request.args(["-addext", &alternative, "-newkey"]).args(key);
    must(request.arg("-keyout").arg(path("key")).arg("-out").arg(path("csr")));
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-copy_extensions", "copy", "-days", &days.to_string(), "-in"]);
    sign.arg(path("csr")).arg("-signkey").arg(path("key")).arg("-out").arg(path("pem"));
    must(&mut sign);
}

/// The certificate section for files that [`certificate`] made.
pub(super) fn section(dir: &Path, names: &[&str]) -> String {
    let files = names.iter().map(|name| {
        let path = dir.join(name);
        format!("{{ name: {name}, certFile: {0}.pem, keyFile: {0}.key }}", path.display())
    });
    format!("certificates: [{}]\n", files.collect::<Vec<_>>().join(", "))
}

/// An https listener with these default certificates.
fn site(lab: &Lab, dir: &Path, names: &[&str]) -> Site {
    let mut site = Site::of(lab);
    site.protocol = ("Https", 443);
    site.file = section(dir, names);
    site.listener(&format!("certificates: [{}]", names.join(", ")))
}

/// What `openssl s_client` says of a handshake with these arguments, and of the answer to
/// `input`, until the listener closes. Without input it closes itself after the handshake.
fn s_client(namespace: &Namespace, arguments: &[&str], input: &str) -> String {
    let mut command = namespace.command("openssl");
    command.args(["s_client", "-connect", &format!("{VIP}:443")]).args(arguments);
    if !input.is_empty() {
        command.arg("-ign_eof");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed by `cargo xtask setup`");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A handshake that is refused ends it before.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("openssl runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The common name in what [`s_client`] said.
fn subject(said: &str) -> Option<&str> {
    let line = said.lines().find_map(|line| line.strip_prefix("subject=CN = "))?;
    Some(line.trim())
}

/// Whose certificate a client gets that asks for `host`, or for none.
fn served(namespace: &Namespace, host: Option<&str>) -> String {
    let arguments = host.map_or(vec!["-noservername"], |host| vec!["-servername", host]);
    let said = s_client(namespace, &arguments, "");
    subject(&said).unwrap_or_else(|| panic!("no certificate: {said}")).to_owned()
}

/// `curl` to the listener, which it takes for every host; what it printed.
fn curl(namespace: &Namespace, arguments: &[&str]) -> String {
    must(&mut curl_command(namespace, arguments))
}

fn curl_command(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = namespace.command("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20", "--connect-to"]);
    command.arg(format!("::{VIP}:443")).args(arguments);
    command
}

#[test]
fn versions_keys_and_protocols_are_agreed_with_real_clients() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "rsa", &["shop.test"], RSA, 90);
    certificate(dir.path(), "ecdsa", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = site(&lab, dir.path(), &["rsa", "ecdsa"]).serve(&lab);
    let namespace = &lab.client.namespace;
    let rows: [(&[&str], [&str; 2]); 6] = [
        (&["-tls1_3", "-servername", "shop.test"], ["TLSv1.3", "CN = ecdsa"]),
        (&["-tls1_2", "-servername", "shop.test"], ["TLSv1.2", "CN = ecdsa"]),
        // Clients that take no ECDSA.
        (&["-tls1_2", "-sigalgs", "RSA+SHA256:RSA-PSS+SHA256"], ["TLSv1.2", "CN = rsa"]),
        (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"], ["TLSv1.3", "CN = rsa"]),
        (&["-alpn", "h2,http/1.1"], ["ALPN protocol: h2", "CN = ecdsa"]),
        (&["-alpn", "http/1.1"], ["ALPN protocol: http/1.1", "CN = ecdsa"]),
    ];
    for (arguments, words) in rows {
        let said = s_client(namespace, arguments, "");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
    let old = s_client(namespace, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "");
    assert_eq!(subject(&old), None, "{old}");

    for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let write = ["-w", " %{http_version} %{http_code}", "https://shop.test/a?b"];
        let said = curl(namespace, &[&[version][..], &write].concat());
        assert_eq!(said, format!("ok {shown} 200"));
    }
    let heard = origin.heard().concat();
    assert_eq!(heard.matches("GET /a?b HTTP/1.1\r\nHost: shop.test\r\n").count(), 2, "{heard}");

    // Plain HTTP by mistake, also in pieces, is answered and not reset.
    for pieces in [&["GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"][..], &["P", "OST / HTTP/1.1\r\n"]]
    {
        let mut plain = Client::connect(namespace, (VIP, 443).into());
        for piece in pieces {
            plain.send(piece);
        }
        let answer = plain.response(false).expect("an answer");
        assert_eq!((answer.status, answer.values("connection")), (400, vec!["close"]));
        assert!(answer.text().contains("https"), "{}", answer.text());
    }
}
