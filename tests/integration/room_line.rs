//! The line of the waiting room that nodes share, over a real Redis.

#[path = "../../src/waiting_room/arrivals.rs"]
mod arrivals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parvis::clock::Clock;
use parvis::fields::Fields;
use parvis::redis_pool;
use parvis::settings::{self, Rate, RoomMode, WaitingRoom};
use parvis::tokens::Signer;
use parvis::waiting_room::line::{Line, Rules, Step, Ticket};
use parvis::waiting_room::shared::{Entered, Shared};
use parvis::waiting_room::{Answer, Holds, Place, Room, Standing, TICK};
use tokio::runtime::Runtime;

use crate::support::chance::mixed;
use crate::support::redis::Redis;
use arrivals::out_of_order;

const PREFIX: &str = "parvis";
const EPOCH: u64 = 5;

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

fn connected(redis: &Redis, clock: &Clock) -> Arc<redis_pool::Redis> {
    let reconnect_max = Duration::from_millis(100);
    let settings = settings::Redis { reconnect_max, ..redis.settings() };
    Arc::new(redis_pool::Redis::new(&settings, clock).expect("settings that can be used"))
}

/// The room of a node.
fn room(redis: &Redis, settings: &WaitingRoom, clock: &Clock) -> Room {
    // That of the connection goes on by itself.
    let shared = connected(redis, &Clock::system());
    let signer = Arc::new(Signer::new(b"a secret of the fleet"));
    Room::new(settings, signer, Some((shared, PREFIX)), clock.clone())
}

fn settings(visitors_max: u64) -> WaitingRoom {
    WaitingRoom {
        mode: RoomMode::On,
        visitors_max,
        admit: Rate { amount: 600, each: Duration::from_mins(1) },
        ..WaitingRoom::default()
    }
}

/// What the same happening did to the line of a node and to that in Redis, which must be equal.
async fn happens(line: &mut Line, shared: &Shared, rules: &Rules, seed: u64, now_ms: u64) {
    let any = |salt: u64, most: u64| mixed(seed.wrapping_mul(1_000).wrapping_add(salt)) % most;
    let at = (EPOCH, now_ms);
    match any(0, 4) {
        0 => {
            let may_enter = any(1, 3) == 0;
            let drawn = shared.draw(may_enter, rules, at).await.expect("Redis");
            assert_eq!(drawn, line.draw(may_enter, rules, now_ms), "{seed}");
        }
        1 => {
            let ticket = Ticket { epoch: EPOCH, number: 1 + any(1, 40) };
            let entered = shared.enter(ticket, rules, at).await.expect("Redis");
            let is_inside = line.enter(ticket, rules, now_ms);
            assert_eq!(entered == Entered::Inside, is_inside, "{seed}");
        }
        _ => {
            let stayed = |at| Ticket { epoch: EPOCH - any(at, 2), number: 1 + any(at + 1, 40) };
            let step = Step {
                seen: (0..any(2, 6)).map(|at| 1 + any(10 + at, 40)).collect(),
                stayed: (0..any(3, 3) / 2).map(|at| stayed(20 + 2 * at)).collect(),
                grants: any(4, 4),
            };
            let told = shared.step(&step, (EPOCH, Duration::ZERO), rules, at).await.expect("Redis");
            assert_eq!(told.taken, line.step(&step, rules, now_ms), "{seed}");
            assert_eq!(told.glance, line.glance(), "{seed}");
        }
    }
}

#[test]
fn the_line_in_redis_does_what_that_of_a_node_does() {
    let redis = Redis::start();
    runtime().block_on(async {
        for game in 0..10 {
            redis.ask(&["FLUSHALL"]);
            let shared = Shared::new(connected(&redis, &Clock::system()), PREFIX);
            let mut line = Line::new(EPOCH, 0);
            let rules = Rules {
                visitors_max: game % 5 * 3,
                hold_ms: 20_000,
                idle_ms: 60_000,
                absent_ms: 10_000,
                waiting_max: 5 + game % 3 * 10,
            };
            let mut now_ms = 1_000_000;
            for happening in 0..400 {
                let seed = game * 10_000 + happening;
                now_ms += mixed(seed) % 3_000;
                happens(&mut line, &shared, &rules, seed, now_ms).await;
            }
        }
    });
}

const VISITORS: usize = 10_000;
const VISITORS_MAX: u64 = 300;
const STAY_MS: u64 = 30_000;

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Places are not kept: a hundredth of looks comes without one.
    Places,
    /// Places inside are not counted.
    Budget,
}

