//! An error in one line, down to its first cause: "cannot write to map flows" helps nobody
//! without "no space left on device".

use std::error::Error;

/// The error and its sources, joined by colons. A source that its parent has said already is
/// left out.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot write to map flows")]
        Silent(#[source] io::Error),
        #[error("cannot write to map flows: {0}")]
        Telling(#[source] io::Error),
    }

    #[test]
    fn every_cause_is_said_once() {
        for make in [Outer::Silent, Outer::Telling] {
            let error = make(io::Error::other("no space"));
            assert_eq!(with_causes(&error), "cannot write to map flows: no space");
        }
    }
}
