//! A walk through a tree that collects every finding instead of stopping at the first.
//!
//! A reader returns `None` only after it reported why; callers go on with the next field.
//! Knows no key of the grammar.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{
    Diagnostic,
    tree::{Entry, Node, Pos, Value},
};

/// What all readers of one document share.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// Directory that relative paths start from.
    pub(super) base: &'a Path,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    places: RefCell<BTreeMap<String, Pos>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(base: &'a Path) -> Self {
        Self {
            base,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Errors, warnings and where each path stands.
    pub(super) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Diagnostic>, BTreeMap<String, Pos>) {
        (self.errors.into_inner(), self.warnings.into_inner(), self.places.into_inner())
    }
}

/// A node, where it stands in the document and where reports about it go.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    cx: &'a Context<'a>,
    node: &'a Node,
    pos: Pos,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) fn root(cx: &'a Context<'a>, node: &'a Node) -> Self {
        Self { cx, node, pos: node.pos, path: String::new() }
    }

    fn child(&self, node: &'a Node, path: String) -> Self {
        self.cx.places.borrow_mut().entry(path.clone()).or_insert(node.pos);
        Self { cx: self.cx, node, pos: node.pos, path }
    }

    pub(super) fn cx(&self) -> &'a Context<'a> {
        self.cx
    }

    pub(super) fn pos(&self) -> Pos {
        self.pos
    }

    /// Reports against this value, quoting it.
    pub(super) fn reject(&self, message: impl Into<String>) {
        self.report(self.quote(), message.into());
    }

    /// Reports against this value without quoting it: secrets, and what has no text.
    pub(super) fn complain(&self, message: impl Into<String>) {
        self.report(None, message.into());
    }

    /// Reports against a part of this value, quoting that part.
    pub(super) fn reject_part(&self, part: &str, message: impl Into<String>) {
        self.report(Some(clip(part)), message.into());
    }

    /// Says something that does not keep the file from loading.
    pub(super) fn warn(&self, message: impl Into<String>) {
        let finding = self.finding(None, message.into());
        self.cx.warnings.borrow_mut().push(finding);
    }

    fn report(&self, value: Option<String>, message: String) {
        let finding = self.finding(value, message);
        self.cx.errors.borrow_mut().push(finding);
    }

    fn finding(&self, value: Option<String>, message: String) -> Diagnostic {
        let Pos { line, column } = self.pos;
        Diagnostic { line, column, path: self.path.clone(), value, message }
    }

    fn quote(&self) -> Option<String> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(clip(text)),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    // Scalars.

    /// The text of a scalar, whatever it looks like; `None` without a report for the rest.
    pub(super) fn peek(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Text, numbers included.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.peek();
        if text.is_none() {
            self.complain(format!("must be text, not {}", self.kind()));
        }
        text
    }

    /// A whole number of a range.
    pub(super) fn int<T: Int>(&self, range: RangeInclusive<T>) -> Option<T> {
        let (low, high) = ((*range.start()).into(), (*range.end()).into());
        let number = self.integer(&format!("{low}–{high}"))?;
        if !(low..=high).contains(&number) {
            self.reject(format!("allowed is {low}–{high}"));
            return None;
        }
        T::try_from(number).ok()
    }

    /// A whole number; `allowed` completes the sentence of the refusal.
    pub(super) fn integer(&self, allowed: &str) -> Option<i64> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => {
                let number = text.parse().ok().filter(|_| !text.starts_with('+'));
                if number.is_none() {
                    self.reject(format!("must be a whole number, allowed is {allowed}"));
                }
                number
            }
            Value::Scalar { .. } => {
                self.reject("must be a number, without quotes");
                None
            }
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.complain(format!("must be a whole number, not {}", self.kind()));
                None
            }
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        let text = self.text()?;
        if text.eq_ignore_ascii_case("true") {
            Some(true)
        } else if text.eq_ignore_ascii_case("false") {
            Some(false)
        } else {
            self.reject("allowed is true or false");
            None
        }
    }

    /// One of a list of words, in any case.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.reject(format!("allowed is {}", enumerate(&words)));
        }
        found.map(|(_, value)| *value)
    }

    /// A path; a relative one starts at the file's directory.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() || text.contains('\0') {
            self.reject("must be the path of a file");
            return None;
        }
        Some(self.cx.base.join(text))
    }

    // Lists and mappings.

    /// The items of a list; none after a report.
    pub(super) fn items(&self) -> Vec<Self> {
        let Value::List(nodes) = &self.node.value else {
            self.complain(format!("must be a list, not {}", self.kind()));
            return Vec::new();
        };
        nodes
            .iter()
            .enumerate()
            .map(|(index, node)| self.child(node, format!("{}[{index}]", self.path)))
            .collect()
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// The value of one key, without a claim to know the key.
    pub(super) fn glance(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(self.child(&entry.value, join(&self.path, key)))
    }

    /// Reads a mapping. Afterwards every key that `read` did not ask for is an error, and so
    /// is every key that occurs twice: `read` asks for all keys before it gives up.
    pub(super) fn object<T>(&self, read: impl FnOnce(&Object<'a>) -> Option<T>) -> Option<T> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Null if self.path.is_empty() => &[],
            Value::Null | Value::Scalar { .. } | Value::List(_) => {
                self.complain(format!("must be a mapping, not {}", self.kind()));
                return None;
            }
        };
        let before = self.cx.errors.borrow().len();
        let object = Object { field: self.clone(), entries, known: RefCell::default() };
        let result = read(&object);
        object.close();
        if result.is_none() && self.cx.errors.borrow().len() == before {
            // A reader that gives up in silence would drop a part of the file.
            self.complain("cannot be used");
        }
        result
    }

    fn kind(&self) -> &'static str {
        match &self.node.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A mapping that is being read.
#[derive(Debug)]
pub(super) struct Object<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Object<'a> {
    /// The mapping itself, for reports about it.
    pub(super) fn whole(&self) -> &Field<'a> {
        &self.field
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A key that may be missing; `null` is missing.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.value.value, Value::Null) {
            return None;
        }
        Some(self.field.child(&entry.value, join(&self.field.path, key)))
    }

    /// A key that must be there.
    pub(super) fn need(&self, key: &'static str) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            let path = join(&self.field.path, key);
            let missing = Field { path, ..self.field.clone() };
            missing.complain("is missing");
        }
        field
    }

    /// The items of a list that may be missing.
    pub(super) fn list(&self, key: &'static str) -> Vec<Field<'a>> {
        self.get(key).map(|field| field.items()).unwrap_or_default()
    }

    /// A number of a range, or its default.
    pub(super) fn int<T: Int>(&self, key: &'static str, rule: &Range<T>) -> T {
        let Range { allowed, default } = rule;
        self.get(key).and_then(|field| field.int(allowed.clone())).unwrap_or(*default)
    }

    /// A switch, or its default.
    pub(super) fn bool(&self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|field| field.bool()).unwrap_or(default)
    }

    /// One of a list of words, or its default.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        self.get(key).and_then(|field| field.choice(words)).unwrap_or(default)
    }

    fn close(self) {
        let Self { field, entries, known } = self;
        let known = known.into_inner();
        let mut first: BTreeMap<&str, Pos> = BTreeMap::new();
        for Entry { key, pos, value } in entries {
            let path = join(&field.path, &clip(key));
            let at = Field { cx: field.cx, node: value, pos: *pos, path };
            if let Some(first) = first.get(key.as_str()) {
                at.complain(format!("is already given on line {}", first.line));
                continue;
            }
            first.insert(key, *pos);
            if !known.contains(&key.as_str()) {
                at.complain(unknown_key(key, &known));
            }
        }
    }
}

