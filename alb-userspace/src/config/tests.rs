//! Files of the corpus and single values, checked through the one door.

mod fixtures;
mod fuzz;
mod values;

use std::path::Path;

use super::*;

/// A file that lacks nothing, to which a test adds lines.
pub(super) const NODE: &str = "node: { name: n, interfaces: [eth0] }\n";

fn errors(text: &str) -> Vec<String> {
    match parse(text, Path::new("/")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.diagnostics().iter().map(Diagnostic::to_string).collect(),
    }
}

#[test]
fn an_empty_file_says_what_is_missing() {
    assert_eq!(errors(""), ["1:1: node: is missing"]);
}

#[test]
fn errors_come_all_at_once_and_by_position() {
    let text = "node: { interfaces: [eth0], flows: 1 }\nvpcs: [{ nam: a }, { name: a, name: b }]\n";
    assert_eq!(
        errors(text),
        [
            "1:36: node.flows: 1: allowed is 1024–16777216",
            "2:8: vpcs[0].name: is missing",
            "2:10: vpcs[0].nam: unknown key, did you mean `name`?",
            "2:31: vpcs[1].name: is already given on line 2",
        ]
    );
}

#[test]
fn an_unknown_key_is_told_each_allowed_one_once() {
    let text =
        "loadBalancers:\n- name: a\n  listeners:\n  - { name: b, protocol: Http, zzzzzzz: 1 }\n";
    let told = errors(text).into_iter().find(|error| error.contains("zzzzzzz")).unwrap();
    assert_eq!(told.matches("certificates,").count(), 1, "{told}");
}

#[test]
fn a_minimal_file_loads() {
    let loaded = parse(NODE, Path::new("/")).unwrap();
    assert_eq!(loaded.model.node.interfaces, ["eth0"]);
    assert_eq!(loaded.model.vpcs.len(), 1, "the built-in vpc");
    assert_eq!(loaded.model.security_groups.len(), 1, "the built-in security group");
}
