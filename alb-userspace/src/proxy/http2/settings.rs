//! What clients are told they may do, and what the `h2` crate holds them to. Together these bound
//! the memory of a connection, whatever its client does.

use std::time::Duration;

use h2::server::Builder;

use crate::model::ListenerHttp;

/// Streams at once.
const STREAMS: u32 = 128;
/// Bytes of a request's body that are taken before the target took them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a response that wait for the client's socket, a stream: a frame, while TLS has the
/// one before.
const SEND_BUFFER: usize = 16 << 10;
/// Bytes of a DATA frame: more would delay other streams.
const FRAME: u32 = 16 << 10;
/// Streams that were reset by us and whose late frames are still told from new ones.
const REMEMBERED_RESETS: usize = 32;
/// How long they are.
const REMEMBER: Duration = Duration::from_secs(5);
/// Streams that a client reset before they were looked at.
const PENDING_RESETS: usize = 32;
/// Streams that we had to reset for what the client sent, in the life of a connection.
const ERROR_RESETS: usize = 256;
/// What a header list counts beyond the bytes of a field (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: u32 = 32;
/// `:method`, `:scheme`, `:authority` and `:path` with room for what they count beyond the line.
const PSEUDO: u32 = 4 * FIELD_OVERHEAD + 512;

/// A connection's settings on a listener with these limits.
pub(super) fn builder(limits: &ListenerHttp) -> Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_frame_size(FRAME)
        .max_header_list_size(header_list(limits))
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(ERROR_RESETS));
    builder
}

/// As large as the largest head that can be within the limits: which of them one breaks is then
/// found by the same check as in HTTP/1.
fn header_list(limits: &ListenerHttp) -> u32 {
    let ListenerHttp { header_bytes, headers, request_line_bytes, .. } = *limits;
    let overhead = headers.saturating_mul(FIELD_OVERHEAD).saturating_add(PSEUDO);
    header_bytes.saturating_add(request_line_bytes).saturating_add(overhead)
}
