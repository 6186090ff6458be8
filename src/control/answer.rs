//! The API's responses.

use http::StatusCode;
use serde_json::{Value, json};

use super::ControlError;
use crate::body::Body;
use crate::exchange::Response;

pub(super) fn text(media_type: &'static str, text: String) -> Response {
    with(StatusCode::OK, media_type, text)
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    with(status, "application/json", format!("{value}\n"))
}

pub(super) fn error(error: &ControlError) -> Response {
    let status = match error {
        ControlError::UnknownPath
        | ControlError::NoFleet
        | ControlError::NoSessions
        | ControlError::NoObjects
        | ControlError::NoKey(_) => StatusCode::NOT_FOUND,
        ControlError::Method { .. } | ControlError::PurgeNotAllowed(_) => {
            StatusCode::METHOD_NOT_ALLOWED
        }
        ControlError::Token(_) => StatusCode::UNAUTHORIZED,
        ControlError::Forbidden(_) => StatusCode::FORBIDDEN,
        ControlError::Conflict(_) => StatusCode::CONFLICT,
        ControlError::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ControlError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ControlError::Bad(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = json(status, &json!({ "error": error.to_string() }));
    match error {
        ControlError::Method { allowed } => response.fields.push_static("Allow", *allowed),
        ControlError::PurgeNotAllowed(_) => response.fields.push_static("Allow", "GET, HEAD"),
        ControlError::Token(_) => response.fields.push_static("WWW-Authenticate", "Bearer"),
        _ => {}
    }
    response
}

/// The same head as an answer to HEAD (RFC 9110 9.3.2).
pub(super) fn without_content(mut response: Response) -> Response {
    if let Some(length) = response.body.len() {
        response.fields.push_static("Content-Length", length.to_string());
    }
    response.body = Body::empty();
    response
}

/// Content that comes as it is made, a line of JSON at a time.
pub(super) fn lines(body: Body) -> Response {
    with_body(StatusCode::OK, "application/x-ndjson", body)
}

fn with(status: StatusCode, media_type: &'static str, content: String) -> Response {
    with_body(status, media_type, Body::from(bytes::Bytes::from(content)))
}

fn with_body(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(status, body);
    response.fields.push_static("Content-Type", media_type);
    response.fields.push_static("Cache-Control", "no-store");
    response.fields.push_static("X-Content-Type-Options", "nosniff");
    response
}
