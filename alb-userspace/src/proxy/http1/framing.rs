//! What the fields of a head say about the message itself: its length, the connection, Host.
//! Pure; the same rules for requests and responses, as strict as RFC 9112 §6.3 and then some.

use crate::proxy::{message::Field, refusal::Malformed};

/// Framing fields of one head, gathered field by field.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one head")]
pub(super) struct Framing<'a> {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) host: Option<&'a [u8]>,
    pub(super) upgrade: bool,
    pub(super) expect_continue: bool,
    /// An expectation that is not `100-continue` (RFC 9110 §10.1.1).
    pub(super) expects_else: bool,
    pub(super) connection: Connection,
}

/// Options of the Connection fields that matter here (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl<'a> Framing<'a> {
    /// What the fields of one head say.
    pub(super) fn of(fields: &[Field<'a>], http11: bool) -> Result<Self, Malformed> {
        let mut framing = Self::default();
        for field in fields {
            framing.add(*field)?;
        }
        match (framing.chunked, framing.length.is_some(), http11) {
            (true, true, _) | (true, _, false) => Err(Malformed::LengthAndEncoding),
            _ => Ok(framing),
        }
    }

    /// Takes one more field into account.
    fn add(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        let (name, value) = (field.name, field.value);
        // The length of the name decides before any byte of it is compared.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let before = self.host.replace(value);
                before.map_or(Ok(()), |_| Err(Malformed::HostRepeated))?;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expect_continue |= known;
                self.expects_else |= !known;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.add(value)?,
            14 if same_but_underscore(name, b"content-length") => {
                exact(name)?;
                spacing(field).ok_or(Malformed::ContentLength)?;
                let length = content_length(value)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::ContentLength);
                }
            }
            17 if same_but_underscore(name, b"transfer-encoding") => {
                exact(name)?;
                spacing(field).ok_or(Malformed::TransferEncoding)?;
                if self.chunked {
                    return Err(Malformed::TransferEncoding);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the connection outlives the message.
    pub(super) fn keeps_alive(&self, http11: bool) -> bool {
        !self.connection.close && (http11 || self.connection.keep_alive)
    }
}

impl Connection {
    fn add(&mut self, value: &[u8]) -> Result<(), Malformed> {
        // Almost always one option.
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            match option.len() {
                4 if option.eq_ignore_ascii_case(b"host") => {
                    return Err(Malformed::ConnectionField);
                }
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                14 if same_but_underscore(option, b"content-length") => {
                    return Err(Malformed::ConnectionField);
                }
                17 if same_but_underscore(option, b"transfer-encoding") => {
                    return Err(Malformed::ConnectionField);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether `name` is `plain` in any case, with `_` for `-`. `plain` is lower case.
fn same_but_underscore(name: &[u8], plain: &[u8]) -> bool {
    let same = |(found, wanted): (&u8, &u8)| {
        found.to_ascii_lowercase() == *wanted || (*found == b'_' && *wanted == b'-')
    };
    name.len() == plain.len() && name.iter().zip(plain).all(same)
}

fn exact(name: &[u8]) -> Result<(), Malformed> {
    if name.contains(&b'_') { Err(Malformed::FieldName) } else { Ok(()) }
}

/// At most one space between colon and value: more is legal, and only seen in attacks on parsers
/// that disagree about it. Both slices lie in the same buffer.
fn spacing(field: Field<'_>) -> Option<()> {
    let after_colon = field.name.as_ptr() as usize + field.name.len() + 1;
    let gap = (field.value.as_ptr() as usize).checked_sub(after_colon)?;
    (gap <= 1).then_some(())
}

/// A plain decimal number below 2^63, without sign, list or leading zeros.
pub(in crate::proxy) fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.contains(&b',') {
        return Err(Malformed::ContentLength);
    }
    let plain = !value.is_empty()
        && value.len() <= 19
        && value.iter().all(u8::is_ascii_digit)
        && (value[0] != b'0' || value.len() == 1);
    if !plain {
        return Err(Malformed::ContentLength);
    }
    // 19 digits are below 2^64.
    let number = value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    if i64::try_from(number).is_ok() { Ok(number) } else { Err(Malformed::ContentLength) }
}
