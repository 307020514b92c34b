//! The corpus: what is in `ok` loads, what is in `bad` gives exactly its `.err`.
//! `UPDATE_GOLDEN=1` rewrites the expectations; read the diff.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::{Diagnostic, load};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|is| is == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", dir.display());
    files
}

fn render(path: &Path, diagnostics: &[Diagnostic]) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    diagnostics.iter().map(|diagnostic| diagnostic.render(&name) + "\n").collect()
}

/// Compares with a golden file; says what differs instead of failing at once.
fn differs(golden: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if actual.is_empty() {
            // Nothing to expect needs no file.
            drop(fs::remove_file(golden));
        } else {
            fs::write(golden, actual).unwrap();
        }
        return None;
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    (expected != actual)
        .then(|| format!("{}\n--- expected\n{expected}--- actual\n{actual}", golden.display()))
}

#[test]
fn bad_files_give_exactly_these_errors() {
    let mut failures = Vec::new();
    let bad = root().join("tests/fixtures/bad");
    for path in files(&bad, "err") {
        assert!(path.with_extension("yaml").exists(), "{} without a file", path.display());
    }
    for path in files(&bad, "yaml") {
        match load(&path) {
            Ok(_) => failures.push(format!("{}: loads", path.display())),
            Err(errors) => {
                let actual = render(&path, errors.diagnostics());
                assert!(!actual.contains("hush"), "{}: tells a secret", path.display());
                failures.extend(differs(&path.with_extension("err"), &actual));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn ok_files_load_and_name_what_is_not_served() {
    let examples = root().join("examples");
    let ok = root().join("tests/fixtures/ok");
    let mut failures = Vec::new();
    let names_a_certificate_of_the_users = |path: &PathBuf| path.ends_with("quickstart.yaml");
    let examples = files(&examples, "yaml").into_iter();
    let examples = examples.filter(|path| !names_a_certificate_of_the_users(path));
    for path in files(&ok, "yaml").into_iter().chain(examples) {
        match load(&path) {
            Err(errors) => failures.push(errors.to_string()),
            Ok(loaded) => {
                let golden = ok.join(path.file_name().unwrap()).with_extension("unserved");
                failures.extend(differs(&golden, &render(&path, &loaded.unserved())));
                let debug = format!("{:?}", loaded.model);
                for secret in ["change-me", "PRIVATE KEY-", "5f0c7e2a"] {
                    assert!(!debug.contains(secret), "{}: tells a secret", path.display());
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_quickstart_is_served_whole() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(root().join(from), dir.path().join(to)).unwrap();
    copy("examples/quickstart.yaml", "quickstart.yaml");
    copy("tests/fixtures/tls/ecdsa.pem", "quickstart.pem");
    copy("tests/fixtures/tls/ecdsa.key", "quickstart.key");
    // As openssl writes it.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(dir.path().join("quickstart.key"), private).unwrap();
    let loaded = load(&dir.path().join("quickstart.yaml")).unwrap();
    assert_eq!(loaded.unserved(), []);
    assert_eq!(loaded.warnings, []);
}
