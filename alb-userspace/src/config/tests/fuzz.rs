//! Whatever the text, parsing ends without a panic: it loads, or it gives located errors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use crate::config::{Diagnostic, parse};

/// Parses and checks what every outcome has in common.
fn survive(text: &str) {
    match parse(text, &examples()) {
        Ok(loaded) => {
            for diagnostic in loaded.unserved() {
                assert!(diagnostic.line > 0, "{diagnostic}");
            }
        }
        Err(errors) => {
            let diagnostics = errors.diagnostics();
            assert!(!diagnostics.is_empty());
            assert!(diagnostics.is_sorted());
            for Diagnostic { line, column, message, .. } in diagnostics {
                assert!(*line > 0 && *column > 0 && !message.is_empty());
            }
            assert_eq!(errors.to_string().lines().count(), diagnostics.len());
        }
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn full() -> String {
    fs::read_to_string(examples().join("full.yaml")).unwrap()
}

/// What turns one valid document into many nearly valid ones.
fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\\n]{0,12}",
        "\\PC{0,8}",
        proptest::sample::select(vec![
            "",
            "~",
            "[]",
            "{}",
            "- ",
            ": ",
            "#",
            "\"",
            "'",
            "&a ",
            "*a",
            "<<: ",
            "|\n",
            "\t",
            "\n",
            "-1",
            "0",
            "65536",
            "18446744073709551616",
            "1e9",
            "0x10",
            "true",
            "!!str ",
            "!x ",
            "---\n",
            "...\n",
            "\u{0}",
            "\u{feff}",
            "\r",
            "::",
            "0.0.0.0/0",
            "🙂",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in "\\PC*") {
        survive(&text);
    }

    #[test]
    fn arbitrary_yaml(text in "[-a-z0-9{}\\[\\],:&*!|>'\"%@`#? \n]{0,200}") {
        survive(&text);
    }

    #[test]
    fn mutated_files(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, pieces()), 1..6)
    ) {
        let mut text: Vec<char> = full().chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        survive(&text.into_iter().collect::<String>());
    }

    /// Any scalar of a valid file replaced by another.
    #[test]
    fn replaced_values(line in any::<prop::sample::Index>(), piece in pieces()) {
        let text = full();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = line.index(lines.len());
        if let Some(colon) = lines[line].find(": ") {
            lines[line].truncate(colon + 2);
            lines[line].push_str(&piece);
        }
        survive(&lines.join("\n"));
    }
}

#[test]
fn every_prefix_of_a_file() {
    let text = full();
    // Every tenth place is plenty: the interesting ones are all hit by some line.
    for end in (0..text.len()).step_by(10).filter(|end| text.is_char_boundary(*end)) {
        survive(&text[..end]);
    }
}
