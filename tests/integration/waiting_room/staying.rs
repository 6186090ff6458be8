//! Who was let in stays in: the way in is renewed on each node, the place is kept, and it counts whatever becomes of the line.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parvis::tokens::{Purpose, Signer};

use super::super::support::process::wait_until;
use super::{EVERYBODY, PATIENCE, SECRET, Shop, Visitor, room, waits};
use crate::support::Parvis;
use crate::support::parvis::Builder;
use crate::support::redis::Redis;

const INSIDE: &str = "{parvis}:room:inside";
const HOUR: u64 = 3_600;
/// Several steps of the line. Too short for one on a slow machine, it shows less, and is never wrong.
const STEPS: Duration = Duration::from_secs(2);

/// A way in: whose ticket it is, and since when it counts, in seconds of Unix.
#[derive(Clone, Copy, Debug)]
struct Way {
    ticket: (u64, u64),
    at_unix: u64,
}

impl Way {
    /// The one that a visitor has, who has shown that cookies come back.
    fn of(visitor: &Visitor) -> Self {
        let token = visitor.cookie("parvis_admitted").expect("a way in");
        let signer = Signer::new(SECRET.as_bytes());
        let payload = signer.open(Purpose::Admitted, token.as_bytes()).expect("its own");
        let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("eight"));
        assert_eq!(payload[24..], [1], "it is proven");
        Self { ticket: (number(0), number(8)), at_unix: number(16) }
    }

    /// As if it was given so many seconds ago.
    fn aged(self, seconds: u64) -> Visitor {
        let ((epoch, number), at_unix) = (self.ticket, now() - seconds);
        let mut payload: Vec<u8> =
            [epoch, number, at_unix].into_iter().flat_map(u64::to_be_bytes).collect();
        payload.push(1);
        let token = Signer::new(SECRET.as_bytes()).sign(Purpose::Admitted, &payload);
        Visitor::with(&[("parvis_admitted", &token)])
    }

    /// As it stands in Redis.
    fn place(self) -> String {
        format!("{}.{}", self.ticket.0, self.ticket.1)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// When a place inside ends, in milliseconds of Unix; 0: it is not there.
fn end_of(redis: &Redis, way: Way) -> u64 {
    redis.ask(&["zscore", INSIDE, &way.place()]).parse().unwrap_or(0)
}

fn inside(redis: &Redis) -> usize {
    redis.ask(&["zcard", INSIDE]).parse().expect("a number")
}

/// With so many places, which last for a day.
fn with_places(builder: Builder, most: usize) -> Parvis {
    builder
        .with("waiting_room.admit", EVERYBODY)
        .with("waiting_room.visitors_max", &most.to_string())
        .with("waiting_room.idle", "\"1day\"")
        .with("waiting_room.hold", "\"1h\"")
        .start()
}

/// A visitor comes in, shows that cookies come back, and is known to be there.
fn comes_in(redis: &Redis, parvis: &Parvis) -> Way {
    let mut visitor = Visitor::default();
    wait_until("the turn", PATIENCE, || !waits(&visitor.opens(parvis, "/")));
    assert_eq!(visitor.opens(parvis, "/").status, 200);
    let way = Way::of(&visitor);
    let idle_ms = (way.at_unix + 24 * HOUR) * 1_000;
    wait_until("the place", PATIENCE, || end_of(redis, way) >= idle_ms);
    way
}

#[test]
fn the_way_in_is_renewed_on_the_other_node_after_a_quarter_of_idle_and_the_place_is_kept() {
    let shop = Shop::start();
    let (one, other) = (with_places(shop.node(), 1), with_places(shop.another("web-2"), 1));
    let way = comes_in(&shop.redis, &one);
    let mut next = Visitor::default();
    assert!(waits(&next.opens(&one, "/")) && waits(&next.opens(&other, "/")));
    let mut visitor = way.aged(5 * HOUR);
    let reply = visitor.opens(&other, "/");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.all("set-cookie").iter().any(|set| set.starts_with("parvis_")), "{reply:?}");
    // The place would end in an hour.
    let soon_ms = (now() + HOUR) * 1_000;
    shop.redis.ask(&["zadd", INSIDE, &soon_ms.to_string(), &way.place()]);
    let before = now();
    let mut visitor = way.aged(7 * HOUR);
    let reply = visitor.opens(&other, "/");
    assert_eq!(reply.status, 200, "{reply:?}");
    let renewed = Way::of(&visitor);
    assert_eq!(renewed.ticket, way.ticket);
    assert!(renewed.at_unix >= before, "{renewed:?}, and it was {before}");
    wait_until("the place", PATIENCE, || end_of(&shop.redis, way) > soon_ms);
    assert!(end_of(&shop.redis, way) >= (before + 24 * HOUR) * 1_000);
    assert_eq!(visitor.opens(&one, "/").status, 200, "it counts on the first node, too");
    assert!(waits(&next.opens(&one, "/")) && waits(&next.opens(&other, "/")));
    assert_eq!(inside(&shop.redis), 1);
}

