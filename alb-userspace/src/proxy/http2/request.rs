//! Request heads as the `h2` crate gives them: everything that would mean something else to a
//! target in HTTP/1.1 is refused. Pure.
//!
//! The crate refuses by itself (`RST_STREAM`, `PROTOCOL_ERROR`): pseudo headers that are missing,
//! repeated, unknown or out of place, names with upper case or other bytes than tokens have,
//! controls in values, connection-specific fields, and content that contradicts its length. What
//! it leaves open, and what it might come to leave open, is checked here.

use http::{HeaderMap, Method, header, request::Parts};

use crate::proxy::{
    http1::{Fields, framing, request::Limits, target},
    message::{BodyKind, Field, RequestHead, Scheme, Version},
    refusal::{Malformed, Refusal},
};

/// A head that passed.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// The head; borrows what the crate made.
    pub head: RequestHead<'a>,
    /// `Expect: 100-continue`.
    pub expects: bool,
}

/// Bytes of a request line that stand around method and target: two spaces and the version.
const LINE: usize = 10;
/// Bytes of a field's line beyond name and value: colon, space, line end.
const FIELD: usize = 4;

/// Checks a head. `ended` = there is no body.
pub fn check<'s, 'b: 's>(
    parts: &'b Parts,
    ended: bool,
    limits: &Limits,
    scheme: Scheme,
    fields: &'s mut Fields<'b>,
) -> Result<Checked<'s>, Refusal> {
    if parts.extensions.get::<h2::ext::Protocol>().is_some() {
        return Err(Refusal::ExtendedConnectRefused);
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Refusal::MethodRefused);
    }
    let origin = parts.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes();
    let method = parts.method.as_str().as_bytes();
    if method.len() + origin.len() + LINE > limits.request_line {
        return Err(Refusal::RequestLineTooLong);
    }
    collect(&parts.headers, limits, fields)?;
    let target = target::parse(origin, method, scheme).map_err(Refusal::Malformed)?;
    if target.authority.is_some() {
        return Err(Refusal::Malformed(Malformed::Target));
    }
    if parts.uri.scheme_str().is_some_and(|given| given != scheme.as_str()) {
        return Err(Refusal::Malformed(Malformed::PseudoHeader));
    }
    let authority = authority(parts, scheme).map_err(Refusal::Malformed)?;
    let length = length(&parts.headers).map_err(Refusal::Malformed)?;
    if is_grpc(&parts.headers) {
        return Err(Refusal::GrpcRefused);
    }
    let mut expects = false;
    for value in parts.headers.get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::ExpectationRefused);
        }
        expects = true;
    }
    let body = match length {
        _ if ended => BodyKind::None,
        Some(length) => BodyKind::Length(length),
        None => BodyKind::Stream,
    };
    let fields: &'s [Field<'b>] = fields;
    let version = Version::H2;
    let head =
        RequestHead { method, scheme, authority, target: target.origin, version, fields, body };
    Ok(Checked { head, expects: expects && !ended })
}

/// The fields, checked and within the limits.
fn collect<'b>(
    headers: &'b HeaderMap,
    limits: &Limits,
    fields: &mut Fields<'b>,
) -> Result<(), Refusal> {
    if headers.len() > limits.headers {
        return Err(Refusal::HeadersTooLarge);
    }
    let mut bytes = 0;
    for (name, value) in headers {
        let field = Field { name: name.as_str().as_bytes(), value: value.as_bytes() };
        bytes += field.name.len() + field.value.len() + FIELD;
        check_field(field).map_err(Refusal::Malformed)?;
        fields.push(field);
    }
    if bytes > limits.header_bytes { Err(Refusal::HeadersTooLarge) } else { Ok(()) }
}

/// What one field may not be, whatever the others are. Names are lower-case tokens by their type.
fn check_field(field: Field<'_>) -> Result<(), Malformed> {
    let Field { name, value } = field;
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            return Err(Malformed::ConnectionField);
        }
        b"te" if value != b"trailers" => return Err(Malformed::ConnectionField),
        // Servers exist that do not tell `_` from `-`.
        b"content_length" | b"transfer_encoding" => {
            return Err(Malformed::FieldName);
        }
        _ => {}
    }
    check_value(value)
}

/// No white space around it (RFC 9113 §8.2.1), no controls but HTAB.
pub(super) fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let control = value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    if control || space(value.first()) || space(value.last()) {
        return Err(Malformed::FieldValue);
    }
    Ok(())
}

/// The authority that is asked for: `:authority`, or `Host` of requests that were HTTP/1 once
/// (RFC 9113 §8.3.1). If both are there they say the same.
fn authority(parts: &Parts, scheme: Scheme) -> Result<&[u8], Malformed> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(header::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Malformed::HostRepeated);
    }
    let given = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    for authority in given.iter().chain(&host) {
        target::check_authority(authority)?;
    }
    match (given, host) {
        (None, None) => Err(Malformed::HostMissing),
        (Some(given), Some(host)) if !target::same_authority(given, host, scheme) => {
            Err(Malformed::HostContradicts)
        }
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
    }
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => framing::content_length(length.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(Malformed::ContentLength),
    }
}

/// gRPC itself, which cannot be had over HTTP/1.1; gRPC-Web can.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
    })
}
