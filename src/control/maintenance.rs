//! Whether the shop is being worked on.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{ControlError, Node, access, answer, purge};
use crate::exchange::{Request, Response};

/// Bytes of an order.
const ORDER_MAX_BYTES: u64 = 1 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    on: bool,
}

/// `{"on":true,"by":["command"]}`
pub(super) fn shown(node: &impl Node) -> Response {
    let by = node.maintenance();
    answer::json(StatusCode::OK, &json!({ "on": !by.is_empty(), "by": by }))
}

/// Switches it.
pub(super) async fn switch(node: &impl Node, request: Request) -> Result<Response, ControlError> {
    access::for_steering(&node.settings(), &request)?;
    if !purge::is_json(&request.fields) {
        return Err(ControlError::MediaType);
    }
    let content = request.body.collect(ORDER_MAX_BYTES).await;
    let content = content.map_err(|error| ControlError::Bad(error.to_string()))?;
    let order: Order =
        serde_json::from_slice(&content).map_err(|error| ControlError::Bad(error.to_string()))?;
    node.set_maintenance(order.on);
    Ok(shown(node))
}
