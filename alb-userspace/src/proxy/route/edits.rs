//! Header changes of rules, made ready: which names go, and what is set in their place.

use crate::model::{HeaderAction, HeaderValue};

/// The header actions of one side of a rule.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Names that go, of deletes and of inserts.
    gone: Vec<Box<[u8]>>,
    /// Bit n: a name of `gone` has n bytes (at most 40). Most fields are passed by it.
    lengths: u64,
    inserts: Vec<Insert>,
}

/// A field that is set.
#[derive(Debug)]
pub struct Insert {
    /// As given.
    pub name: Box<[u8]>,
    /// What it is set to.
    pub value: InsertValue,
}

/// What a field is set to.
#[derive(Debug)]
pub enum InsertValue {
    /// What the balancer knows under this name.
    System(SystemValue),
    /// As given.
    Custom(Box<[u8]>),
}

/// What the balancer knows, by the `X-Forwarded-*` field that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemValue {
    /// `X-Forwarded-For`: the chain of clients; in answers the client alone.
    For,
    /// `X-Forwarded-Client-Port`.
    ClientPort,
    /// `X-Forwarded-Host`: the requested host with port.
    Host,
    /// `X-Forwarded-Port`: the listener's.
    Port,
    /// `X-Forwarded-Proto`: `http` or `https`.
    Proto,
    /// `X-Forwarded-LBIP`: the address the client connected to.
    LbIp,
}

impl SystemValue {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "X-Forwarded-For" => Self::For,
            "X-Forwarded-Client-Port" => Self::ClientPort,
            "X-Forwarded-Host" => Self::Host,
            "X-Forwarded-Port" => Self::Port,
            "X-Forwarded-Proto" => Self::Proto,
            "X-Forwarded-LBIP" => Self::LbIp,
            _ => return None,
        })
    }
}

impl HeaderEdits {
    pub(in crate::proxy) fn compile(actions: &[HeaderAction]) -> Self {
        let mut edits = Self::default();
        for action in actions {
            let (HeaderAction::Insert { key, .. } | HeaderAction::Delete { key }) = action;
            edits.lengths |= 1_u64.checked_shl(length(key.as_bytes())).unwrap_or_default();
            edits.gone.push(key.as_bytes().into());
            let HeaderAction::Insert { key, value } = action else { continue };
            let value = match value {
                HeaderValue::Custom(text) => InsertValue::Custom(text.as_bytes().into()),
                HeaderValue::System(name) => match SystemValue::of(name) {
                    Some(value) => InsertValue::System(value),
                    None => continue,
                },
            };
            edits.inserts.push(Insert { name: key.as_bytes().into(), value });
        }
        edits
    }

    /// Does a field of this name go? (What is set in its place is in `inserts`.)
    pub fn drops(&self, name: &[u8]) -> bool {
        self.lengths.checked_shr(length(name)).is_some_and(|bits| bits & 1 == 1)
            && self.gone.iter().any(|gone| gone.eq_ignore_ascii_case(name))
    }

    /// What is set, in the order of the rule.
    pub fn inserts(&self) -> &[Insert] {
        &self.inserts
    }
}

fn length(name: &[u8]) -> u32 {
    u32::try_from(name.len()).unwrap_or(u32::MAX)
}
