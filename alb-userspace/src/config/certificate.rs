//! Certificates and keys: found, readable, PEM, fitting each other.

use std::{path::PathBuf, time::SystemTime};

use super::{
    cursor::{Field, Object},
    files, format,
    scope::Scope,
};
use crate::{
    certificate::{Identity, warnings},
    model::{Certificate, PrivateKey},
};

const KEY_FILE: &str = "keyFile";

pub(super) fn read(object: &Object<'_>, certificates: &Scope) -> Option<Certificate> {
    let name = format::name(object);
    let chain = pem(object, "cert", "certFile", is_chain);
    let key = pem(object, "key", KEY_FILE, is_key);
    let (chain, key) = (chain?, key?);
    let facts = match Identity::read(&chain.text, &key.text) {
        Ok(identity) => identity.facts,
        Err(error) => {
            let field = if error.is_of_the_key() { key.field } else { chain.field };
            field.complain(error.to_string());
            return None;
        }
    };
    for warning in warnings(&facts, SystemTime::now()) {
        chain.field.warn(warning);
    }
    let name = name?;
    Some(Certificate {
        id: certificates.id(&name),
        name,
        chain: chain.text,
        key: PrivateKey(key.text),
        files: (chain.file, key.file),
        facts,
    })
}

struct Pem<'a> {
    field: Field<'a>,
    text: String,
    file: Option<PathBuf>,
}

/// PEM text, inline or in a file. Neither text is ever quoted: people mix the two up.
fn pem<'a>(
    object: &Object<'a>,
    inline: &'static str,
    file: &'static str,
    fault: fn(&str) -> Option<&'static str>,
) -> Option<Pem<'a>> {
    let pem = match (object.get(inline), object.get(file)) {
        (Some(field), None) => {
            let text = field.text()?.to_owned();
            Pem { field, text, file: None }
        }
        (None, Some(field)) => {
            let path = field.file()?;
            let text = files::read(&field, &path)?;
            if file == KEY_FILE {
                files::warn_if_readable(&field, &path);
            }
            Pem { field, text, file: Some(path) }
        }
        (Some(_), Some(field)) => {
            field.complain(format!("give either `{inline}` or `{file}`"));
            return None;
        }
        (None, None) => {
            object.whole().complain(format!("`{inline}` or `{file}` is missing"));
            return None;
        }
    };
    if let Some(fault) = fault(&pem.text) {
        pem.field.complain(fault);
        return None;
    }
    Some(pem)
}

fn is_chain(text: &str) -> Option<&'static str> {
    (!has_block(text, |label| label == "CERTIFICATE"))
        .then_some("must be PEM with a `-----BEGIN CERTIFICATE-----` block")
}

fn is_key(text: &str) -> Option<&'static str> {
    if has_block(text, |label| label == "ENCRYPTED PRIVATE KEY") || text.contains(",ENCRYPTED") {
        return Some("the key is encrypted; nobody is there to enter a passphrase");
    }
    let known = |label: &str| matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY");
    (!has_block(text, known)).then_some(
        "must be PEM with a `-----BEGIN PRIVATE KEY-----` block (or RSA or EC PRIVATE KEY)",
    )
}

/// Whether a PEM block of such a label begins and ends.
fn has_block(text: &str, is: impl Fn(&str) -> bool) -> bool {
    let label = |line: &str, edge: &str| {
        let label = line.trim().strip_prefix(edge)?.strip_suffix("-----")?;
        is(label).then(|| label.to_owned())
    };
    let begin = text.lines().find_map(|line| label(line, "-----BEGIN "));
    begin.is_some_and(|begin| {
        text.lines().any(|line| label(line, "-----END ").as_ref() == Some(&begin))
    })
}
