//! JSON, as REST clients send it.

use serde_json::Value as Json;

use super::Value;
use super::name::Name;

/// A text or a number, in objects by the parts of the field's name.
pub(super) fn value(field: &Name, content: &[u8]) -> Value {
    // What has no end, or nests deeper than 128 times, is an error; of two members with one name the last counts, as in PHP.
    let Ok(json) = serde_json::from_slice::<Json>(content) else { return Value::Unreadable };
    let mut json = &json;
    for part in field.parts() {
        let member = std::str::from_utf8(part).ok().and_then(|part| json.get(part));
        let Some(member) = member else { return Value::None };
        json = member;
    }
    match json {
        Json::String(text) => Value::Some(text.clone().into_bytes()),
        Json::Null => Value::None,
        // PHP writes some numbers in another way than they came.
        _ => Value::Unreadable,
    }
}
