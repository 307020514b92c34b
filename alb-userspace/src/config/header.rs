//! `preActions` and `postActions`: lists of one-key mappings, most of which change headers.

use super::cursor::{Field, Object};
use crate::model::{HeaderAction, HeaderValue};

const KEY_CHARS: usize = 40;
const VALUE_CHARS: usize = 128;
/// What the balancer knows and can put into a header.
const SYSTEM: [&str; 6] = [
    "X-Forwarded-For",
    "X-Forwarded-Client-Port",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-LBIP",
];
/// Headers that rules keep their hands off, beside `SYSTEM`.
const FORBIDDEN: [&str; 8] = [
    "connection",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "te",
    "host",
    "cookie",
];

/// Reads a list of actions. `other` gets what stands under one of the `keys`, which are not
/// about headers.
pub(super) fn actions(
    field: &Field<'_>,
    keys: &[&'static str],
    mut other: impl FnMut(&str, &Field<'_>),
) -> Vec<HeaderAction> {
    let mut actions: Vec<HeaderAction> = Vec::new();
    for item in field.items() {
        let Some(action) = item.object(|object| one(object, keys, &mut other)) else { continue };
        let Some(action) = action else { continue };
        if actions.iter().any(|known| key(known).eq_ignore_ascii_case(key(&action))) {
            item.complain(format!("the header {} is changed twice", key(&action)));
        }
        actions.push(action);
    }
    actions
}

fn key(action: &HeaderAction) -> &str {
    match action {
        HeaderAction::Insert { key, .. } | HeaderAction::Delete { key } => key,
    }
}

/// `Some(None)` = an action that is not about headers.
#[expect(clippy::option_option, reason = "failed, done elsewhere, and a header action differ")]
fn one(
    object: &Object<'_>,
    keys: &[&'static str],
    other: &mut impl FnMut(&str, &Field<'_>),
) -> Option<Option<HeaderAction>> {
    let insert = object.get("insertHeader");
    let delete = object.get("deleteHeader");
    let mut given = usize::from(insert.is_some()) + usize::from(delete.is_some());
    for key in keys {
        if let Some(field) = object.get(key) {
            other(key, &field);
            given += 1;
        }
    }
    if given > 1 || object.is_empty() {
        object.whole().complain("each action is a mapping with one key");
    }
    if given != 1 {
        return None;
    }
    if let Some(field) = insert {
        return field.object(read_insert).map(Some);
    }
    if let Some(field) = delete {
        let key = field.object(|object| object.need("key").and_then(|field| name(&field)));
        return key.map(|key| Some(HeaderAction::Delete { key }));
    }
    Some(None)
}

fn read_insert(object: &Object<'_>) -> Option<HeaderAction> {
    let key = object.need("key").and_then(|field| name(&field));
    let system = object.choice("valueType", &[("System", true), ("Custom", false)], false);
    let value = object.need("value");
    let value =
        value.and_then(|field| if system { system_value(&field) } else { custom_value(&field) });
    Some(HeaderAction::Insert { key: key?, value: value? })
}

fn name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let fine = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let is = |forbidden: &str| forbidden.eq_ignore_ascii_case(text);
    if !(1..=KEY_CHARS).contains(&text.chars().count()) || !text.chars().all(fine) {
        field.reject(format!("allowed are 1–{KEY_CHARS} letters, digits, `_` and `-`"));
    } else if SYSTEM.iter().any(|name| is(name)) {
        field.reject("the balancer itself sets this header; use the switches of the backend");
    } else if FORBIDDEN.iter().any(|name| is(name)) {
        field.reject("this header belongs to the connection and cannot be changed by a rule");
    } else {
        return Some(text.to_owned());
    }
    None
}

fn system_value(field: &Field<'_>) -> Option<HeaderValue> {
    let words = SYSTEM.map(|name| (name, name));
    field.choice(&words).map(HeaderValue::System)
}

fn custom_value(field: &Field<'_>) -> Option<HeaderValue> {
    let text = field.text()?;
    let printable = text.chars().all(|char| char == ' ' || char.is_ascii_graphic());
    if text.len() > VALUE_CHARS || text.is_empty() || !printable || text.trim() != text {
        field.reject(format!(
            "allowed are 1–{VALUE_CHARS} printable ASCII characters, no space at either end"
        ));
        return None;
    }
    Some(HeaderValue::Custom(text.to_owned()))
}
