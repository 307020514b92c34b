//! Another host, path or query for the target than the client asked for.

use crate::{
    model::{self, PathPattern},
    proxy::http1,
};

/// A rule's rewrite, made ready.
#[derive(Debug)]
pub struct Rewrite {
    /// Replaces the host; `None` = the client's.
    host: Option<Box<[u8]>>,
    path: Option<Vec<Part>>,
    query: Option<Vec<Part>>,
    /// Bytes of the path before what the rule's `*` matched.
    prefix: usize,
    /// Client's bytes may come to stand beside others in one path segment.
    glues: bool,
}

#[derive(Debug)]
enum Part {
    Text(Box<[u8]>),
    /// `${path}` or `${query}`.
    Whole,
    /// What the rule's `*` matched.
    Star,
}

impl Rewrite {
    pub(super) fn compile(rewrite: &model::Rewrite, rule: &PathPattern) -> Self {
        let path = rewrite.path.as_deref().map(|path| parts(path, "${path}", Some('*')));
        let (prefix, slashed) = match rule {
            PathPattern::Exact(path) => (path.len(), true),
            PathPattern::Prefix(path) => (path.len(), path.ends_with('/')),
        };
        let glues = path.as_deref().is_some_and(|path| !stays_apart(path, slashed));
        Self {
            host: rewrite.host.as_deref().filter(|host| *host != "${host}").map(boxed),
            query: rewrite.query.as_deref().map(|query| parts(query, "${query}", None)),
            path,
            prefix,
            glues,
        }
    }

    /// The host that replaces the client's.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.as_deref()
    }

    /// Appends the target's path and query for a request that the rule matched.
    pub fn write(&self, path: &[u8], query: Option<&[u8]>, out: &mut Vec<u8>) {
        self.write_path(path, out);
        let Some(parts) = &self.query else {
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
            return;
        };
        let start = out.len();
        out.push(b'?');
        write(parts, query.unwrap_or_default(), &[], out);
        if query.is_none_or(<[u8]>::is_empty) {
            // `a=1&${query}` without a query is `a=1`.
            while out.len() > start + 1 && out.ends_with(b"&") {
                out.pop();
            }
        }
        if out.len() == start + 1 {
            out.pop();
        }
    }

    /// Would the rewritten path have dot segments, in any spelling that a request may not have?
    /// The client's own has none, but `/a*` rewritten to `/b/*` would make `/b/../c` of `/a../c`.
    pub(super) fn climbs(&self, path: &[u8]) -> bool {
        if !self.glues {
            return false;
        }
        let mut rewritten = Vec::with_capacity(path.len() + 128);
        self.write_path(path, &mut rewritten);
        http1::check_segments(&rewritten).is_err()
    }

    fn write_path(&self, path: &[u8], out: &mut Vec<u8>) {
        match &self.path {
            Some(parts) => {
                write(parts, path, path.get(self.prefix..).unwrap_or_default(), out);
            }
            None => out.extend_from_slice(path),
        }
    }
}

/// No client's bytes share a segment with others: `${path}` alone, or a `*` after a slash at
/// the end, of a rule whose own `*` stands after a slash.
fn stays_apart(path: &[Part], slashed: bool) -> bool {
    match path {
        [] | [Part::Text(_) | Part::Whole] => true,
        [Part::Text(text), Part::Star] => slashed && text.ends_with(b"/"),
        _ => false,
    }
}

fn parts(text: &str, whole: &str, star: Option<char>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (index, piece) in text.split(whole).enumerate() {
        if index > 0 {
            parts.push(Part::Whole);
        }
        match star.and_then(|star| piece.split_once(star)) {
            Some((before, after)) => {
                parts.extend((!before.is_empty()).then(|| Part::Text(boxed(before))));
                parts.push(Part::Star);
                parts.extend((!after.is_empty()).then(|| Part::Text(boxed(after))));
            }
            None => parts.extend((!piece.is_empty()).then(|| Part::Text(boxed(piece)))),
        }
    }
    parts
}

fn boxed(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn write(parts: &[Part], whole: &[u8], star: &[u8], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(match part {
            Part::Text(text) => text,
            Part::Whole => whole,
            Part::Star => star,
        });
    }
}
