//! What the reader of YAML keeps, refuses and locates.

use super::*;

/// Writes a tree on one line, scalars in quotes unless plain.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Null => "~".to_owned(),
        Value::Scalar { text, plain: true } => text.clone(),
        Value::Scalar { text, plain: false } => format!("{text:?}"),
        Value::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|Entry { key, pos, value }| {
                    format!("{key}@{}:{} {}", pos.line, pos.column, show(value))
                })
                .collect();
            format!("{{{}}}", entries.join(" "))
        }
    }
}

fn check(text: &str, expected: &str) {
    let shown = match parse(text) {
        Ok(node) => show(&node),
        Err(error) => error.to_string(),
    };
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn trees() {
    check("", "~");
    check("# only a comment\n", "~");
    check("a: 007\nb: \"7\"\n", "{a@1:1 007 b@2:1 \"7\"}");
    check("a: {b: [1, on, ~]}", "{a@1:1 {b@1:5 [1 on ~]}}");
    check("a: 1\na: 2\n", "{a@1:1 1 a@2:1 2}");
    check("a: &x {b: 1}\nc: *x\n", "{a@1:1 {b@1:8 1} c@2:1 {b@1:8 1}}");
    check("a: !!str 80\nb: !!int 80", "{a@1:1 \"80\" b@2:1 80}");
    check("k: |\n  two\n  lines\n", "{k@1:1 \"two\\nlines\\n\"}");
}

#[test]
fn refusals() {
    check("a: 1\n---\nb: 2\n", "2:1: a second document; one file is one document");
    check("a: !mine x\n", "1:10: the tag !mine is not known");
    check("a: &x [*x]\n", "1:8: the alias stands inside of what it names");
    check("? [a]\n: b\n", "1:3: a key must be text");
    check("a: *nobody\n", "1:4: not YAML: while parsing node, found unknown anchor");
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let mut text = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n".to_owned();
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        text = format!("{text}a{level}: &a{level} [{uses}]\n");
    }
    let error = parse(&text).unwrap_err();
    assert_eq!(error.message, "more than 2000000 values, aliases expanded");

    let long = "x".repeat(1 << 20);
    let error = parse(&format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 70].join(", "))).unwrap_err();
    assert_eq!(error.message, "more than 2000000 values, aliases expanded");
}

#[test]
fn depth_and_size_have_limits() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(1000)] {
        let error = parse(&text).unwrap_err();
        assert!(
            ["nested deeper", "recursion limit"].iter().any(|m| error.message.contains(m)),
            "{error}"
        );
    }
    let error = parse(&" ".repeat(MAX_TEXT + 1)).unwrap_err();
    assert_eq!(error.message, "larger than 32 MiB");
}
