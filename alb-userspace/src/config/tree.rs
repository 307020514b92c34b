//! YAML text → a tree of nodes that know where they stand. Knows nothing of keys or values.
//!
//! Built from parser events rather than through serde, because every duplicate key must be
//! reported, and because a name like `007` must reach its reader as written.

use std::collections::BTreeMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use super::Diagnostic;

/// Largest text that is read, bytes: room for all the targets that the packet path holds, with all that
/// can be said of each.
pub(super) const MAX_TEXT: usize = 32 << 20;
/// Deepest nesting of lists and mappings; the grammar needs 8.
const MAX_DEPTH: usize = 32;
/// Most nodes a document has once its aliases are expanded.
const MAX_NODES: usize = 2_000_000;
/// Most bytes of scalars a document has once its aliases are expanded.
const MAX_BYTES: usize = 2 * MAX_TEXT;

/// A place in the text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pos {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Pos {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) pos: Pos,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Absent, `~` or `null`.
    Null,
    /// Text as written; `plain` = without quotes, so it may also be a number or a switch.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in file order, duplicates included.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) pos: Pos,
    pub(super) value: Node,
}

/// Parses one document. The errors are those of YAML itself; the first one ends the parse.
pub(super) fn parse(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > MAX_TEXT {
        return Err(fail(Pos::START, format!("larger than {} MiB", MAX_TEXT >> 20)));
    }
    // One level more than is allowed, so that the limit is reported in one way.
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH + 1;
    options.block_nesting_limit = MAX_DEPTH + 1;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let mark = *error.marker();
            fail(pos(mark.line(), mark.col()), format!("not YAML: {}", error.info()))
        })?;
        builder.event(event, span)?;
    }
    Ok(builder.root.unwrap_or(Node { pos: Pos::START, value: Value::Null }))
}

fn pos(line: usize, column: usize) -> Pos {
    let clip = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Pos { line: clip(line).max(1), column: clip(column).saturating_add(1) }
}

fn fail(pos: Pos, message: String) -> Diagnostic {
    Diagnostic { line: pos.line, column: pos.column, path: String::new(), value: None, message }
}

/// A list or mapping that is still open.
#[derive(Debug)]
struct Open {
    pos: Pos,
    anchor: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, Pos)>),
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    bytes: usize,
    /// Finished anchored nodes; an alias to one that is not here is inside it.
    anchors: BTreeMap<usize, Node>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let at = pos(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(fail(at, "a second document; one file is one document".into()));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = matches!(style, ScalarStyle::Plain) && !is_string(tag.as_deref(), at)?;
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar { text: text.into_owned(), plain }
                };
                self.add(Node { pos: at, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                is_string(tag.as_deref(), at)?;
                self.start(at, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                is_string(tag.as_deref(), at)?;
                self.start(at, anchor, Content::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(fail(at, "the alias stands inside of what it names".into()));
                };
                let node = Node { pos: at, value: node.value.clone() };
                self.charge(&node)?;
                self.place(node)
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Anchor(..) => {
                Ok(())
            }
            Event::UnresolvedAlias(_) | _ => Err(fail(at, "not supported".into())),
        }
    }

    fn start(&mut self, pos: Pos, anchor: usize, content: Content) -> Result<(), Diagnostic> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fail(pos, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.count(pos, 1, 0)?;
        self.open.push(Open { pos, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        let Some(Open { pos, anchor, content }) = self.open.pop() else {
            return Err(fail(Pos::START, "not YAML: an end without a start".into()));
        };
        let value = match content {
            Content::List(nodes) => Value::List(nodes),
            Content::Map(entries, _) => Value::Map(entries),
        };
        self.finish(Node { pos, value }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.charge(&node)?;
        self.finish(node, anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor != 0 {
            self.charge(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Result<(), Diagnostic> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(nodes)) => nodes.push(node),
            Some(Content::Map(entries, pending)) => match pending.take() {
                Some((key, pos)) => entries.push(Entry { key, pos, value: node }),
                None => *pending = Some(key(node)?),
            },
        }
        Ok(())
    }

    /// Counts a node with everything in it, so that aliases cannot multiply without bound.
    fn charge(&mut self, node: &Node) -> Result<(), Diagnostic> {
        match &node.value {
            Value::Null => self.count(node.pos, 1, 0),
            Value::Scalar { text, .. } => self.count(node.pos, 1, text.len()),
            Value::List(nodes) => {
                self.count(node.pos, 1, 0)?;
                nodes.iter().try_for_each(|node| self.charge(node))
            }
            Value::Map(entries) => {
                self.count(node.pos, 1, 0)?;
                entries.iter().try_for_each(|entry| {
                    self.count(entry.pos, 0, entry.key.len())?;
                    self.charge(&entry.value)
                })
            }
        }
    }

    fn count(&mut self, pos: Pos, nodes: usize, bytes: usize) -> Result<(), Diagnostic> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > MAX_NODES || self.bytes > MAX_BYTES {
            return Err(fail(pos, format!("more than {MAX_NODES} values, aliases expanded")));
        }
        Ok(())
    }
}

fn key(node: Node) -> Result<(String, Pos), Diagnostic> {
    match node.value {
        Value::Scalar { text, .. } => Ok((text, node.pos)),
        Value::Null => Ok(("null".to_owned(), node.pos)),
        Value::List(_) | Value::Map(_) => Err(fail(node.pos, "a key must be text".into())),
    }
}

/// Whether a tag makes text of a plain scalar (`!!str 80`); tags of one's own are refused.
fn is_string(tag: Option<&Tag>, pos: Pos) -> Result<bool, Diagnostic> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.is_yaml_core_schema_tag("str")),
        Some(tag) => Err(fail(pos, format!("the tag {} is not known", tag.original()))),
    }
}

#[cfg(test)]
mod tests;
