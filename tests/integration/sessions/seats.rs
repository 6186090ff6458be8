//! A request waits for a place in PHP while it is its turn in its session: who waits behind it makes it as urgent
//! as they are, and stays behind it. So does who follows its fetch, by what their session says of them.

use std::thread;

use super::queue::{Shop, told};
use crate::peers::PATIENCE;
use crate::support::process::wait_until;

/// A page waits for a shorter time than PHP is busy.
const CLASSES: &str = "[{ name = \"checkout\", rank = 1, paths = [\"/checkout\"] }, \
                       { name = \"pages\", rank = 5, queue_timeout = \"4s\" }]";
const BUSY: &str = "hold=9000";

/// PHP has one place.
fn shop() -> Shop {
    Shop::open(2, &[("origin.concurrency_max", "1"), ("admission.class", CLASSES)])
}

fn metric_is(shop: &Shop, name: &str, value: f64) {
    wait_until(name, PATIENCE, || shop.parvis.metric(name) == Some(value));
}

#[test]
fn a_page_before_a_checkout_of_its_session_waits_as_a_checkout_and_goes_first() {
    let shop = shop();
    thread::scope(|scope| {
        let busy = scope.spawn(|| shop.ask("busy", BUSY));
        metric_is(&shop, "parvis_origin_in_use ", 1.0);
        let page = scope.spawn(|| shop.get("/page", "PHPSESSID=a", "n=1"));
        metric_is(&shop, "parvis_admission_waiting{class=\"pages\"}", 1.0);
        let order = scope.spawn(|| shop.ask("a", "n=2"));
        metric_is(&shop, "parvis_sessions_queued ", 1.0);
        metric_is(&shop, "parvis_admission_waiting{class=\"checkout\"}", 1.0);
        assert_eq!(shop.parvis.metric("parvis_admission_waiting{class=\"pages\"}"), Some(0.0));
        assert!(!busy.is_finished());
        // PHP was busy for longer than a page may wait, and than a request may take to ask for its session's lock.
        assert_eq!(told(&page.join().expect("a reply"))["visits"], 1);
        assert_eq!(told(&order.join().expect("a reply"))["visits"], 2);
        told(&busy.join().expect("a reply"));
    });
}

#[test]
fn a_page_that_nothing_waits_behind_waits_as_a_page() {
    let shop = shop();
    thread::scope(|scope| {
        let busy = scope.spawn(|| shop.ask("busy", BUSY));
        metric_is(&shop, "parvis_origin_in_use ", 1.0);
        assert_eq!(shop.get("/page", "PHPSESSID=a", "n=1").status, 503);
        assert!(!busy.is_finished());
    });
}

const CUSTOMER: &str = r#"customer_base|a:1:{s:11:"customer_id";s:1:"7";}"#;
const BY_VISITOR: &str = "[{ name = \"bots\", rank = 9, user_agents = [\"crawler\"] }, \
                          { name = \"buyers\", rank = 2, visitors = [\"customer\"] }, \
                          { name = \"pages\", rank = 5 }]";

#[test]
fn a_customer_who_follows_a_bots_page_lifts_it_to_the_customers_class() {
    let shop = Shop::open(2, &[("origin.concurrency_max", "1"), ("admission.class", BY_VISITOR)]);
    shop.redis.ask(&["-n", "2", "hset", "sess_customer", "data", CUSTOMER]);
    let page = shop.target("/page", "cacheable=60");
    thread::scope(|scope| {
        let busy = scope.spawn(|| shop.ask("busy", "hold=5000"));
        metric_is(&shop, "parvis_origin_in_use ", 1.0);
        let bot = scope.spawn(|| shop.parvis.get(&page, &[("User-Agent", "a crawler")]));
        metric_is(&shop, "parvis_admission_waiting{class=\"bots\"}", 1.0);
        let customer = scope.spawn(|| shop.parvis.get(&page, &[("Cookie", "PHPSESSID=customer")]));
        metric_is(&shop, "parvis_admission_waiting{class=\"buyers\"}", 1.0);
        assert!(!busy.is_finished());
        for reply in [busy, bot, customer] {
            assert_eq!(reply.join().expect("a reply").status, 200);
        }
    });
}
