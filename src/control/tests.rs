use super::*;
use crate::body::{Body, channel};
use crate::exchange::{Beside, Connection, Peer};
use crate::fields::Fields;
use crate::observe::{Cause, Phase, State};
use crate::settings::PurgeWithoutPattern;
use bytes::Bytes;
use http::Version;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
async fn each_kind_of_purge_is_carried_out_and_says_what_it_reached() {
    let api = api("");
    let url = |authority: &str, target: &str| Scope::Url {
        authority: Bytes::from(authority.to_owned()),
        target: Bytes::from(target.to_owned()),
    };
    let tags =
        |tags: &[&'static str]| Scope::Tags(tags.iter().map(|tag| Bytes::from(*tag)).collect());
    for (body, scope, soft) in [
        (r#"{"tags":["cat_p_1","cms_b"]}"#, tags(&["cat_p_1", "cms_b"]), false),
        (r#"{"url":"https://shop.example:8443/x?a=1"}"#, url("shop.example:8443", "/x?a=1"), false),
        (r#"{"url":"http://shop.example"}"#, url("shop.example", "/"), false),
        (r#"{"soft":true,"all":true}"#, Scope::All, true),
        (r#"{"pattern":"cat_.*","soft":false}"#, Scope::Pattern(Bytes::from("cat_.*")), false),
    ] {
        let answer = api.post(&[], body).await;
        assert_eq!(answer.status, 200, "{body}");
        let number = api.orders().len();
        assert_eq!(answer.json(), json!({ "purged": 3, "number": number, "soft": soft }));
        assert_eq!(api.orders().last(), Some(&PurgeOrder { scope, soft }), "{body}");
    }
}

#[tokio::test]
async fn wrong_json_is_answered_by_what_is_wrong() {
    let api = api("");
    for (body, wanted) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "no object"),
        (r#"[["a"],null,null,null,false]"#, "no object"),
        ("{}", "name one of"),
        (r#"{"soft":true}"#, "name one of"),
        (r#"{"tags":["a"],"all":true}"#, "name one of"),
        (r#"{"tag":["a"]}"#, "unknown field `tag`"),
        (r#"{"tags":"a"}"#, "expected a sequence"),
        (r#"{"tags":[]}"#, "\"tags\" is empty"),
        (r#"{"tags":["a,b"]}"#, "tags[0] is no tag"),
        (r#"{"tags":["a",""]}"#, "tags[1] is no tag"),
        (r#"{"all":true,"all":true}"#, "duplicate field"),
        (r#"{"all":false}"#, "\"all\" must be true"),
        (r#"{"all":true,"soft":1}"#, "expected a boolean"),
        (r#"{"pattern":""}"#, "\"pattern\" is empty"),
        (r#"{"pattern":"("}"#, "unclosed group"),
        (r#"{"url":"/x"}"#, "https://shop.example/path"),
        (r#"{"url":"ftp://shop/x"}"#, "no scheme"),
        (r#"{"url":"https://a@shop/x"}"#, "a user"),
        (r#"{"url":"https://"}"#, "https://shop.example/path"),
        (r#"{"all":true}{"all":true}"#, "trailing characters"),
    ] {
        let answer = api.post(&[], body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.error().contains(wanted), "{body}: {}", answer.error());
    }
    assert_eq!(api.orders(), []);
}

#[tokio::test]
async fn content_that_is_too_large_cut_off_or_no_json_is_refused() {
    let api = api("");
    let large = format!("{{\"pattern\":\"{}\"}}", "a".repeat(1 << 20));
    let answer = api.post(&[], &large).await;
    assert_eq!((answer.status, answer.error().contains("1048576 bytes")), (413, true));

    let (mut sender, body) = channel(1 << 10, None);
    sender.send(Bytes::from("{\"all\":")).await.expect("open");
    drop(sender);
    let json = [("Content-Type", "application/json")];
    let answer = api.send(Request { body, ..request("POST", "/purge", &json, "") }).await;
    assert_eq!((answer.status, answer.error().contains("cut off")), (400, true));

    for fields in [&[][..], &[("Content-Type", "text/plain")]] {
        let answer = api.send(request("POST", "/purge", fields, ALL)).await;
        assert_eq!((answer.status, answer.error().contains("application/json")), (415, true));
    }
    assert_eq!(api.orders(), []);
}

#[tokio::test]
async fn a_purge_without_the_token_or_with_a_wrong_one_is_401() {
    let api = api("correct horse");
    for fields in [
        &[][..],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer wrong horse1")],
        &[("Authorization", "Bearer correct hors")],
        &[("Authorization", "Bearer correct horse battery")],
        &[("Authorization", "Basic correct horse")],
        &[("Authorization", "Bearer correct horse"), ("Authorization", "Bearer correct horse")],
        &[("X-Token", "correct horse")],
    ] {
        let answer = api.post(fields, ALL).await;
        assert_eq!(answer.status, 401, "{fields:?}");
        assert_eq!(answer.fields.first_str("WWW-Authenticate"), Some("Bearer"));
        assert!(!answer.error().contains("horse"), "the token is not told");
    }
    assert_eq!(api.orders(), []);
}

#[tokio::test]
async fn a_purge_with_the_token_is_carried_out_from_anywhere_and_again_when_replayed() {
    let api = api("correct horse");
    for scheme in ["Bearer", "bearer"] {
        let authorization = format!("{scheme} correct horse");
        let fields = [
            ("Authorization", authorization.as_str()),
            ("Content-Type", "application/json"),
            ("X-Forwarded-For", "203.0.113.9"),
        ];
        let mut from_afar = request("POST", "/purge", &fields, ALL);
        from_afar.connection.peer = Peer::Ip(SocketAddr::from(([203, 0, 113, 9], 1)));
        assert_eq!(api.send(from_afar).await.status, 200);
    }
    assert_eq!(api.orders().len(), 2, "a replay purges once more, which harms nothing");
}

#[tokio::test]
async fn without_a_token_only_purge_allow_may_purge() {
    let api = api("");
    let magento = [("X-Magento-Tags-Pattern", ".*"), ("Content-Type", "application/json")];
    let from = |method: &str, address: &str| {
        let mut request = request(method, "/purge", &magento, ALL);
        let address: IpAddr = address.parse().expect("valid");
        request.connection.peer = Peer::Ip(SocketAddr::from((address, 1)));
        request
    };
    for address in ["203.0.113.9", "10.0.0.1", "2001:db8::1"] {
        let answer = api.send(from("POST", address)).await;
        assert_eq!((answer.status, answer.error().contains("purge.allow")), (403, true));
        assert_eq!(api.send(from("PURGE", address)).await.status, 405, "as the VCL answers");
    }
    assert_eq!(api.orders(), []);
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(api.send(from("POST", address)).await.status, 200);
        assert_eq!(api.send(from("PURGE", address)).await.status, 200);
    }
    let mut unix = request("POST", "/purge", &magento, ALL);
    unix.connection.peer = Peer::Unix;
    assert_eq!(api.send(unix).await.status, 200);
}

#[tokio::test]
async fn a_purge_that_a_proxy_carried_here_is_refused() {
    let api = api("");
    for name in ["X-Forwarded-For", "forwarded", "X-Real-IP"] {
        assert_eq!(api.post(&[(name, "127.0.0.1")], ALL).await.status, 403, "{name}");
        let fields = [(name, "127.0.0.1"), ("X-Magento-Tags-Pattern", ".*")];
        assert_eq!(api.send(request("PURGE", "/", &fields, "")).await.status, 405, "{name}");
    }
    assert_eq!(api.orders(), []);
}

#[tokio::test]
async fn a_purge_by_a_page_in_a_browser_needs_the_token() {
    let origin = ("Origin", "http://rebound.example");
    let answer = api("").post(&[origin], ALL).await;
    assert_eq!((answer.status, answer.error().contains("browser")), (403, true));
    let token = ("Authorization", "Bearer correct horse");
    assert_eq!(api("correct horse").post(&[origin, token], ALL).await.status, 200);
}

#[tokio::test]
async fn magentos_purge_needs_no_token_but_a_wrong_one_is_refused() {
    let api = api("correct horse");
    let pattern = ("X-Magento-Tags-Pattern", "((^|,)cat_p_1(,|$))");
    assert_eq!(api.send(request("PURGE", "/", &[pattern], "")).await.status, 200);
    let wrong = [pattern, ("Authorization", "Bearer wrong")];
    assert_eq!(api.send(request("PURGE", "/", &wrong, "")).await.status, 401);
    let mut from_afar =
        request("PURGE", "/", &[pattern, ("Authorization", "Bearer correct horse")], "");
    from_afar.connection.peer = Peer::Ip(SocketAddr::from(([203, 0, 113, 9], 1)));
    assert_eq!(api.send(from_afar).await.status, 200);
    let scope = Scope::Pattern(Bytes::from("((^|,)cat_p_1(,|$))"));
    let order = PurgeOrder { scope, soft: false };
    assert_eq!(api.orders(), [order.clone(), order]);
}

#[tokio::test]
async fn magentos_purge_takes_patterns_pools_and_softness() {
    let api = api("");
    let fields =
        [("X-Magento-Tags-Pattern", "a"), ("X-Pool", "blue"), ("X-Magento-Purge-Soft", "1")];
    let answer = api.send(request("PURGE", "/", &fields, "")).await;
    assert_eq!(answer.json(), json!({ "purged": 6, "number": 2, "soft": true }));
    let scopes: Vec<_> = api.orders().into_iter().map(|order| order.scope).collect();
    assert_eq!(scopes, [Scope::Pattern(Bytes::from("a")), Scope::Pool(Bytes::from("blue"))]);
}

#[tokio::test]
async fn a_purge_without_a_pattern_is_400_or_purges_the_url_where_a_setting_says_so() {
    let api = api("");
    for fields in [&[][..], &[("X-Magento-Tags-Pattern", "")]] {
        let answer = api.send(request("PURGE", "/p", fields, "")).await;
        assert_eq!((answer.status, answer.error().contains("X-Magento-Tags-Pattern")), (400, true));
    }
    api.node.settings.lock().purge.without_pattern = PurgeWithoutPattern::Url;
    assert_eq!(api.send(request("PURGE", "/p?a", &[], "")).await.status, 200);
    let scope =
        Scope::Url { authority: Bytes::from("127.0.0.1:6082"), target: Bytes::from("/p?a") };
    assert_eq!(api.orders(), [PurgeOrder { scope, soft: false }]);
}

#[tokio::test]
async fn a_purge_that_waits_for_the_fleet_names_who_lags() {
    let api = api("");
    let answer = api.post(&[("X-Parvis-Wait", "fleet")], ALL).await;
    assert_eq!((answer.status, answer.json()["reach"] == "lagging"), (202, true));
    assert_eq!(answer.json()["lagging"], json!(["web-2"]));
    assert_eq!(api.post(&[], ALL).await.json().get("reach"), None, "a single node has none");
    assert_eq!(api.get("/fleet").await.status, 404);
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

#[tokio::test]
async fn a_drain_begins_by_post_and_shows_how_far_it_is() {
    let api = api("");
    api.node.state.enter(Phase::Serving);
    let seen = api.ask("GET", "/drain", &[], "").await;
    assert_eq!(seen.json(), json!({"phase": "serving", "connections": 3, "seconds_max": 40.0}));
    let begun = api.ask("POST", "/drain", &[], "").await;
    assert_eq!((begun.status, &begun.json()["phase"]), (202, &json!("draining")));
    assert_eq!(api.ask("POST", "/drain", &[], "").await.status, 202, "once more is no error");
    assert_eq!(api.ask("DELETE", "/drain", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_restart_tells_each_step_and_a_second_one_is_a_conflict() {
    let api = api("");
    let (sender, steps) = mpsc::channel(4);
    *api.node.steps.lock() = Some(steps);
    assert_eq!(api.ask("GET", "/restart", &[], "").await.status, 405);
    for line in ["{\"step\":\"a\"}\n", "{\"done\":true,\"process\":7}\n"] {
        sender.send(Bytes::from(line)).await.expect("room");
    }
    drop(sender);
    let told = api.ask("POST", "/restart", &[], "").await;
    assert_eq!(told.status, 200);
    assert_eq!(told.text, "{\"step\":\"a\"}\n{\"done\":true,\"process\":7}\n");
    let second = api.ask("POST", "/restart", &[], "").await;
    assert_eq!((second.status, second.error().as_str()), (409, "a restart is under way"));
}

#[tokio::test]
async fn the_object_cache_is_shown_and_its_content_to_this_machine_or_the_token_alone() {
    let api = api("");
    let absent = api.get("/objects").await;
    assert_eq!((absent.status, absent.error().contains("objects.listen")), (404, true));
    let settings = crate::settings::Objects { databases: 4, ..Default::default() };
    let objects = Arc::new(Objects::new(&settings, crate::clock::Clock::manual(), 1));
    *api.node.objects.lock() = Some(objects);
    let shown = api.get("/objects").await;
    assert_eq!((shown.status, &shown.json()["limit_bytes"]), (200, &json!(256 << 20)));
    assert_eq!(
        api.get("/objects/top?database=3").await.json(),
        json!({ "values": [], "sets": [] })
    );
    for (path, status, word) in [
        ("/objects/top?database=4", 400, "0 to 3"),
        ("/objects/top?count=0", 400, "count must be 1 to 1000"),
        ("/objects/top?databse=1", 400, "known are database, count"),
        ("/objects/key", 400, "key=NAME"),
        ("/objects/key?key=a&key=b", 400, "there twice"),
        ("/objects/key?key=a%20b", 404, "there is no key a b in database 0"),
        ("/objects/key?key=a&database=-1", 400, "database must be a number"),
        ("/objects/other", 404, "no such path"),
    ] {
        let refused = api.get(path).await;
        assert_eq!(refused.status, status, "{path}");
        assert!(refused.error().contains(word), "{path}: {}", refused.error());
    }
    for path in ["/objects/top", "/objects/key?key=a"] {
        let mut from_afar = request("GET", path, &[], "");
        from_afar.connection.peer = Peer::Ip(SocketAddr::from(([10, 0, 0, 9], 4_000)));
        assert_eq!(api.control.respond(from_afar).await.status, 403, "{path}");
    }
    assert_eq!(self::api("right").get("/objects").await.status, 404, "numbers are no secret");
}

#[tokio::test]
async fn only_this_machine_or_the_token_takes_a_server_out() {
    let other = Peer::Ip(SocketAddr::from(([10, 0, 0, 9], 4_000)));
    for path in ["/drain", "/restart"] {
        let open = api("");
        open.node.settings.lock().purge.allow =
            ["0.0.0.0/0".parse().expect("a network")].into_iter().collect();
        let mut from_afar = request("POST", path, &[], "");
        from_afar.connection.peer = other;
        assert_eq!(open.control.respond(from_afar).await.status, 403, "purge.allow is not enough");
        for field in [("X-Forwarded-For", "127.0.0.1"), ("Origin", "http://evil.example")] {
            assert_eq!(open.ask("POST", path, &[field], "").await.status, 403);
        }
        let closed = api("right");
        assert_eq!(closed.ask("POST", path, &[], "").await.status, 401);
        let wrong = [("Authorization", "Bearer wrong")];
        assert_eq!(closed.ask("POST", path, &wrong, "").await.status, 401);
        assert_eq!(closed.node.state.readiness().phase(), Phase::Starting, "nothing was begun");
    }
}
