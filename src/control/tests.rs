use super::*;
use crate::body::Body;
use crate::exchange::{Beside, Connection, Peer};
use crate::fields::Fields;
use crate::observe::{Cause, Phase, State};
use bytes::Bytes;
use http::Version;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

mod depart;
mod objects;
mod purge;
mod room;

#[derive(Default)]
struct Fake {
    orders: Mutex<Vec<PurgeOrder>>,
    state: State,
    settings: Mutex<Settings>,
    steps: Mutex<Option<mpsc::Receiver<Bytes>>>,
    sessions: Mutex<Option<SessionFigures>>,
    objects: Mutex<Option<Arc<Objects>>>,
    room: Mutex<waiting_room::Status>,
}

impl Node for Fake {
    async fn purge(&self, order: PurgeOrder, wait: Wait) -> Result<Purged, PurgeRefused> {
        if order.scope == Scope::Pattern(Bytes::from("(")) {
            return Err(PurgeRefused::Pattern("unclosed group".to_owned()));
        }
        let mut orders = self.orders.lock();
        orders.push(order);
        let reach = match wait {
            Wait::Log => Reach::Alone,
            Wait::Fleet => Reach::Lagging(vec!["web-2".to_owned()]),
        };
        Ok(Purged { purged: 3, number: orders.len() as u64, reach })
    }

    async fn fleet(&self) -> Option<Overview> {
        None
    }

    fn sessions(&self) -> Option<SessionFigures> {
        self.sessions.lock().clone()
    }

    fn objects(&self) -> Option<Arc<Objects>> {
        self.objects.lock().clone()
    }

    fn drain(&self) {
        self.state.enter(Phase::Draining);
    }

    fn departure(&self) -> Departure {
        let phase = self.state.readiness().phase();
        Departure { phase, connections: 3, at_most: Duration::from_millis(39_500) }
    }

    fn maintenance(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn set_maintenance(&self, _is_on: bool) {}

    fn room(&self) -> waiting_room::Status {
        self.room.lock().clone()
    }

    async fn switch_room(&self, is_on: Option<bool>) {
        self.room.lock().by_hand = is_on;
    }

    async fn clear_room(&self) {
        self.room.lock().waiting = 0;
    }

    fn restart(&self) -> Result<mpsc::Receiver<Bytes>, String> {
        self.steps.lock().take().ok_or_else(|| "a restart is under way".to_owned())
    }

    fn readiness(&self) -> Readiness {
        self.state.readiness()
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("parvis_ready 1\n");
    }

    fn stats(&self) -> Value {
        json!({ "hit_ratio": 0.5 })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::new(self.settings.lock().clone())
    }
}

struct Api {
    node: Arc<Fake>,
    control: Control<Fake>,
}

struct Answer {
    status: u16,
    fields: Fields,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{:?}", self.text))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

fn api(token: &str) -> Api {
    let node = Arc::new(Fake::default());
    node.settings.lock().control.token = token.to_owned();
    Api { control: Control::new(Arc::clone(&node)), node }
}

fn request(method: &str, target: &str, fields: &[(&'static str, &str)], body: &str) -> Request {
    let mut list = Fields::new();
    for (name, value) in fields {
        list.push_static(name, (*value).to_owned());
    }
    let peer = Peer::Ip(SocketAddr::from(([127, 0, 0, 1], 4_000)));
    Request {
        method: Method::from_bytes(method.as_bytes()).expect("a method"),
        target: Bytes::from(target.to_owned()),
        authority: Bytes::from("127.0.0.1:6082"),
        version: Version::HTTP_11,
        fields: list,
        body: Body::from(Bytes::from(body.to_owned())),
        connection: Connection { peer, local: None, tls: false },
        beside: Beside::default(),
    }
}

impl Api {
    async fn send(&self, request: Request) -> Answer {
        let response = self.control.respond(request).await;
        let status = response.status.as_u16();
        let body = response.body.collect(1 << 20).await.expect("whole");
        Answer {
            status,
            fields: response.fields.clone(),
            text: String::from_utf8(body.to_vec()).expect("text"),
        }
    }

    async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target, &[], "")).await
    }

    async fn post(&self, fields: &[(&'static str, &str)], body: &str) -> Answer {
        let json = ("Content-Type", "application/json; charset=utf-8");
        let fields: Vec<_> = fields.iter().copied().chain([json]).collect();
        self.send(request("POST", "/purge", &fields, body)).await
    }

    async fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
        body: &str,
    ) -> Answer {
        self.send(request(method, target, fields, body)).await
    }

    fn orders(&self) -> Vec<PurgeOrder> {
        self.node.orders.lock().clone()
    }
}

const ALL: &str = r#"{"all":true}"#;

#[tokio::test]
async fn live_and_ready_say_why_in_json() {
    let api = api("");
    assert_eq!(
        (api.get("/live").await.status, api.get("/live").await.json()["live"] == true),
        (200, true)
    );
    let answer = api.get("/ready").await;
    assert_eq!((answer.status, answer.json()["causes"][0]["cause"] == "starting"), (503, true));
    api.node.state.enter(Phase::Serving);
    let answer = api.get("/ready?x").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ready": true, "causes": [] })));
    api.node.state.raise(Cause::OriginRefused);
    let answer = api.get("/ready").await;
    assert_eq!(
        (answer.status, answer.json()["causes"][0]["cause"] == "origin-refused"),
        (503, true)
    );
    assert_eq!(api.get("/live").await.status, 200, "it lives");
}

#[tokio::test]
async fn metrics_statistics_and_an_index_are_shown() {
    let api = api("secret");
    let metrics = api.get("/metrics").await;
    assert_eq!((metrics.status, metrics.text.as_str()), (200, "parvis_ready 1\n"));
    let media_type = metrics.fields.first_str("Content-Type");
    assert_eq!(media_type, Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(metrics.fields.first_str("Cache-Control"), Some("no-store"));
    assert_eq!(api.get("/stats").await.json()["hit_ratio"], 0.5);
    assert!(api.get("/").await.text.contains("POST  /purge"));
}

#[tokio::test]
async fn head_has_the_head_of_get_without_its_content() {
    let api = api("");
    let get = api.get("/stats").await;
    let head = api.send(request("HEAD", "/stats", &[], "")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.fields.first_str("Content-Length"), Some(&*get.text.len().to_string()));
    let head = api.send(request("HEAD", "/nothing", &[], "")).await;
    assert_eq!((head.status, head.text.as_str()), (404, ""));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_json() {
    let api = api("");
    for path in ["/nothing", "/purge/", "/live/x", "*", ""] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains("GET /"), "{path}");
    }
    let answer = api.get("/purge").await;
    assert_eq!((answer.status, answer.fields.first_str("Allow")), (405, Some("POST, PURGE")));
    let answer = api.send(request("DELETE", "/stats", &[], "")).await;
    assert_eq!((answer.status, answer.fields.first_str("Allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn sessions_are_shown_where_they_pass_through_this_server() {
    let api = api("");
    assert_eq!(api.get("/sessions").await.status, 404);
    *api.node.sessions.lock() = Some(SessionFigures { clients: 7, ..SessionFigures::default() });
    let shown = api.get("/sessions").await;
    assert_eq!((shown.status, &shown.json()["clients"]), (200, &json!(7)));
    assert_eq!(shown.json()["locks"]["held"], 0);
}
