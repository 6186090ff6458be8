//! The admin's API: health, metrics, statistics, purge.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | this list, as text |
//! | `GET /live` | 200 while the process answers |
//! | `GET /ready` | 200, or 503 with the causes, as JSON |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /stats` | the same for people, as JSON |
//! | `POST /purge` | purges what the JSON names |
//! | `PURGE` any path | as Magento sends it |
//!
//! HEAD works where GET does. Errors are `{"error":"..."}` and name what is wrong.

mod access;
mod answer;
mod purge;

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::body::BodyError;
use crate::exchange::{Request, Responder, Response};
use crate::observe::Readiness;
use crate::settings::Settings;
use access::PurgeRight;

pub use purge::{PurgeOrder, PurgeRefused, Purged, Scope};

/// Bytes of a purge's JSON.
const BODY_MAX_BYTES: u64 = 1 << 20;

const INDEX: &str = "Parvis' control listener\n\n\
    GET   /live     200 while the process answers\n\
    GET   /ready    200, or 503 with the causes\n\
    GET   /metrics  for Prometheus\n\
    GET   /stats    the same for people\n\
    POST  /purge    {\"tags\":[\"cat_p_1\"]} | {\"url\":\"https://shop/x\"} | {\"all\":true} | \
    {\"pattern\":\"regex\"}, each with \"soft\":true if wanted\n\
    PURGE /         with X-Magento-Tags-Pattern, as Magento sends it\n";

/// What the API shows and steers.
pub trait Node: Send + Sync + 'static {
    /// Purges; counts it.
    fn purge(&self, order: PurgeOrder)
    -> impl Future<Output = Result<Purged, PurgeRefused>> + Send;

    /// Is this server ready?
    fn readiness(&self) -> Readiness;

    /// Appends the metrics in Prometheus' text format.
    fn metrics(&self, out: &mut String);

    /// The statistics, as JSON.
    fn stats(&self) -> serde_json::Value;

    /// The settings in force: token and networks may change by a reload.
    fn settings(&self) -> Arc<Settings>;
}

/// The control listener's handler.
pub struct Control<N> {
    node: Arc<N>,
}

/// Why a request is refused; each variant is one status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// 404
    #[error("there is no such path; GET / lists what is there")]
    UnknownPath,
    /// 405
    #[error("this path takes {allowed}")]
    Method {
        /// As the Allow field lists them.
        allowed: &'static str,
    },
    /// 401: control.token is set and the request has none or a wrong one.
    #[error("{0}")]
    Token(&'static str),
    /// 403: not from `purge.allow`.
    #[error("{0}")]
    Forbidden(&'static str),
    /// 405, as Magento's VCL answers a PURGE from outside the list.
    #[error("{0}")]
    PurgeNotAllowed(&'static str),
    /// 415
    #[error("the content must be JSON, with Content-Type: application/json")]
    MediaType,
    /// 413
    #[error("the content is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// 400
    #[error("{0}")]
    Bad(String),
}

impl<N: Node> Control<N> {
    /// A handler for this node.
    pub fn new(node: Arc<N>) -> Self {
        Self { node }
    }

    async fn answer(&self, request: Request) -> Result<Response, ControlError> {
        if request.method.as_str() == "PURGE" {
            return self.purge_as_magento(&request).await;
        }
        match request.path() {
            b"/purge" => self.purge_by_json(request).await,
            path => {
                let response = self.show(path)?;
                match request.method {
                    Method::GET => Ok(response),
                    Method::HEAD => Ok(answer::without_content(response)),
                    _ => Err(ControlError::Method { allowed: "GET, HEAD" }),
                }
            }
        }
    }

    fn show(&self, path: &[u8]) -> Result<Response, ControlError> {
        match path {
            b"/" => Ok(answer::text("text/plain; charset=utf-8", INDEX.to_owned())),
            b"/live" => Ok(answer::json(StatusCode::OK, &serde_json::json!({ "live": true }))),
            b"/ready" => {
                let readiness = self.node.readiness();
                let status = if readiness.ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                Ok(answer::json(status, &readiness.to_json()))
            }
            b"/metrics" => {
                let mut out = String::new();
                self.node.metrics(&mut out);
                Ok(answer::text("text/plain; version=0.0.4; charset=utf-8", out))
            }
            b"/stats" => Ok(answer::json(StatusCode::OK, &self.node.stats())),
            _ => Err(ControlError::UnknownPath),
        }
    }

    async fn purge_by_json(&self, request: Request) -> Result<Response, ControlError> {
        if request.method != Method::POST {
            return Err(ControlError::Method { allowed: "POST, PURGE" });
        }
        let right = access::for_json(&self.node.settings(), &request)?;
        if !purge::is_json(&request.fields) {
            return Err(ControlError::MediaType);
        }
        let content = request.body.collect(BODY_MAX_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge { limit } => ControlError::TooLarge { limit },
            other => ControlError::Bad(other.to_string()),
        })?;
        let order = PurgeOrder::from_json(&content).map_err(ControlError::Bad)?;
        self.carry_out(right, vec![order]).await
    }

    async fn purge_as_magento(&self, request: &Request) -> Result<Response, ControlError> {
        let settings = self.node.settings();
        let right = access::for_magento(&settings, request)?;
        let orders = PurgeOrder::from_magento(request, settings.purge.without_pattern)
            .map_err(ControlError::Bad)?;
        self.carry_out(right, orders).await
    }

    async fn carry_out(
        &self,
        _right: PurgeRight,
        orders: Vec<PurgeOrder>,
    ) -> Result<Response, ControlError> {
        let mut soft = false;
        let mut all = Purged::default();
        // One after the other, so the last has the highest number.
        for order in orders {
            soft = order.soft;
            let purged = self
                .node
                .purge(order)
                .await
                .map_err(|PurgeRefused::Pattern(what)| ControlError::Bad(what))?;
            all.purged = all.purged.saturating_add(purged.purged);
            all.number = purged.number;
        }
        let (purged, number) = (all.purged, all.number);
        let body = serde_json::json!({ "purged": purged, "number": number, "soft": soft });
        Ok(answer::json(StatusCode::OK, &body))
    }
}

impl<N: Node> Responder for Control<N> {
    async fn respond(&self, request: Request) -> Response {
        let head = request.method == Method::HEAD;
        match self.answer(request).await {
            Ok(response) => response,
            Err(error) if head => answer::without_content(answer::error(&error)),
            Err(error) => answer::error(&error),
        }
    }
}

#[cfg(test)]
mod tests;