/// What a rush on two nodes came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Visitors by the order of their arrival, in the order in which they came in.
    entered: Vec<usize>,
    inside_max: u64,
}

#[derive(Clone, Copy)]
enum Visitor {
    Waits(Option<Place>),
    Inside,
}

/// Ten thousand visitors come to two nodes within ten seconds, each look to either; every tenth goes away at once. Ends after
/// `minutes`, or when all have been inside.
async fn rush(redis: &Redis, without: Without, minutes: u64) -> Outcome {
    let visitors_max = if without == Without::Budget { 0 } else { VISITORS_MAX };
    // Places inside outlive the way in by five seconds.
    let idle = Duration::from_millis(STAY_MS - 5_000);
    let settings = WaitingRoom { idle, hold: Duration::from_mins(1), ..settings(visitors_max) };
    let clock = Clock::manual();
    let nodes = [0, 1].map(|_| room(redis, &settings, &clock).by_its_own_clock());
    let (mut outcome, mut inside) = (Outcome::default(), 0);
    let mut visitors = vec![Visitor::Waits(None); VISITORS];
    let mut at: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for visitor in 0..VISITORS {
        at.entry(1 + visitor as u64).or_default().push(visitor);
    }
    let ticks_ms = TICK.as_millis() as u64;
    for now_ms in 1..minutes * 60_000 {
        clock.advance(Duration::from_millis(1));
        for visitor in at.remove(&now_ms).unwrap_or_default() {
            let Visitor::Waits(place) = visitors[visitor] else {
                inside -= 1;
                continue;
            };
            let seed = now_ms.wrapping_mul(31) ^ visitor as u64;
            let is_lost = without == Without::Places && mixed(seed).is_multiple_of(100);
            let node = &nodes[(mixed(seed ^ 7) % 2) as usize];
            match node.ask(place.filter(|_| !is_lost)).await {
                Answer::Enter { .. } => {
                    outcome.entered.push(visitor);
                    inside += 1;
                    visitors[visitor] = Visitor::Inside;
                    at.entry(now_ms + STAY_MS).or_default().push(visitor);
                }
                Answer::Wait(_) if visitor % 10 == 9 => {}
                Answer::Wait(Standing { cookie, refresh, .. }) => {
                    let kept = cookie.map(|cookie| place_of(node, &cookie));
                    visitors[visitor] = Visitor::Waits(kept.or(place));
                    let jitter = mixed(!seed) % 1_000;
                    at.entry(now_ms + refresh.as_millis() as u64 + jitter)
                        .or_default()
                        .push(visitor);
                }
            }
            outcome.inside_max = outcome.inside_max.max(inside);
        }
        if now_ms.is_multiple_of(ticks_ms) {
            for node in &nodes {
                node.tick(false, 2).await;
                outcome.inside_max = outcome.inside_max.max(node.status().inside);
            }
        }
        if at.is_empty() {
            break;
        }
    }
    outcome
}

fn place_of(node: &Room, set_cookie: &str) -> Place {
    match node.judge(&brought(set_cookie), unix_seconds()) {
        Holds::Place(place) => place,
        other => panic!("{other:?}"),
    }
}

/// What a browser sends that was given this.
fn brought(set_cookie: &str) -> Fields {
    [("Cookie", set_cookie.split(';').next().unwrap_or_default())].into()
}

fn unix_seconds() -> u64 {
    let now = Clock::system().wall().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.expect("later than 1970").as_secs()
}

#[test]
fn ten_thousand_visitors_come_in_by_their_order_on_two_nodes_and_never_too_many_are_inside() {
    let redis = Redis::start();
    let outcome = runtime().block_on(rush(&redis, Without::Nothing, 60));
    let (entered, order) = (outcome.entered.len(), out_of_order(&outcome.entered));
    println!("{entered} came in, {order:.4} out of order, at most {} inside", outcome.inside_max);
    assert!(entered >= VISITORS * 9 / 10, "{entered}");
    assert!(order <= 0.02, "{order}");
    assert!(outcome.inside_max <= VISITORS_MAX, "{}", outcome.inside_max);
}

#[test]
fn the_rush_notices_where_places_are_not_kept() {
    let redis = Redis::start();
    let outcome = runtime().block_on(rush(&redis, Without::Places, 8));
    assert!(out_of_order(&outcome.entered) > 0.02, "{}", out_of_order(&outcome.entered));
}

