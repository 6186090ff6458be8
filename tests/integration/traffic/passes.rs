//! Who has solved the challenge has limits of its own.

use std::time::Duration;

use parvis::tokens::{Purpose, Signer};

use super::super::challenge::{unix_seconds, worked_from};
use super::super::support::Parvis;
use super::super::support::dns::Dns;
use super::super::support::process::wait_until;
use super::HTML;
use super::php_time::slow_origin;

#[test]
fn an_impostor_who_has_solved_the_challenge_gets_no_more_than_a_bot_that_proves_nothing() {
    let origin = slow_origin();
    let dns = Dns::start(&["--host-record=host.example,203.0.113.4"]);
    let parvis = Parvis::before_http(origin.port)
        .with("bots.resolvers", &format!("[\"{}\"]", dns.address()))
        .with("traffic.secret", "\"a secret of all nodes\"")
        .with("challenge.difficulty", "4")
        .start();
    let pass = |network| {
        let signer = Signer::new(b"a secret of all nodes");
        let pass = worked_from(network, &signer, Purpose::Challenge, unix_seconds());
        format!("parvis_pass={pass}")
    };
    let (here, elsewhere) = (pass([203, 0, 113]), pass([198, 51, 100]));
    let googlebot =
        ("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");
    let ask = |target: &str, cookie: &str| {
        let address = ("X-Forwarded-For", "203.0.113.4");
        parvis.get(target, &[HTML, googlebot, address, ("Cookie", cookie)])
    };
    let is_challenged = |cookie| ask("/product.html", cookie).text().contains("data-puzzle");
    wait_until("DNS to convict it", Duration::from_secs(10), || is_challenged("a=b"));
    assert!(is_challenged(&elsewhere), "another network's pass");
    assert!(!is_challenged(&here));
    let combined = ask("/women.html?color=1&size=1", &here);
    assert_eq!((combined.status, combined.cache_status()), (429, "parvis; detail=rule-stored"));
    let through: usize = std::thread::scope(|scope| {
        let crawl = |thread: usize| {
            let is_given = |at: &usize| ask(&format!("/{thread}/{at}.html"), &here).status == 200;
            (0..60).filter(is_given).count()
        };
        let all = (0..6).map(|thread| scope.spawn(move || crawl(thread)));
        all.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("asked")).sum()
    });
    assert!((40..300).contains(&through), "half of a worker: {through} of 360");
}
