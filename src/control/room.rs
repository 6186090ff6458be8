//! The waiting room.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{ControlError, Node, access, answer, purge};
use crate::exchange::{Request, Response};
use crate::waiting_room::Status;

/// Bytes of an order.
const ORDER_MAX_BYTES: u64 = 1 << 10;

/// Either of both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    Switch(Switch),
    Clear(Clear),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    /// `null`: as the settings have it.
    #[serde(deserialize_with = "Option::deserialize")]
    on: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
    clear: bool,
}

/// `{"on":true,"by":["command"],"waiting":12,...}`
pub(super) fn shown(node: &impl Node) -> Response {
    let Status {
        is_on,
        causes,
        by_hand,
        is_alone,
        waiting,
        inside,
        visitors_max,
        per_minute,
        wait,
    } = node.room();
    let json = json!({
        "on": is_on,
        "by": causes,
        "by_hand": by_hand,
        "alone": is_alone,
        "waiting": waiting,
        "inside": inside,
        "visitors_max": visitors_max,
        "admitted_per_minute": per_minute,
        "wait_seconds": wait.map(|wait| wait.as_secs()),
    });
    answer::json(StatusCode::OK, &json)
}

/// Switches or empties it.
pub(super) async fn order(node: &impl Node, request: Request) -> Result<Response, ControlError> {
    access::for_steering(&node.settings(), &request)?;
    if !purge::is_json(&request.fields) {
        return Err(ControlError::MediaType);
    }
    let content = request.body.collect(ORDER_MAX_BYTES).await;
    let content = content.map_err(|error| ControlError::Bad(error.to_string()))?;
    match serde_json::from_slice(&content) {
        Ok(Order::Switch(Switch { on })) => node.switch_room(on).await,
        Ok(Order::Clear(Clear { clear: true })) => node.clear_room().await,
        Ok(Order::Clear(Clear { clear: false })) | Err(_) => {
            let what = r#"the content is one of {"on":true}, {"on":false}, {"on":null} and {"clear":true}"#;
            return Err(ControlError::Bad(what.to_owned()));
        }
    }
    Ok(shown(node))
}
