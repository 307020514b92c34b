//! Answers: their bodies, and the envelope that errors come in.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};

use super::Reply;

/// Clients of the API read the id of an answer without a body from here.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-jdcloud-request-id");

/// The body of every error: `{"requestId": …, "error": {"code": …, "status": …, "message": …}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorBody {
    /// 32 characters of `[0-9a-z]`.
    pub(crate) request_id: String,
    pub(crate) error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorDetail {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The code in words, such as `NOT_FOUND`.
    pub(crate) status: String,
    /// For the reader.
    pub(crate) message: String,
}

/// A JSON document. A type of ours that serde cannot write is a fault of ours, answered as such.
pub(crate) fn json<T: Serialize>(code: StatusCode, body: &T) -> Reply {
    match serde_json::to_vec(body) {
        Ok(body) => build(code, "application/json", body),
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, &failure.to_string()),
    }
}

/// Plain text.
pub(crate) fn text(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    build(code, content_type, body)
}

/// An error in its envelope.
pub(crate) fn error(code: StatusCode, message: &str) -> Reply {
    let request_id = request_id();
    let body = ErrorBody {
        request_id: request_id.clone(),
        error: ErrorDetail { code: code.as_u16(), status: word(code), message: message.to_owned() },
    };
    // Strings and a number: serde_json cannot fail on them.
    let mut reply = build(code, "application/json", serde_json::to_vec(&body).unwrap_or_default());
    if let Ok(id) = HeaderValue::try_from(request_id) {
        reply.headers_mut().insert(REQUEST_ID, id);
    }
    reply
}

/// 405, with the methods that would do.
pub(crate) fn method_not_allowed(path: &str, allow: &'static str) -> Reply {
    let message = format!("{path} answers {allow}");
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, &message);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

fn build(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = code;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// `Not Found` → `NOT_FOUND`.
fn word(code: StatusCode) -> String {
    code.canonical_reason().unwrap_or("ERROR").to_uppercase().replace([' ', '-'], "_")
}

/// A new id, unguessable enough to tell requests apart; it is no secret.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let state = RandomState::new();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    (0..4_u64)
        .flat_map(|part| {
            let mut rest = state.hash_one((count, part));
            (0..8).map(move |_| {
                let digit = DIGITS[usize::try_from(rest % 36).unwrap_or_default()];
                rest /= 36;
                char::from(digit)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::{request_id, word};

    #[test]
    fn ids_differ_and_have_the_documented_form() {
        let (one, two) = (request_id(), request_id());
        assert_ne!(one, two);
        for id in [one, two] {
            assert_eq!(id.len(), 32, "{id}");
            assert!(id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()), "{id}");
        }
    }

    #[test]
    fn status_words_are_the_codes_in_capitals() {
        for (code, expected) in [
            (StatusCode::NOT_FOUND, "NOT_FOUND"),
            (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
            (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ] {
            assert_eq!(word(code), expected);
        }
    }
}
