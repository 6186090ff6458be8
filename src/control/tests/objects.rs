use super::*;

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
