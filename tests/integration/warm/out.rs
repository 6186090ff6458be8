//! A fault of one server makes it not ready; one that many have takes no more than some of them out.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{health, stand_of, wait_until_ready};
use crate::peers::{PATIENCE, Shop};
use crate::support::Parvis;
use crate::support::parvis::Builder;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

/// A node whose origin's socket refuses, until that is repaired.
struct Broken {
    node: Parvis,
    /// Bound by nobody who listens, so that no other test is given the port.
    socket: Socket,
}

impl Broken {
    fn start(builder: impl FnOnce(u16) -> Builder) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("bound");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        let node = builder(address.expect("an address").port())
            .with("health.probe", "\"/health_check.php\"")
            .with("health.refused", "\"300ms\"")
            .with("health.interval", "\"100ms\"")
            .start();
        Self { node, socket }
    }

    /// One of a fleet.
    fn of(shop: &Shop, redis: &Redis, name: &str) -> Self {
        Self::start(|port| {
            shop.node(name, redis).with("origin.http", &format!("\"127.0.0.1:{port}\""))
        })
    }

    /// Somebody listens from now on.
    fn repair(&self) {
        let socket = self.socket.try_clone().expect("open");
        socket.listen(16).expect("it listens");
        let listener: TcpListener = socket.into();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
        });
    }

    fn is_out(&self) -> bool {
        health(&self.node).1 == "not ready: origin-refused"
    }

    fn is_excused(&self) -> bool {
        let (status, line) = health(&self.node);
        status == 200 && line.contains("in spite of origin-refused")
    }

    fn is_well(&self) -> bool {
        health(&self.node) == (200, "ready".to_owned())
    }
}

/// Which of them is out, where that is one.
fn the_one_out(nodes: &[Broken]) -> Option<usize> {
    let out: Vec<_> = (0..nodes.len()).filter(|at| nodes[*at].is_out()).collect();
    (out.len() == 1).then(|| out[0])
}

#[test]
fn a_fault_of_all_three_nodes_takes_one_of_them_out_and_two_say_why_they_are_ready() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let nodes = ["web-1", "web-2", "web-3"].map(|name| Broken::of(&shop, &redis, name));
    let excused = || nodes.iter().filter(|node| node.is_excused()).count();
    wait_until("one to be out", PATIENCE, || the_one_out(&nodes).is_some() && excused() == 2);
    let at = the_one_out(&nodes).expect("one");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!((the_one_out(&nodes), excused()), (Some(at), 2), "it stays so");
    }
    let (out, ready) = (&nodes[at].node, &nodes[(at + 1) % 3].node);
    assert_eq!(ready.metric("parvis_fleet_excused "), Some(1.0));
    assert_eq!(out.metric("parvis_fleet_excused "), Some(0.0));
    assert!(ready.stderr().contains("in spite of a fault"), "{}", ready.stderr());
    let shown = crate::support::client::get(ready.control, "/ready", &[]).text();
    assert!(shown.contains("fleet.out_share") && shown.contains("\"excused\""), "{shown}");
    let [of_out, of_ready] = [at, (at + 1) % 3].map(|at| format!("web-{}", at + 1));
    wait_until("to be shown", PATIENCE, || {
        stand_of(ready, &of_out).as_deref() == Some("out")
            && stand_of(out, &of_ready).as_deref() == Some("faulty")
    });
    // When it works again, one of the others may be out.
    nodes[at].repair();
    wait_until("it to be ready", PATIENCE, || nodes[at].is_well());
    wait_until("another to be out", PATIENCE, || the_one_out(&nodes).is_some());
    nodes.iter().filter(|node| !node.is_well()).for_each(Broken::repair);
    wait_until("all to be ready", PATIENCE, || nodes.iter().all(Broken::is_well));
}

#[test]
fn of_two_nodes_one_may_be_out_and_the_last_stays_ready_whatever_it_has() {
    let (shop, redis) = (Shop::open(), Redis::start());
    let first = Broken::of(&shop, &redis, "web-1");
    wait_until("the fault", PATIENCE, || first.is_excused());
    let second = shop.node("web-2", &redis).start();
    wait_until_ready(&second);
    wait_until("it to be out", PATIENCE, || first.is_out());
    assert_eq!(health(&second).0, 200);
    drop(second);
    wait_until("the last to be ready", PATIENCE, || first.is_excused());
}

#[test]
fn a_node_without_a_fleet_is_not_ready_with_a_fault() {
    let node = Broken::start(|port| Parvis::before_http(port).with("health.refused", "\"300ms\""));
    wait_until("the fault", PATIENCE, || node.is_out());
}

#[test]
fn while_redis_is_away_nothing_that_is_new_takes_a_node_out() {
    let (shop, mut redis) = (Shop::open(), Redis::start());
    let nodes = ["web-1", "web-2"].map(|name| Broken::of(&shop, &redis, name));
    wait_until("one to be out", PATIENCE, || the_one_out(&nodes).is_some());
    let at = the_one_out(&nodes).expect("one");
    redis.kill();
    std::thread::sleep(Duration::from_secs(1));
    assert!(nodes[at].is_out() && nodes[1 - at].is_excused(), "what was decided stays");
    nodes[at].repair();
    wait_until("it to be ready", PATIENCE, || nodes[at].is_well());
    assert!(nodes[1 - at].is_excused(), "nobody knows whether the other may be out");
}
