//! `alb check` as a command: what it prints, where, and with which exit code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use alb_tests::daemon::binary;
use serde_json::Value;

/// Runs `alb check` on files of one of the fixtures' directories, named as a user in it would.
fn check(directory: &str, words: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("check").args(words).current_dir(fixtures(directory));
    command.output().expect("running alb")
}

fn fixtures(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(directory)
}

fn said(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

#[test]
fn a_valid_file_is_summed_up() {
    let output = check("ok", &["minimal.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    let line = said(&output.stdout);
    assert!(line.starts_with("minimal.yaml: ") && line.ends_with(": valid\n"), "{line}");
    assert_eq!(said(&output.stderr), "");
}

#[test]
fn every_error_is_said_at_once_and_the_exit_code_is_1() {
    let expected = fs::read_to_string(fixtures("bad").join("many-errors.err")).expect("a fixture");
    let output = check("bad", &["many-errors.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let count = expected.trim_end().lines().count();
    let expected = format!("{}\nmany-errors.yaml: {count} errors\n", expected.trim_end());
    assert_eq!(said(&output.stderr), expected);
    assert_eq!(said(&output.stdout), "", "what is wrong goes to standard error");
}

#[test]
fn what_is_not_served_yet_is_a_warning_each() {
    let path = fixtures("ok").join("not-served-yet.unserved");
    let expected = fs::read_to_string(path).expect("a fixture");
    let output = check("ok", &["not-served-yet.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    let said = said(&output.stderr);
    for line in expected.lines() {
        assert!(said.contains(&format!("warning: {line}")), "{line} is missing in:\n{said}");
    }
}

#[test]
fn a_program_gets_the_same_as_json() {
    let output = check("bad", &["many-errors.yaml", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], false, "{report}");
    let first = &report["errors"][0];
    assert_eq!((&first["line"], &first["path"]), (&2.into(), &"node.interfaces".into()), "{first}");
    assert_eq!(said(&output.stderr), "");
}

#[test]
fn one_bad_file_of_several_fails_and_each_is_looked_at() {
    let mut command = Command::new(binary());
    command.arg("check").current_dir(fixtures(""));
    command.args(["ok/minimal.yaml", "bad/node-flows-low.yaml", "nowhere.yaml", "ok/shop.yaml"]);
    let output = command.output().expect("running alb");
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(out.contains("ok/minimal.yaml: ") && out.contains("ok/shop.yaml: "), "{out}");
    assert!(err.contains("bad/node-flows-low.yaml:1:"), "{err}");
    assert!(err.contains("nowhere.yaml"), "{err}");
}