/// Numbers that fields hold.
pub(super) trait Int: Copy + Into<i64> + TryFrom<i64> {}
impl<T: Copy + Into<i64> + TryFrom<i64>> Int for T {}

/// What a number may be, and what it is when it is not given.
#[derive(Clone, Debug)]
pub(super) struct Range<T> {
    pub(super) allowed: RangeInclusive<T>,
    pub(super) default: T,
}

impl<T> Range<T> {
    pub(super) const fn new(allowed: RangeInclusive<T>, default: T) -> Self {
        Self { allowed, default }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(key, known.iter().copied()) {
        return format!("unknown key, did you mean `{near}`?");
    }
    // Several readers ask for the same ones.
    let mut once = Vec::new();
    for key in known {
        if !once.contains(key) {
            once.push(*key);
        }
    }
    format!("unknown key, allowed is {}", enumerate(&once))
}

/// The candidate that `word` is most likely a slip of.
pub(super) fn nearest<'w>(
    word: &str,
    candidates: impl Iterator<Item = &'w str>,
) -> Option<&'w str> {
    let word = word.to_lowercase();
    // Longer words are no slips, and measuring them takes time.
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    candidates
        .filter_map(|near| {
            let candidate = near.to_lowercase();
            let distance = strsim::damerau_levenshtein(&word, &candidate);
            let slip = distance <= length.max(candidate.chars().count()) / 3;
            // `interval` for `intervalSeconds`.
            let part = length >= 4 && candidate.contains(&word);
            (slip || part).then_some((distance, near))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

/// `a, b or c`.
pub(super) fn enumerate(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => (*word).to_owned(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// Text fit for one line of a report.
pub(super) fn clip(text: &str) -> String {
    const MOST: usize = 80;
    let mut clipped: String = text.chars().take(MOST).flat_map(printable).collect();
    if text.chars().nth(MOST).is_some() {
        clipped.push('…');
    }
    if clipped.is_empty() { "\"\"".to_owned() } else { clipped }
}

fn printable(char: char) -> impl Iterator<Item = char> {
    let (plain, escaped) =
        if char.is_control() { (None, Some(char.escape_default())) } else { (Some(char), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}
