//! Which class a request is of, and where that is to be seen.

use super::*;

const CUBOT: &str = "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36";
const PLACE_ORDER: &[u8] =
    b"{\"operationName\":\"placeOrder\",\"query\":\"mutation placeOrder($id: \
    String!) { placeOrder(input: {cart_id: $id}) { order { order_number } } }\"}";
const PRODUCTS: &[u8] = b"{\"query\":\"{ products(search: \\\"bag\\\") { items { sku } } }\"}";

/// What the access log says of the request for this; `None`: its line has no class.
fn logged(parvis: &Parvis, target: &str) -> Option<String> {
    let mut line = None;
    wait_until("the log", Duration::from_secs(10), || {
        let log = parvis.access_log();
        line = log.lines().find(|line| line.contains(target)).map(str::to_owned);
        line.is_some()
    });
    let line: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
    line["class"].as_str().map(str::to_owned)
}

#[test]
fn a_phone_whose_name_looks_like_a_bots_is_none_and_nobody_is_one_once_it_has_a_session() {
    let php = Php::with_front_controller("work.php", 2);
    let parvis = before(&php, 2).start();
    let agent = ("User-Agent", CUBOT);
    let class = |target: &str, headers: &[(&str, &str)]| {
        assert_eq!(parvis.get(target, headers).status, 200);
        logged(&parvis, target)
    };
    assert_eq!(class("/customer/phone", &[agent]).as_deref(), Some("account"));
    let session = ("Cookie", "form_key=1; PHPSESSID=im2tov5730esfpirp7tijom7dv");
    assert_eq!(class("/customer/phone-again", &[agent, session]).as_deref(), Some("account"));
    let agent = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Robot/3 Firefox/140.0");
    assert_eq!(class("/customer/new", &[agent]).as_deref(), Some("bots"));
    assert_eq!(class("/customer/known", &[agent, session]).as_deref(), Some("account"));
    assert_eq!(class("/wishlist/x", &[]).as_deref(), Some("account"));
}

#[test]
fn an_order_by_graphql_is_of_the_checkouts_class() {
    let php = Php::with_front_controller("work.php", 2);
    let parvis = before(&php, 2).start();
    let class = |target: &str, content: &[u8]| {
        let kind = [("Content-Type", "application/json")];
        assert_eq!(parvis.ask("POST", target, &kind, content).status, 200);
        logged(&parvis, target)
    };
    assert_eq!(class("/graphql?order", PLACE_ORDER).as_deref(), Some("graphql-checkout"));
    assert_eq!(class("/graphql?query", PRODUCTS).as_deref(), Some("account"));
}

#[test]
fn a_class_is_to_be_seen_where_php_was_asked() {
    let php = Php::with_front_controller("work.php", 2);
    let parvis = before(&php, 2).with("site.debug_header", "\"always\"").start();
    let first = parvis.get("/page?color=1", &[]);
    assert_eq!(first.header("x-parvis-class"), Some("filters"));
    wait_until("storing", Duration::from_secs(5), || {
        let again = parvis.get("/page?color=1", &[]);
        again.is_hit() && again.header("x-parvis-class").is_none()
    });
    let quiet = before(&php, 2).start();
    assert_eq!(quiet.get("/page?color=2", &[]).header("x-parvis-class"), None);
    assert_eq!(logged(&quiet, "color=2").as_deref(), Some("filters"));
}

#[test]
fn other_classes_hold_from_a_sighup_on_also_for_who_waits() {
    let php = Php::with_front_controller("work.php", 1);
    let parvis =
        before(&php, 1).with("site.debug_header", "\"always\"").with_toml(TWO_CLASSES).start();
    assert_eq!(parvis.get("/page", &[]).header("x-parvis-class"), Some("pages"));
    let busy = occupy(&parvis, 3_000);
    let waits = queue(&parvis, "/checkout/waits", 1);
    let text = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let without = text.replace("name = \"checkout\"", "name = \"orders\"");
    let other = without.replace("name = \"pages\"", "name = \"rest\"");
    std::fs::write(parvis.config_path(), other).expect("written");
    parvis.process.signal("HUP");
    wait_until("the new classes", Duration::from_secs(20), || {
        parvis.metric("parvis_admission_waiting{class=\"rest\"}").is_some()
    });
    assert!(!busy.is_finished());
    assert_eq!(parvis.metric("parvis_admission_waiting{class=\"checkout\"}"), Some(1.0));
    assert_eq!(busy.join().expect("no panic").status, 200);
    assert_eq!(waits.join().expect("no panic").header("x-parvis-class"), Some("checkout"));
    assert_eq!(parvis.get("/checkout/x", &[]).header("x-parvis-class"), Some("orders"));
}
