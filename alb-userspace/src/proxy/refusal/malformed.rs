//! In which way a request breaks the rules of its protocol: always 400, one word each.

/// What is wrong with a request. The RFC sections are those that are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The request line is not `method SP target SP version` (RFC 9112 §3).
    RequestLine,
    /// The target is none of the forms served here, or holds bytes it may not (RFC 9112 §3.2).
    Target,
    /// The path has `.` or `..` segments, plain or percent-encoded.
    DotSegment,
    /// A field name is empty, is not a token, or has white space before the colon
    /// (RFC 9112 §5.1).
    FieldName,
    /// A field value holds NUL, CR, LF or another control (RFC 9110 §5.5).
    FieldValue,
    /// A field is continued on the next line (RFC 9112 §5.2).
    Folding,
    /// A line ends in a bare LF, or a CR stands alone (RFC 9112 §2.2).
    LineEnding,
    /// No `Host`, or no `:authority` (RFC 9112 §3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` or `:authority` is not `host[:port]`.
    HostInvalid,
    /// `Host` contradicts the target's authority or `:authority`.
    HostContradicts,
    /// `Content-Length` is not one decimal number, or several differ (RFC 9112 §6.3).
    ContentLength,
    /// The body is longer or shorter than `Content-Length` says.
    BodyLength,
    /// `Transfer-Encoding` is not exactly `chunked` (RFC 9112 §6.1).
    TransferEncoding,
    /// `Transfer-Encoding` beside `Content-Length`, or in HTTP/1.0 (RFC 9112 §6.1).
    LengthAndEncoding,
    /// A chunk size, extension or ending is not right (RFC 9112 §7.1).
    Chunk,
    /// A trailer field is not right or may not stand in a trailer (RFC 9110 §6.5.1).
    Trailer,
    /// A pseudo header is missing, repeated, unknown or out of place (RFC 9113 §8.3).
    PseudoHeader,
    /// A connection-specific field in h2 (RFC 9113 §8.2.2).
    ConnectionField,
}

impl Malformed {
    /// Every one, for counters and tests.
    pub const ALL: [Self; 19] = [
        Self::RequestLine,
        Self::Target,
        Self::DotSegment,
        Self::FieldName,
        Self::FieldValue,
        Self::Folding,
        Self::LineEnding,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostInvalid,
        Self::HostContradicts,
        Self::ContentLength,
        Self::BodyLength,
        Self::TransferEncoding,
        Self::LengthAndEncoding,
        Self::Chunk,
        Self::Trailer,
        Self::PseudoHeader,
        Self::ConnectionField,
    ];

    /// Counter, metric label and log word.
    pub fn word(self) -> &'static str {
        match self {
            Self::RequestLine => "malformed_request_line",
            Self::Target => "malformed_target",
            Self::DotSegment => "malformed_dot_segment",
            Self::FieldName => "malformed_field_name",
            Self::FieldValue => "malformed_field_value",
            Self::Folding => "malformed_folding",
            Self::LineEnding => "malformed_line_ending",
            Self::HostMissing => "malformed_host_missing",
            Self::HostRepeated => "malformed_host_repeated",
            Self::HostInvalid => "malformed_host_invalid",
            Self::HostContradicts => "malformed_host_contradicts",
            Self::ContentLength => "malformed_content_length",
            Self::BodyLength => "malformed_body_length",
            Self::TransferEncoding => "malformed_transfer_encoding",
            Self::LengthAndEncoding => "malformed_length_and_encoding",
            Self::Chunk => "malformed_chunk",
            Self::Trailer => "malformed_trailer",
            Self::PseudoHeader => "malformed_pseudo_header",
            Self::ConnectionField => "malformed_connection_field",
        }
    }

    /// What the client reads.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::RequestLine => "The request line is malformed.",
            Self::Target => "The request target is malformed.",
            Self::DotSegment => "The path has dot segments.",
            Self::FieldName => "The name of a header field is malformed.",
            Self::FieldValue => "The value of a header field is malformed.",
            Self::Folding => "A header field is folded over several lines.",
            Self::LineEnding => "A line does not end in CR LF.",
            Self::HostMissing => "The request names no host.",
            Self::HostRepeated => "The request names its host more than once.",
            Self::HostInvalid => "The host of the request is malformed.",
            Self::HostContradicts => "The request names two different hosts.",
            Self::ContentLength => "Content-Length is malformed.",
            Self::BodyLength => "The body does not have the length that was announced.",
            Self::TransferEncoding => "Only chunked is served as Transfer-Encoding.",
            Self::LengthAndEncoding => "Content-Length and Transfer-Encoding exclude each other.",
            Self::Chunk => "A chunk of the body is malformed.",
            Self::Trailer => "The trailer is malformed.",
            Self::PseudoHeader => "The pseudo headers are malformed.",
            Self::ConnectionField => "A header field is not allowed in HTTP/2.",
        }
    }
}
