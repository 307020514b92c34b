//! What is wrong in a file, and where: one `Diagnostic` per finding, all of them at once.
//! Secrets never get in here.

use std::fmt;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Diagnostic {
    /// Line, from 1; 0 when the finding has no place in the text.
    pub line: u32,
    /// Column in characters, from 1; 0 when the finding has no place in the text.
    pub column: u32,
    /// Where in the document: `loadBalancers[0].listeners[2].port`; empty for the whole of it.
    pub path: String,
    /// The offending scalar as written; never a secret.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Diagnostic {
    /// One line: `alb.yaml:12:15: loadBalancers[0].port: 70000: allowed is 1–65535`.
    pub fn render(&self, file: &str) -> String {
        if self.line == 0 { format!("{file}: {self}") } else { format!("{file}:{self}") }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, path, value, message } = self;
        if *line != 0 {
            write!(f, "{line}:{column}: ")?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        if let Some(value) = value {
            write!(f, "{value}: ")?;
        }
        f.write_str(message)
    }
}

/// Everything that is wrong in one file, by position; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    diagnostics: Vec<Diagnostic>,
}

impl ConfigErrors {
    pub(super) fn new(file: String, mut diagnostics: Vec<Diagnostic>) -> Self {
        debug_assert!(!diagnostics.is_empty(), "errors without an error");
        diagnostics.sort();
        diagnostics.dedup();
        Self { file, diagnostics }
    }

    /// The errors, by position; at least one.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&diagnostic.render(&self.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
