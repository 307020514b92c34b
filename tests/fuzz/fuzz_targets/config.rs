//! Any text is a model or a list of errors that name places within it; never a panic.
#![no_main]

use std::path::Path;

use alb_userspace::config::{self, Diagnostic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match config::parse(text, Path::new("/nonexistent")) {
        Ok(loaded) => {
            let unserved = loaded.unserved();
            for found in loaded.warnings.iter().chain(&unserved) {
                check(text, found);
            }
            let again = config::parse(text, Path::new("/nonexistent")).expect("valid before");
            assert_eq!(again.model, loaded.model, "the same text means the same twice");
        }
        Err(errors) => {
            assert!(!errors.diagnostics().is_empty(), "a refusal has a reason");
            for found in errors.diagnostics() {
                check(text, found);
            }
        }
    }
});

/// A finding has something to say, and its place is in the text, whose end counts as a line.
fn check(text: &str, found: &Diagnostic) {
    assert!(!found.message.is_empty(), "{found:?}");
    // Line breaks of YAML: LF, CR and both together.
    let lines = text.split(['\n', '\r']).count() + 1;
    assert!((found.line as usize) <= lines, "line {} of {lines}: {found:?}", found.line);
}
