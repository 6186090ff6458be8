//! While the old process finishes, there are two stores: no page comes back from either after its
//! purge was answered.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::client::Client;
use super::super::support::origin::{Origin, page};
use super::super::support::process::wait_until;
use super::Successors;

const PATTERN: (&str, &str) = ("X-Magento-Tags-Pattern", "((^|,)cat_p_1(,|$))");

struct Shop {
    version: Arc<AtomicUsize>,
    parvis: Parvis,
}

impl Shop {
    fn open() -> Self {
        let version = Arc::new(AtomicUsize::new(1));
        let shown = Arc::clone(&version);
        let origin = Origin::start(move |_, stream| {
            let content = format!("version {}", shown.load(Ordering::SeqCst));
            let _ = stream.write_all(&page(&content, "cat_p_1"));
        });
        let parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"20s\"").start();
        Self { version, parvis }
    }

    /// Waits until the page is answered from the store over new connections.
    fn store(&self) {
        wait_until("storing", Duration::from_secs(5), || self.parvis.get("/p", &[]).is_hit());
    }
}

#[test]
fn a_purge_that_the_new_process_answered_is_in_force_on_a_kept_connection_of_the_old_one() {
    let shop = Shop::open();
    shop.store();
    let mut old = Client::connect(shop.parvis.port);
    assert_eq!(old.ask("GET", "/p", &[], b"").text(), "version 1");
    let mut successors = Successors::new();
    successors.restart(&shop.parvis);
    shop.version.store(2, Ordering::SeqCst);
    assert_eq!(shop.parvis.purge_tag("cat_p_1").status, 200);
    assert_eq!(old.ask("GET", "/p", &[], b"").text(), "version 2");
}

#[test]
fn a_purge_on_a_kept_connection_of_the_old_process_is_in_force_on_the_new_one() {
    let shop = Shop::open();
    let mut old = Client::connect(shop.parvis.port);
    assert_eq!(old.ask("GET", "/p", &[], b"").text(), "version 1");
    let mut successors = Successors::new();
    successors.restart(&shop.parvis);
    shop.store();
    assert_eq!(shop.parvis.get("/p", &[]).text(), "version 1");
    shop.version.store(2, Ordering::SeqCst);
    assert_eq!(old.ask("PURGE", "/", &[PATTERN], b"").status, 200);
    assert_eq!(shop.parvis.get("/p", &[]).text(), "version 2");
}
