//! The script of the locks in a real Redis, held to the plain state machine: random steps of six waiters of
//! three processes, of which two are heard, and what PHP writes in between.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parvis::clock::Clock;
use parvis::resp::Value;
use parvis::sessions::lock::{
    Answer, Fields, LockStore, Place, Scripts, Seen, Step, StoreError, Table, Told,
};
use proptest::prelude::*;

use super::lock::{DATABASE, Node, runtime};
use crate::support::redis::Redis;

/// The fields as the plain state machine has them.
#[derive(Default)]
struct Plain {
    lock: i64,
    pid: Bytes,
}

impl Fields for Plain {
    type Error = StoreError;

    fn lock(&mut self) -> Result<Option<i64>, StoreError> {
        Ok(Some(self.lock))
    }

    fn pid(&mut self) -> Result<Bytes, StoreError> {
        Ok(self.pid.clone())
    }

    fn count(&mut self) -> Result<i64, StoreError> {
        self.lock += 1;
        Ok(self.lock)
    }

    fn set_free(&mut self) -> Result<(), StoreError> {
        self.lock = 0;
        Ok(())
    }
}

/// Something that happens to one session.
#[derive(Clone, Debug)]
enum Event {
    Take(usize),
    Now(usize),
    Release(usize),
    /// Who asks, whose lock it is taken for, and the pid that was seen.
    Free(usize, Option<usize>, Option<usize>),
    Leave(usize),
    Own(usize, usize, bool),
    /// PHP writes.
    Sign(usize),
    SetFree,
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    let one = || 0..6_usize;
    prop_oneof![
        6 => one().prop_map(Event::Take),
        1 => one().prop_map(Event::Now),
        2 => one().prop_map(Event::Release),
        2 => (one(), prop::option::of(one()), prop::option::of(one()))
            .prop_map(|(who, owner, pid)| Event::Free(who, owner, pid)),
        2 => one().prop_map(Event::Leave),
        1 => (one(), one(), any::<bool>()).prop_map(|(who, pid, broke)| Event::Own(who, pid, broke)),
        2 => one().prop_map(Event::Sign),
        3 => Just(Event::SetFree),
        1 => Just(Event::Delete),
    ]
}

/// Two of three processes are heard.
fn token(number: usize) -> String {
    format!("process-{}-------:{number}", number % 3)
}

fn pid(number: usize) -> String {
    format!("web|{number}")
}

/// What one of both has said of times, which are of two clocks.
#[derive(Default)]
struct Times {
    /// The turns of waiters.
    turns: [i64; 6],
    /// When the owner had said that it has the lock, as was last seen.
    told: i64,
}

fn step_of(event: &Event, turns: &[i64; 6]) -> Option<Step> {
    Some(match *event {
        Event::Take(who) => Step::Take { token: token(who), turn: turns[who], waiters_max: 4 },
        Event::Now(who) => Step::Now { token: token(who) },
        Event::Release(who) => Step::Release { token: token(who) },
        Event::Free(who, owner, signed) => Step::Free {
            token: token(who),
            owner: owner.map(token).unwrap_or_default(),
            pid: signed.map(|number| Bytes::from(pid(number))),
        },
        Event::Leave(who) => Step::Leave { token: token(who) },
        Event::Own(who, its, broke) => Step::Own { token: token(who), pid: pid(its).into(), broke },
        Event::Sign(_) | Event::SetFree | Event::Delete => return None,
    })
}

/// What is seen of a step's answer besides times: of those, whether the owner has said anew that it has
/// the lock.
fn seen(answer: &Result<Answer, StoreError>, who: &Event, times: &mut Times) -> String {
    let (Ok(Answer::Waits { turn, seen }), Event::Take(who)) = (answer, who) else {
        return format!("{answer:?}");
    };
    times.turns[*who] = *turn;
    let before = std::mem::replace(&mut times.told, seen.told);
    let seen = Seen { told: i64::from(before != seen.told), ..seen.clone() };
    format!("waits for {seen:?}")
}

/// What PHP writes.
async fn write_both(node: &Node, name: &str, event: &Event, plain: &mut Plain) {
    if let Event::Sign(who) = event {
        (plain.lock, plain.pid) = (1, pid(*who).into());
        node.ask(&["HMSET", name, "pid", &pid(*who), "lock", "1"]).await;
    } else if matches!(event, Event::SetFree) {
        plain.lock = 0;
        node.ask(&["HMSET", name, "lock", "0"]).await;
    } else {
        *plain = Plain::default();
        node.ask(&["DEL", name]).await;
    }
}

/// Does the same in a Redis and in the state machine; the first difference.
async fn compare(node: &Node, store: &Scripts, name: &str, events: &[Event]) -> Option<String> {
    let place = Place { database: DATABASE, key: Bytes::copy_from_slice(name.as_bytes()) };
    let (mut table, mut plain, clock) = (Table::default(), Plain::default(), Clock::system());
    let (mut times, mut own_times) = (Times::default(), Times::default());
    let is_heard = |token: &str| !token.starts_with("process-2");
    for (at, event) in events.iter().enumerate() {
        let (mut told, mut does) = (String::new(), String::new());
        if let Some(step) = step_of(event, &times.turns) {
            let own = step_of(event, &own_times.turns).expect("a step");
            let tell = |told: Told| is_heard(told.token());
            let done = table.run((&place, &own), &mut plain, clock.now(), tell, is_heard);
            does = seen(&done, event, &mut own_times);
            told = seen(&store.run(&place, &step).await, event, &mut times);
        } else {
            write_both(node, name, event, &mut plain).await;
        }
        let fields = node.ask(&["HMGET", name, "lock", "pid"]).await;
        let text = |value: &Value| {
            let Value::Bulk(bytes) = value else { return String::new() };
            String::from_utf8_lossy(bytes).into_owned()
        };
        let Value::Array(fields) = fields else { panic!("two fields") };
        let lock = text(&fields[0]).parse().unwrap_or(0);
        let is_same =
            told == does && lock == plain.lock && text(&fields[1]).as_bytes() == plain.pid;
        if !is_same {
            return Some(format!(
                "{at} {event:?}: {told} {fields:?}, not {does} {} {:?}",
                plain.lock, plain.pid
            ));
        }
    }
    None
}

#[test]
fn the_script_does_what_the_plain_state_machine_does() {
    let redis = Redis::start();
    let runtime = runtime();
    let node = runtime.block_on(Node::start(&redis, "one"));
    let store = Scripts::new(node.trunks.clone(), "parvis");
    let _heard = runtime.block_on(async {
        (
            store.listen("process-0-------").await.expect("heard"),
            store.listen("process-1-------").await.expect("heard"),
        )
    });
    let number = std::cell::Cell::new(0);
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in prop::collection::vec(event(), 1..60))| {
        number.set(number.get() + 1);
        let name = format!("sess_{}", number.get());
        let began = Instant::now();
        let difference = runtime.block_on(compare(&node, &store, &name, &events));
        // Who was called and does not come is passed over after 250 ms, which a slow machine may take.
        prop_assume!(difference.is_none() || began.elapsed() < Duration::from_millis(200));
        prop_assert_eq!(difference, None);
    });
}
