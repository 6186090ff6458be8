//! How Redis is reached: TLS, users, sockets, sentinels; and what is said when it cannot be.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{PATIENCE, Shop, wait_until_current};
use crate::support::process::{Process, free_port, program, wait_until};
use crate::support::redis::Redis;

#[test]
fn a_wrong_password_is_one_line_without_it_and_the_node_goes_on_alone_until_it_is_right() {
    let (shop, redis) = (Shop::open(), Redis::with(&["--requirepass", "right"]));
    let url = format!("redis://:wr0ng-secret@127.0.0.1:{}", redis.port);
    let node = shop.node("web-1", &url).start();
    wait_until("the line", PATIENCE, || node.stderr().contains("refuses the user or the password"));
    assert_eq!(super::version(&node, "/cat_p_1"), 0, "it serves");
    assert_eq!(node.purge_tag("cat_p_1").status, 202);
    std::thread::sleep(Duration::from_secs(1));
    let said = node.stderr();
    assert_eq!(said.matches("Redis cannot be used").count(), 1, "{said}");
    assert!(!said.contains("wr0ng-secret"), "{said}");
    wait_until("ready, alone", PATIENCE, || node.get("/.parvis/ready", &[]).status == 200);
    redis.ask(&["config", "set", "requirepass", "wr0ng-secret"]);
    wait_until_current(&node);
    assert!(node.stderr().contains("Redis answers again"));
}

#[test]
fn where_redis_is_required_a_node_is_ready_only_with_it() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    redis.kill();
    let node = shop.node("web-1", &redis.url()).with("redis.require", "true").start();
    wait_until("not ready", PATIENCE, || node.get("/.parvis/ready", &[]).status == 503);
    redis.start_again();
    wait_until("ready", PATIENCE, || node.get("/.parvis/ready", &[]).status == 200);
}

#[test]
fn a_user_of_its_own_with_the_least_rights_is_enough() {
    let (shop, redis) = (Shop::open(), Redis::start());
    // As the document says it.
    let line = include_str!("../../../docs/operations.md")
        .lines()
        .find(|line| line.starts_with("ACL SETUSER parvis"))
        .expect("the document has the rights");
    let acl = line.replace(">PASSWORD", ">secret");
    redis.ask(&acl.split_whitespace().collect::<Vec<_>>());
    redis.ask(&["acl", "setuser", "default", "off"]);
    let node = shop
        .node("web-1", &redis.url())
        .with("redis.user", "\"parvis\"")
        .with("redis.password", "\"secret\"")
        .with("waiting_room.mode", "\"on\"")
        .start();
    wait_until_current(&node);
    let browser = [
        ("User-Agent", "Mozilla/5.0"),
        ("Accept", "text/html"),
        ("X-Forwarded-For", "203.0.113.9"),
    ];
    node.get("/cat_p_1", &browser);
    node.ask("POST", "/customer/account/loginPost", &browser, b"a=1");
    let figure = |name: &str| node.metric(name).expect("it is there");
    assert!(figure("parvis_traffic_budgets_asked_total") >= 1.0);
    assert!(figure("parvis_traffic_budgets_alone_total") < 1.0);
    wait_until("the fleet's line", PATIENCE, || figure("parvis_waiting_room_alone") < 1.0);
    assert!(figure("parvis_waiting_room_unanswered_total") < 1.0);
    assert!(!node.stderr().contains("does not do what it was asked"), "{}", node.stderr());
    let waiting = [("X-Magento-Tags-Pattern", ".*"), ("X-Parvis-Wait", "fleet")];
    assert_eq!(node.ask("PURGE", "/", &waiting, b"").header("x-parvis-reach"), Some("fleet"));
}

#[test]
fn a_right_that_its_user_lacks_is_told_once_with_what_to_do() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let node = shop.node("web-1", &redis.url()).with("waiting_room.mode", "\"on\"").start();
    wait_until_current(&node);
    redis.ask(&["acl", "setuser", "default", "-zadd", "-zcard", "-zrange", "-zremrangebyscore"]);
    let line = "rights that docs/operations.md lists?";
    wait_until("the line", PATIENCE, || node.stderr().contains(line));
    // Some ticks of the waiting room, and questions that are answered in between.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(node.stderr().matches(line).count(), 1, "{}", node.stderr());
    assert_eq!(node.purge_tag("cat_p_1").status, 200);
}

