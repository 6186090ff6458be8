use super::*;

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
