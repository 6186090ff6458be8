//! The admin's API: health, metrics, statistics, purge.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | this list, as text |
//! | `GET /live` | 200 while the process answers |
//! | `GET /ready` | 200, or 503 with the causes, as JSON |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /stats` | the same for people, as JSON |
//! | `GET /fleet` | the nodes of the fleet, as JSON; 404 for a single node |
//! | `GET /sessions` | sessions on their way between PHP and Redis, as JSON; 404 where they do not pass through here |
//! | `GET /objects` | the object cache: memory, keys, hits, by database; 404 where this server keeps none |
//! | `GET /objects/top?database=0&count=20` | its largest keys and tags; without `database` of all |
//! | `GET /objects/key?database=0&key=zc:k:ID` | one key, what stands under it cut to 2 KiB without `&full` |
//! | `POST /purge` | purges what the JSON names |
//! | `PURGE` any path | as Magento sends it |
//! | `POST /drain` | 202: takes this server out and ends it, as SIGTERM does |
//! | `GET /drain` | how far that is |
//! | `GET /maintenance` | whether the shop is being worked on, and what says so, as JSON |
//! | `POST /maintenance` | switches that by `{"on":true}`, until the process ends |
//! | `GET /room` | the waiting room: whether visitors wait, why, and how many, as JSON |
//! | `POST /room` | `{"on":true}` or `{"on":false}` by hand, `{"on":null}` as the settings have it again, `{"clear":true}` has all draw anew |
//! | `POST /restart` | starts a new process that takes over; a line of JSON for each step |
//!
//! A purge answers 202 while it is not in the fleet's log yet, and with `X-Parvis-Wait: fleet` while
//! a live node has not applied it.
//!
//! HEAD works where GET does. Errors are `{"error":"..."}` and name what is wrong.

mod access;
mod answer;
mod depart;
mod maintenance;
mod objects;
mod purge;
mod room;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::sync::mpsc;

use crate::body::BodyError;
use crate::exchange::{Request, Responder, Response};
use crate::fleet::{Overview, Reach, Wait};
use crate::objects::Objects;
use crate::observe::Readiness;
use crate::sessions::figures::SessionFigures;
use crate::settings::Settings;
use crate::waiting_room;
use access::PurgeRight;

pub use depart::Departure;
pub use purge::{PurgeOrder, PurgeRefused, Purged, Scope};

/// Bytes of a purge's JSON.
const BODY_MAX_BYTES: u64 = 1 << 20;

const INDEX: &str = "Parvis' control listener\n\n\
    GET   /live     200 while the process answers\n\
    GET   /ready    200, or 503 with the causes\n\
    GET   /metrics  for Prometheus\n\
    GET   /stats    the same for people\n\
    GET   /fleet    the nodes of the fleet, and the log\n\
    GET   /sessions clients, waits, and which paths hold locks\n\
    GET   /objects  the object cache; /objects/top and /objects/key?key=NAME show keys\n\
    POST  /purge    {\"tags\":[\"cat_p_1\"]} | {\"url\":\"https://shop/x\"} | {\"all\":true} | \
    {\"pattern\":\"regex\"}, each with \"soft\":true if wanted\n\
    PURGE /         with X-Magento-Tags-Pattern, as Magento sends it\n\
    POST  /drain    not ready, serves on, then ends; GET says how far it is\n\
    GET   /maintenance  is the shop being worked on? POST {\"on\":true} switches it\n\
    GET   /room     who waits? POST {\"on\":true} switches it, null leaves it to the settings\n\
    POST  /restart  starts a new process that takes over; a line for each step\n";