#[test]
fn the_rush_notices_where_nobody_counts_who_is_inside() {
    let redis = Redis::start();
    let outcome = runtime().block_on(rush(&redis, Without::Budget, 2));
    assert!(outcome.inside_max > VISITORS_MAX, "{}", outcome.inside_max);
}

/// A visitor who waits at a node, which has ticked since.
async fn draws(node: &Room) -> Place {
    match node.ask(None).await {
        Answer::Wait(Standing { cookie: Some(cookie), .. }) => place_of(node, &cookie),
        other => panic!("{other:?}"),
    }
}

/// Ticks until the visitor may come in at this node.
async fn waits_for_turn(node: &Room, place: Place) {
    for _ in 0..200 {
        node.tick(false, 1).await;
        if matches!(node.ask(Some(place)).await, Answer::Enter { .. }) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is never its turn");
}

#[test]
fn a_place_holds_on_the_other_node() {
    let redis = Redis::start();
    runtime().block_on(async {
        let clock = Clock::system();
        let nodes = [0, 1].map(|_| room(&redis, &settings(1), &clock));
        let (first, second) = (draws(&nodes[0]).await, draws(&nodes[1]).await);
        nodes[0].tick(false, 1).await;
        match nodes[0].ask(Some(second)).await {
            Answer::Wait(standing) => {
                assert_eq!((standing.ahead, standing.cookie), (Some(1), None));
            }
            Answer::Enter { .. } => panic!("the other one was first"),
        }
        waits_for_turn(&nodes[1], first).await;
        assert!(matches!(nodes[0].ask(Some(second)).await, Answer::Wait(_)));
    });
}

#[test]
fn a_node_goes_on_alone_while_redis_is_away_and_places_hold() {
    let mut redis = Redis::start();
    runtime().block_on(async {
        let clock = Clock::system();
        let node = room(&redis, &settings(2), &clock);
        let (first, second) = (draws(&node).await, draws(&node).await);
        node.tick(false, 1).await;
        waits_for_turn(&node, first).await;
        redis.kill();
        node.tick(false, 1).await;
        assert!(node.status().is_alone);
        let Answer::Wait(standing) = node.ask(None).await else { panic!("who waits is first") };
        assert_eq!(standing.ahead, None, "nobody knows");
        waits_for_turn(&node, second).await;
        for _ in 0..50 {
            node.tick(false, 1).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(node.status().inside, 2, "who was inside before counts");
        redis.start_again();
        while node.status().is_alone {
            node.tick(false, 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.status().inside >= 1, "whom it let in alone is told of");
    });
}

#[test]
fn whose_line_was_lost_draws_a_new_ticket() {
    let redis = Redis::start();
    runtime().block_on(async {
        let clock = Clock::system();
        let node = room(&redis, &settings(1), &clock);
        let old = draws(&node).await;
        node.tick(false, 1).await;
        redis.ask(&["FLUSHALL"]);
        node.tick(false, 1).await;
        let Answer::Wait(Standing { cookie: Some(cookie), .. }) = node.ask(Some(old)).await else {
            panic!("the line is new")
        };
        let new = place_of(&node, &cookie);
        waits_for_turn(&node, new).await;
    });
}

#[test]
fn what_a_command_switches_is_switched_on_all_nodes_and_stays() {
    let redis = Redis::start();
    runtime().block_on(async {
        let clock = Clock::system();
        let off = WaitingRoom { mode: RoomMode::Off, ..settings(1) };
        let nodes = [0, 1].map(|_| room(&redis, &off, &clock));
        nodes[0].switch(Some(true)).await;
        for _ in 0..4 {
            nodes[1].tick(false, 2).await;
        }
        assert!(nodes[1].is_on());
        let later = room(&redis, &off, &clock);
        later.tick(false, 2).await;
        assert_eq!(later.status().causes, ["command"]);
        nodes[1].switch(None).await;
        for _ in 0..4 {
            nodes[0].tick(false, 2).await;
        }
        assert!(!nodes[0].is_on());
    });
}

#[test]
fn a_rush_on_one_node_opens_the_room_on_all() {
    let redis = Redis::start();
    runtime().block_on(async {
        let clock = Clock::manual();
        let after = Duration::from_secs(2);
        let auto = WaitingRoom { mode: RoomMode::Auto, after, ..settings(1) };
        let nodes = [0, 1].map(|_| room(&redis, &auto, &clock));
        for _ in 0..9 {
            clock.advance(TICK);
            nodes[0].tick(true, 2).await;
            nodes[1].tick(false, 2).await;
        }
        assert!(nodes[0].is_on() && nodes[1].is_on());
    });
}
