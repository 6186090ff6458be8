//! The object cache: figures, what takes most, one key.

use std::sync::Arc;

use http::StatusCode;
use percent_encoding::percent_decode;
use serde::Serialize;

use super::{ControlError, Node, access, answer};
use crate::exchange::{Request, Response};
use crate::objects::Objects;
use crate::objects::figures::NotShown;

/// Entries of each list of `/objects/top`, and how many they may be.
const COUNT: usize = 20;
const COUNT_MAX: usize = 1_000;

/// Bytes of a value that are shown where not all are asked for, and where they are: the answer, in which a
/// byte may take five, is to be within what the command line takes in.
const SHOWN_BYTES: usize = 2 << 10;
const SHOWN_MAX_BYTES: usize = 3 << 20;

/// `GET /objects`, `/objects/top` and `/objects/key`.
pub(super) async fn show(
    node: &impl Node,
    request: &Request,
    path: &[u8],
) -> Result<Response, ControlError> {
    let objects = node.objects().ok_or(ControlError::NoObjects)?;
    match path {
        b"/objects" => Ok(json(&objects.overview())),
        b"/objects/top" => {
            access::for_steering(&node.settings(), request)?;
            top(objects, &Query::of(request, &["database", "count"])?).await
        }
        b"/objects/key" => {
            access::for_steering(&node.settings(), request)?;
            key(&objects, &Query::of(request, &["database", "key", "full"])?)
        }
        _ => Err(ControlError::UnknownPath),
    }
}

async fn top(objects: Arc<Objects>, query: &Query) -> Result<Response, ControlError> {
    let database = query.number("database")?;
    let count = query.number("count")?.unwrap_or(COUNT);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(ControlError::Bad(format!("count must be 1 to {COUNT_MAX}")));
    }
    let largest = tokio::task::spawn_blocking(move || objects.largest(database, count)).await;
    let largest = largest.map_err(|error| ControlError::Bad(error.to_string()))?;
    Ok(json(&largest.map_err(|reason| refused(&reason))?))
}

fn key(objects: &Objects, query: &Query) -> Result<Response, ControlError> {
    let database = query.number("database")?.unwrap_or(0);
    let key = query.get("key");
    let key = key.ok_or_else(|| ControlError::Bad("which key? key=NAME says it".to_owned()))?;
    let max_bytes = if query.get("full").is_some() { SHOWN_MAX_BYTES } else { SHOWN_BYTES };
    Ok(json(&objects.key(database, key, max_bytes).map_err(|reason| refused(&reason))?))
}

fn refused(reason: &NotShown) -> ControlError {
    match reason {
        NotShown::NoDatabase { .. } => ControlError::Bad(reason.to_string()),
        NotShown::NoKey { .. } => ControlError::NoKey(reason.to_string()),
    }
}

fn json(what: &impl Serialize) -> Response {
    let json = serde_json::to_value(what).unwrap_or_default();
    answer::json(StatusCode::OK, &json)
}

/// What stands behind the question mark.
struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Each name once, and none but those that are known: a slip must not show another key than was meant.
    fn of(request: &Request, known: &[&str]) -> Result<Self, ControlError> {
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        let query = request.query().unwrap_or_default();
        for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            if !known.contains(&name.as_str()) || pairs.iter().any(|(own, _)| *own == name) {
                let known = known.join(", ");
                let text = format!("{name:?} is unknown here or there twice; known are {known}");
                return Err(ControlError::Bad(text));
            }
            pairs.push((name, percent_decode(value).collect()));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| &value[..])
    }

    fn number(&self, name: &str) -> Result<Option<usize>, ControlError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| ControlError::Bad(format!("{name} must be a number")))
    }
}