#[test]
fn a_place_that_nobody_keeps_is_the_next_ones() {
    let shop = Shop::start();
    let (one, other) = (with_places(shop.node(), 1), with_places(shop.another("web-2"), 1));
    let way = comes_in(&shop.redis, &one);
    let mut next = Visitor::default();
    assert!(waits(&next.opens(&other, "/")));
    shop.redis.ask(&["zadd", INSIDE, &((now() - 1) * 1_000).to_string(), &way.place()]);
    wait_until("the turn", PATIENCE, || !waits(&next.opens(&other, "/")));
}

#[test]
fn a_cleared_line_lets_in_no_more_than_there_are_places() {
    let shop = Shop::start();
    let (one, other) = (with_places(shop.node(), 2), with_places(shop.another("web-2"), 2));
    let ways = [comes_in(&shop.redis, &one), comes_in(&shop.redis, &other)];
    let mut next = Visitor::default();
    assert!(waits(&next.opens(&other, "/")));
    room(&one, &["clear"]);
    wait_until("the new line", PATIENCE, || {
        let reply = next.opens(&other, "/");
        assert!(waits(&reply), "{reply:?}");
        reply.header("set-cookie").is_some()
    });
    thread::sleep(STEPS);
    assert!(waits(&next.opens(&one, "/")) && waits(&next.opens(&other, "/")));
    for way in ways {
        assert_eq!(way.aged(HOUR).opens(&other, "/").status, 200, "who is in stays in");
    }
    shop.redis.ask(&["zrem", INSIDE, &ways[0].place()]);
    wait_until("the turn", PATIENCE, || !waits(&next.opens(&other, "/")));
}

#[test]
fn after_redis_was_emptied_who_is_inside_counts_again_once_the_way_in_is_renewed() {
    let shop = Shop::start();
    let (one, other) = (with_places(shop.node(), 2), with_places(shop.another("web-2"), 2));
    let ways = [comes_in(&shop.redis, &one), comes_in(&shop.redis, &other)];
    assert!(waits(&Visitor::default().opens(&one, "/")));
    shop.redis.ask(&["flushall"]);
    // Nobody knows of them yet.
    let newcomers = [comes_in(&shop.redis, &one), comes_in(&shop.redis, &other)];
    for (way, node) in ways.iter().zip([&other, &one]) {
        assert_eq!(way.aged(7 * HOUR).opens(node, "/").status, 200, "who is in stays in");
    }
    wait_until("they are told of", PATIENCE, || inside(&shop.redis) == 4);
    let mut next = Visitor::default();
    assert!(waits(&next.opens(&one, "/")));
    for way in newcomers {
        shop.redis.ask(&["zrem", INSIDE, &way.place()]);
        thread::sleep(STEPS);
        assert!(waits(&next.opens(&other, "/")), "{} are inside", inside(&shop.redis));
    }
    shop.redis.ask(&["zrem", INSIDE, &ways[0].place()]);
    wait_until("the turn", PATIENCE, || !waits(&next.opens(&one, "/")));
}
