//! What visitors see where there is no response, and while the shop is being worked on.

use std::process::Command;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::{self, Reply};
use super::support::parvis::program;
use super::support::php::Php;
use super::support::process::wait_until;

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// Nobody listens at the origin.
fn without_origin() -> super::support::parvis::Builder {
    Parvis::before_http(super::support::process::free_port())
}

#[test]
fn a_visitor_gets_a_page_in_their_language_a_script_json_and_others_a_line() {
    let parvis = without_origin().start();
    let german = parvis.get("/x", &[HTML, ("Accept-Language", "de-AT,de;q=0.9")]);
    assert_eq!((german.status, german.header("content-language")), (502, Some("de")));
    assert!(german.text().contains("<html lang=\"de\">"), "{}", german.text());
    assert_eq!(german.header("cache-control"), Some("no-store"));
    let script = parvis.get("/x", &[HTML, ("X-Requested-With", "XMLHttpRequest")]);
    assert_eq!(script.header("content-type"), Some("application/json"));
    assert!(script.text().contains("\"reason\":\"origin-refused\""), "{}", script.text());
    assert_eq!(parvis.get("/x", &[]).text(), "502 Bad Gateway\n");
}

#[test]
fn the_shops_own_pages_are_read_at_the_start_and_at_sighup() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("written");
    };
    write("502.html", "<p>ours");
    write("b2b.test/502.html", "<p>for business");
    let parvis = without_origin()
        .with("error_pages.directory", &format!("\"{}\"", directory.path().display()))
        .start();
    assert_eq!(parvis.get("/x", &[HTML]).text(), "<p>ours");
    assert_eq!(parvis.get("/x", &[HTML, ("Host", "b2b.test:8080")]).text(), "<p>for business");
    write("502.html", "<p>new");
    assert_eq!(parvis.get("/x", &[HTML]).text(), "<p>ours");
    parvis.process.signal("HUP");
    let is_new = || parvis.get("/x", &[HTML]).text() == "<p>new";
    wait_until("the new page", Duration::from_secs(10), is_new);
    write("unknown.html", "");
    parvis.process.signal("HUP");
    wait_until("a complaint", Duration::from_secs(10), || {
        parvis.stderr().contains("old error pages stay")
    });
    assert!(is_new());
}

fn from(parvis: &Parvis, address: &str) -> Reply {
    parvis.get("/page", &[HTML, ("X-Forwarded-For", address)])
}

/// What the command says.
pub fn command(parvis: &Parvis, order: &str) -> String {
    let config = parvis.config_path();
    let ran = Command::new(program())
        .arg("maintenance")
        .args(order.split(' '))
        .arg("--config")
        .arg(config)
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn in_maintenance_only_those_who_are_allowed_get_the_shop() {
    let php = Php::with_front_controller("work.php", 2);
    php.write("media/logo.txt", b"logo");
    let parvis = Parvis::before_php(&php).with("maintenance.allow", "[\"192.0.2.0/24\"]").start();
    assert_eq!(from(&parvis, "198.51.100.7").status, 200);
    assert_eq!(command(&parvis, "status"), "Maintenance is off.\n");
    assert_eq!(command(&parvis, "on"), "Maintenance is on, by command.\n");
    assert!(command(&parvis, "status --json").contains("\"on\":true"));
    let closed = from(&parvis, "198.51.100.7");
    assert_eq!((closed.status, closed.header("retry-after")), (503, Some("60")));
    assert!(closed.text().contains("right back"), "stored pages, too: {}", closed.text());
    assert_eq!(from(&parvis, "192.0.2.9").status, 200);
    assert_eq!(parvis.get("/media/logo.txt", &[]).text(), "logo");
    let check = parvis.get("/health_check.php", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_ne!(check.status, 503, "the balancer would take the node away: {}", check.text());
    let health = parvis.get("/.parvis/ready", &[]);
    assert_eq!((health.status, health.text().as_str()), (200, "ready, in maintenance\n"));
    assert!(client::get(parvis.control, "/ready", &[]).text().contains("\"maintenance\":true"));
    assert_eq!(command(&parvis, "off"), "Maintenance is off.\n");
    assert_eq!(from(&parvis, "198.51.100.7").status, 200);
}

#[test]
fn in_maintenance_php_makes_no_files_either() {
    let php = Php::with_front_controller("work.php", 2);
    php.write("static/there.css", b"there");
    let parvis = Parvis::before_php(&php).with("maintenance.allow", "[\"192.0.2.0/24\"]").start();
    let get = |target: &str, address: &str| {
        let reply = parvis.get(target, &[HTML, ("X-Forwarded-For", address)]);
        (reply.status, reply.text())
    };
    let (visitor, builder) = ("198.51.100.7", "192.0.2.9");
    let missing = ["/static/frontend/missing.css", "/media/catalog/missing.jpg"];
    for target in missing {
        assert_eq!(get(target, visitor).0, 200, "{target} is made by PHP");
    }
    assert_eq!(command(&parvis, "on"), "Maintenance is on, by command.\n");
    for target in missing {
        let (status, text) = get(target, visitor);
        assert!(status == 503 && text.contains("right back"), "{target} {status} {text}");
        assert_eq!(get(target, builder).0, 200, "{target}");
    }
    assert_eq!(get("/static/there.css", visitor), (200, "there".to_owned()));
}

#[test]
fn a_file_is_a_flag_for_maintenance() {
    let php = Php::with_front_controller("work.php", 2);
    let directory = tempfile::tempdir().expect("a directory");
    let flag = directory.path().join("flag");
    std::fs::write(&flag, "").expect("written");
    let parvis = Parvis::before_php(&php)
        .with("maintenance.flag", &format!("\"{}\"", flag.display()))
        .start();
    let is_open = || from(&parvis, "198.51.100.7").status == 200;
    assert_eq!(parvis.get("/page", &[HTML]).status, 503, "from the first request on, for all");
    std::fs::remove_file(&flag).expect("removed");
    wait_until("the shop", Duration::from_secs(10), is_open);
}