#[test]
fn a_unix_socket_and_a_database_of_its_own_work() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let url = format!("unix://{}?db=3", redis.socket().display());
    let node = shop.node("web-1", &url).start();
    wait_until_current(&node);
    assert_eq!(node.purge_tag("cat_p_1").status, 200);
    assert_eq!(redis.ask(&["-n", "3", "xlen", "{parvis}:log"]), "1");
}

fn write_certificates(directory: &Path) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let authority_certificate = authority.self_signed(&authority_key).expect("signed");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let server = rcgen::CertificateParams::new(names).expect("parameters");
    let server = server.signed_by(&key, &issuer).expect("signed");
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).expect("written");
    };
    write("ca.pem", authority_certificate.pem());
    write("server.pem", server.pem());
    write("server.key", key.serialize_pem());
}

#[test]
fn tls_with_an_authority_of_its_own_works_and_without_it_is_refused() {
    let shop = Shop::open();
    let redis = Redis::prepared(|directory| {
        write_certificates(directory);
        let file = |name: &str| directory.join(name).display().to_string();
        [
            ["--tls-port", "TLS-PORT"],
            ["--tls-cert-file", &file("server.pem")],
            ["--tls-key-file", &file("server.key")],
            ["--tls-ca-cert-file", &file("ca.pem")],
            ["--tls-auth-clients", "no"],
        ]
        .iter()
        .flatten()
        .map(|argument| (*argument).to_owned())
        .collect()
    });
    let authority = format!("\"{}\"", redis.directory().join("ca.pem").display());
    let node = shop.node("web-1", &redis.url()).with("redis.authority", &authority).start();
    wait_until_current(&node);
    assert_eq!(node.purge_tag("cat_p_1").status, 200);
    let stranger = shop.node("web-2", &redis.url()).start();
    wait_until("the line", PATIENCE, || stranger.stderr().contains("cannot connect to"));
    assert!(stranger.stderr().contains("certificate"), "{}", stranger.stderr());
}

#[test]
fn sentinels_name_the_master_and_the_one_after_a_failover() {
    let (shop, mut master) = (Shop::open(), Redis::start());
    let port = master.port.to_string();
    let replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let directory = tempfile::tempdir().expect("a directory");
    let sentinel = free_port();
    let file = directory.path().join("sentinel.conf");
    let text = format!(
        "port {sentinel}\nbind 127.0.0.1\ndir {}\nsentinel monitor shop 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 2000\n",
        directory.path().display()
    );
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new(program("redis-server"));
    command.arg(&file).arg("--sentinel");
    let _sentinel = Process::start(&mut command, &directory.path().join("log"));
    wait_until("the sentinel", PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", sentinel)).is_ok()
    });
    let node = shop
        .node("web-1", "redis://ignored")
        .with("redis.sentinels", &format!("[\"127.0.0.1:{sentinel}\"]"))
        .with("redis.master", "\"shop\"")
        .start();
    wait_until_current(&node);
    assert_eq!(node.purge_tag("cat_p_1").status, 200);
    wait_until("the replica", PATIENCE, || replica.orders() == ["1 hard tags cat_p_1"]);
    // A sentinel knows a replica once it has asked the master about it.
    wait_until("the sentinel to see it", Duration::from_secs(30), || {
        let output = Command::new(program("redis-cli"))
            .args(["-p", &sentinel.to_string(), "sentinel", "replicas", "shop"])
            .output()
            .expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).contains("master-link-status\nok")
    });
    master.kill();
    wait_until("the failover", Duration::from_secs(60), || node.purge_tag("cat_p_2").status == 200);
    assert!(replica.orders().contains(&"1 hard tags cat_p_2".to_owned()));
}
