//! `X-Request-Id`: the name of one request in every log it passes.

/// Bytes of an id that is made here.
const MADE: usize = 32;
/// Most bytes of an id that is taken from the client.
const LONGEST: usize = 128;
/// Ids that one draw of randomness is enough for.
const DRAW: usize = 32;

/// The id of one request.
#[derive(Clone, Copy, Debug)]
pub enum RequestId<'a> {
    /// The client's own.
    Kept(&'a [u8]),
    /// 128 random bits, as lower-case hexadecimal digits.
    Made([u8; MADE]),
}

impl RequestId<'_> {
    /// As the header carries it.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Kept(id) => id,
            Self::Made(id) => id,
        }
    }
}

/// Makes ids: random, so that they are unique over workers, nodes and restarts. One a worker.
#[derive(Debug)]
pub struct RequestIds {
    random: [u8; DRAW * MADE / 2],
    used: usize,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { random: [0; DRAW * MADE / 2], used: DRAW }
    }
}

impl RequestIds {
    /// The client's id if it sent exactly one that can stand in a log line, else a new one.
    pub fn of<'a>(&mut self, fields: &[crate::proxy::message::Field<'a>]) -> RequestId<'a> {
        let mut given = fields.iter().filter(|field| field.name.len() == 12);
        let mut given = given.by_ref().filter(|field| field.is("x-request-id"));
        match (given.next(), given.next()) {
            (Some(field), None) if is_sane(field.value) => RequestId::Kept(field.value),
            _ => RequestId::Made(self.make()),
        }
    }

    /// A new id.
    pub fn make(&mut self) -> [u8; MADE] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.used == DRAW {
            // It fails only where the operating system has no randomness at all; the ids of
            // requests are not what such a host would fail by.
            if aws_lc_rs::rand::fill(&mut self.random).is_err() {
                tracing::error!("no randomness for request ids");
            }
            self.used = 0;
        }
        let from = self.used * MADE / 2;
        self.used += 1;
        let mut id = [0; MADE];
        for (pair, byte) in id.chunks_exact_mut(2).zip(&self.random[from..]) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        id
    }
}

/// Nothing that ends a log field or a shell word.
fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@~#".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::proxy::message::Field;

    #[test]
    fn made_ids_differ_also_between_workers() {
        let mut workers = [RequestIds::default(), RequestIds::default()];
        let ids: HashSet<_> = (0..1000).map(|n| workers[n % 2].make()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().flatten().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)));
    }

    #[test]
    fn one_sane_id_is_kept() {
        let long = "x".repeat(129);
        for (given, kept) in [
            (&["abc-1.2:3/4+5="][..], true),
            (&[], false),
            (&["a", "a"], false),
            (&[""], false),
            (&["a b"], false),
            (&["a\"b"], false),
            (&["é"], false),
            (&[&long], false),
            (&[&long[1..]], true),
        ] {
            let fields: Vec<_> = given
                .iter()
                .map(|id| Field { name: b"X-Request-ID", value: id.as_bytes() })
                .collect();
            let id = RequestIds::default().of(&fields);
            match id {
                RequestId::Kept(id) => assert!(kept && id == given[0].as_bytes(), "{given:?}"),
                RequestId::Made(_) => assert!(!kept, "{given:?}"),
            }
        }
    }
}
