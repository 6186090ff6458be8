//! Why a request is refused at the door, before any handler sees it.

use http::StatusCode;

use super::http1::body::BodyFault;
use crate::reason::Reason;

macro_rules! refusals {
    ($($(#[doc = $doc:expr])+ $variant:ident = $status:ident, $text:literal;)+) => {
        /// What is wrong with a request, or how it is larger than a limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Refused {
            $($(#[doc = $doc])+ #[error($text)] $variant,)+
        }

        impl Refused {
            /// Every variant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }
        }
    };
}

refusals! {
    /// A line that ends with a bare LF, or holds a CR that does not end it (RFC 9112 2.2).
    BareLineEnd = BAD_REQUEST, "a line does not end with CRLF";
    /// Not `method SP target SP version` (RFC 9112 3).
    RequestLine = BAD_REQUEST, "malformed request line";
    /// The method is no token (RFC 9110 9.1).
    Method = BAD_REQUEST, "malformed method";
    /// The target has a form or a character that it may not have (RFC 9112 3.2).
    Target = BAD_REQUEST, "malformed request target";
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version = HTTP_VERSION_NOT_SUPPORTED, "HTTP version not supported";
    /// A field line without a colon, or with a name that is no token (RFC 9112 5.1).
    FieldName = BAD_REQUEST, "malformed field name";
    /// A control character in a field value (RFC 9110 5.5).
    FieldValue = BAD_REQUEST, "control character in a field";
    /// A field line that continues the one before (RFC 9112 5.2).
    Folded = BAD_REQUEST, "folded field line";
    /// HTTP/1.1 without Host (RFC 9112 3.2).
    HostMissing = BAD_REQUEST, "no Host field";
    /// More than one Host (RFC 9112 3.2).
    HostRepeated = BAD_REQUEST, "more than one Host field";
    /// Host, or the authority of the target, is no `host[:port]`.
    HostMalformed = BAD_REQUEST, "malformed host";
    /// The authority of the target differs from Host.
    HostMismatch = BAD_REQUEST, "Host differs from the request target";
    /// Content-Length is no number of bytes that fits 64 bits (RFC 9110 8.6).
    LengthMalformed = BAD_REQUEST, "malformed Content-Length";
    /// More than one Content-Length, equal ones too.
    LengthRepeated = BAD_REQUEST, "more than one Content-Length";
    /// Transfer-Encoding is not exactly `chunked`, once. RFC 9112 6.1 suggests 501 for an
    /// unknown coding; a client that sends one is out of step with us either way, so all get 400.
    CodingUnknown = BAD_REQUEST, "Transfer-Encoding is not exactly chunked";
    /// Both Transfer-Encoding and Content-Length (RFC 9112 6.1).
    CodingAndLength = BAD_REQUEST, "both Transfer-Encoding and Content-Length";
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1).
    CodingInOldVersion = BAD_REQUEST, "Transfer-Encoding in HTTP/1.0";
    /// Upgrade on a request that has content.
    UpgradeWithContent = BAD_REQUEST, "Upgrade on a request with content";
    /// An expectation other than `100-continue` (RFC 9110 10.1.1).
    Expectation = EXPECTATION_FAILED, "unknown expectation";
    /// The chunked coding of the content is broken (RFC 9112 7.1).
    Chunk = BAD_REQUEST, "malformed chunked content";
    /// The request line is longer than `listen.request_line_max`.
    RequestLineTooLong = URI_TOO_LONG, "request line too long";
    /// A field line is longer than `listen.header_max`.
    FieldTooLong = REQUEST_HEADER_FIELDS_TOO_LARGE, "header field too large";
    /// The head is longer than `listen.head_max`.
    HeadTooLong = REQUEST_HEADER_FIELDS_TOO_LARGE, "request head too large";
    /// More field lines than `listen.headers_max`.
    TooManyFields = REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields";
    /// More options in Connection than anybody needs.
    TooManyOptions = REQUEST_HEADER_FIELDS_TOO_LARGE, "too many connection options";
    /// A field that speaks of one connection, in HTTP/2 (RFC 9113 8.2.2).
    ConnectionSpecific = BAD_REQUEST, "a field that HTTP/2 does not have";
    /// The scheme of an HTTP/2 request is neither http nor https.
    Scheme = BAD_REQUEST, "unknown scheme";
    /// The fields of an HTTP/2 connection's requests exceed `listen.http2_fields_memory_max`.
    FieldsMemory = REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields at once";
    /// The head did not arrive within `listen.header_timeout`.
    HeadTimedOut = REQUEST_TIMEOUT, "the request head took too long";
}

impl Refused {
    /// The word for log and metric.
    pub fn reason(self) -> Reason {
        match self.status() {
            StatusCode::REQUEST_TIMEOUT => Reason::SlowRequest,
            StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Reason::OversizedRequest
            }
            StatusCode::EXPECTATION_FAILED => Reason::Expectation,
            _ => Reason::MalformedRequest,
        }
    }
}

impl From<BodyFault> for Refused {
    fn from(_: BodyFault) -> Self {
        Self::Chunk
    }
}
