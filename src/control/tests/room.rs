use serde_json::Value;

use super::api;

#[tokio::test]
async fn the_waiting_room_is_switched_by_hand_and_left_to_the_settings_again() {
    const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
    let api = api("");
    for (order, by_hand) in [
        ("{\"on\":true}", Value::Bool(true)),
        ("{\"on\":false}", Value::Bool(false)),
        ("{\"on\":null}", Value::Null),
    ] {
        let answer = api.ask("POST", "/room", JSON, order).await;
        assert_eq!((answer.status, &answer.json()["by_hand"]), (200, &by_hand), "{order}");
    }
    api.node.room.lock().waiting = 7;
    assert_eq!(api.ask("GET", "/room", &[], "").await.json()["waiting"], 7);
    let answer = api.ask("POST", "/room", JSON, "{\"clear\":true}").await;
    assert_eq!(answer.json()["waiting"], 0);
    for wrong in ["{}", "{\"on\":1}", "{\"clear\":false}", "{\"on\":true,\"clear\":true}", "on"] {
        assert_eq!(api.ask("POST", "/room", JSON, wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(api.ask("POST", "/room", &[], "{\"on\":true}").await.status, 415);
    assert_eq!(api.ask("PUT", "/room", &[], "").await.status, 405);
}
