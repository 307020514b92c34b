//! Names that `Connection` lists. Their fields are for one hop, so that in a trailer they may come
//! as little as those that always are (RFC 9110 §7.6.1). Pure.

use crate::proxy::message::Field;

/// The names of one head; mostly none.
#[derive(Clone, Debug, Default)]
pub(super) struct Nominated(Vec<Box<[u8]>>);

impl Nominated {
    /// What the fields of a head list.
    pub(super) fn of(fields: &[Field<'_>]) -> Self {
        let lists = fields.iter().filter(|field| field.is("connection"));
        let names = lists.flat_map(|field| field.value.split(|byte| *byte == b','));
        let names = names.map(<[u8]>::trim_ascii).filter(|name| !is_option(name));
        Self(names.map(Box::from).collect())
    }

    /// Whether a field of this name is one of them. Servers exist that do not tell `_` from `-`.
    pub(super) fn has(&self, name: &str) -> bool {
        let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        self.0.iter().any(|listed| listed.iter().map(plain).eq(name.as_bytes().iter().map(plain)))
    }
}

/// What stands in almost every `Connection` and is no field, or one that no trailer has anyway.
fn is_option(name: &[u8]) -> bool {
    let options: [&[u8]; 5] = [b"", b"close", b"keep-alive", b"te", b"upgrade"];
    options.iter().any(|option| name.eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_line_and_spelling() {
        let field = |value: &'static str| Field { name: b"Connection", value: value.as_bytes() };
        let other = Field { name: b"X-Connection", value: b"x-none" };
        let fields = [field("close , X-Sum,,\tx_two"), other, field("Keep-Alive, Upgrade, last")];
        let nominated = Nominated::of(&fields);
        assert_eq!(nominated.0.len(), 3, "{nominated:?}");
        for name in ["x-sum", "X_Sum", "X-Two", "LAST"] {
            assert!(nominated.has(name), "{name}");
        }
        for name in ["x-sums", "x-su", "close", "x-none", ""] {
            assert!(!nominated.has(name), "{name}");
        }
    }
}
