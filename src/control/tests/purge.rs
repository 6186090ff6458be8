use std::net::IpAddr;

use super::*;
use crate::body::channel;
use crate::settings::PurgeWithoutPattern;

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