/// What the API shows and steers.
pub trait Node: Send + Sync + 'static {
    /// Purges; counts it.
    fn purge(
        &self,
        order: PurgeOrder,
        wait: Wait,
    ) -> impl Future<Output = Result<Purged, PurgeRefused>> + Send;

    /// Who is there; `None`: this is a single node.
    fn fleet(&self) -> impl Future<Output = Option<Overview>> + Send;

    /// Sessions on their way; `None`: they do not pass through this server.
    fn sessions(&self) -> Option<SessionFigures>;

    /// The object cache; `None`: this server keeps none.
    fn objects(&self) -> Option<Arc<Objects>>;

    /// Takes this server out and ends it, as SIGTERM does; once.
    fn drain(&self);

    /// How far that is.
    fn departure(&self) -> Departure;

    /// What says that the shop is being worked on; empty: it is not.
    fn maintenance(&self) -> Vec<&'static str>;

    /// Switches that.
    fn set_maintenance(&self, is_on: bool);

    /// The waiting room.
    fn room(&self) -> waiting_room::Status;

    /// Switches it by hand; `None`: as the settings have it again.
    fn switch_room(&self, is_on: Option<bool>) -> impl Future<Output = ()> + Send;

    /// Empties its line: who waits draws anew.
    fn clear_room(&self) -> impl Future<Output = ()> + Send;

    /// Starts a process that takes over; gives a line of JSON for each step, or why not.
    fn restart(&self) -> Result<mpsc::Receiver<Bytes>, String>;

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
    /// 404
    #[error("this is a single node: no [redis] is set")]
    NoFleet,
    /// 404
    #[error("sessions do not pass through this server: sessions.listen is not set")]
    NoSessions,
    /// 404
    #[error("this server keeps no object cache: objects.listen is not set")]
    NoObjects,
    /// 404
    #[error("{0}")]
    NoKey(String),
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
    /// 409: it is under way, or cannot be begun now.
    #[error("{0}")]
    Conflict(String),
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
            b"/drain" if request.method == Method::POST => depart::drain(&*self.node, &request),
            b"/restart" => depart::restart(&*self.node, &request),
            b"/maintenance" if request.method == Method::POST => {
                maintenance::switch(&*self.node, request).await
            }
            b"/room" if request.method == Method::POST => room::order(&*self.node, request).await,
            path => {
                let response = match path {
                    b"/fleet" => self.show_fleet().await?,
                    path if path.starts_with(b"/objects") => {
                        objects::show(&*self.node, &request, path).await?
                    }
                    path => self.show(path)?,
                };
                match request.method {
                    Method::GET => Ok(response),
                    Method::HEAD => Ok(answer::without_content(response)),
                    _ if matches!(path, b"/drain" | b"/maintenance" | b"/room") => {
                        Err(ControlError::Method { allowed: "GET, HEAD, POST" })
                    }
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
                let mut json = readiness.to_json();
                if !self.node.maintenance().is_empty() {
                    json["maintenance"] = true.into();
                }
                Ok(answer::json(status, &json))
            }
            b"/metrics" => {
                let mut out = String::new();
                self.node.metrics(&mut out);
                Ok(answer::text("text/plain; version=0.0.4; charset=utf-8", out))
            }
            b"/maintenance" => Ok(maintenance::shown(&*self.node)),
            b"/room" => Ok(room::shown(&*self.node)),
            b"/drain" => Ok(answer::json(StatusCode::OK, &self.node.departure().to_json())),
            b"/sessions" => {
                let figures = self.node.sessions().ok_or(ControlError::NoSessions)?;
                let json = serde_json::to_value(figures).unwrap_or_default();
                Ok(answer::json(StatusCode::OK, &json))
            }
            b"/stats" => Ok(answer::json(StatusCode::OK, &self.node.stats())),
            _ => Err(ControlError::UnknownPath),
        }
    }

    async fn show_fleet(&self) -> Result<Response, ControlError> {
        let overview = self.node.fleet().await.ok_or(ControlError::NoFleet)?;
        let json = serde_json::to_value(overview).unwrap_or_default();
        Ok(answer::json(StatusCode::OK, &json))
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
        let wait = purge::wait_of(&request.fields);
        self.carry_out(right, vec![order], wait).await
    }

    async fn purge_as_magento(&self, request: &Request) -> Result<Response, ControlError> {
        let settings = self.node.settings();
        let right = access::for_magento(&settings, request)?;
        let orders = PurgeOrder::from_magento(request, settings.purge.without_pattern)
            .map_err(ControlError::Bad)?;
        self.carry_out(right, orders, purge::wait_of(&request.fields)).await
    }

    async fn carry_out(
        &self,
        _right: PurgeRight,
        orders: Vec<PurgeOrder>,
        wait: Wait,
    ) -> Result<Response, ControlError> {
        let mut soft = false;
        let mut all = Purged { purged: 0, number: 0, reach: Reach::Alone };
        // One after the other, so the last has the highest number, and is the last in the log.
        for order in orders {
            soft = order.soft;
            let purged = self
                .node
                .purge(order, wait)
                .await
                .map_err(|PurgeRefused::Pattern(what)| ControlError::Bad(what))?;
            all.purged = all.purged.saturating_add(purged.purged);
            all.number = purged.number;
            if !all.reach.is_pending() {
                all.reach = purged.reach;
            }
        }
        let (purged, number, reach) = (all.purged, all.number, all.reach);
        let mut body = serde_json::json!({ "purged": purged, "number": number, "soft": soft });
        let status = if reach.is_pending() { StatusCode::ACCEPTED } else { StatusCode::OK };
        if reach != Reach::Alone {
            body["reach"] = reach.word().into();
        }
        if let Reach::Lagging(nodes) = reach {
            body["lagging"] = nodes.into();
        }
        Ok(answer::json(status, &body))
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
