//! Locks under made-up faults: lost messages, lost connections, a Redis that forgets what stands beside
//! sessions, clients and processes that are killed, PHP that talks to the Redis itself. Whatever comes,
//! nobody has a lock beside another but by PHP's own rule, and nobody is held longer than is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::step::{Answer, Boxed, Hears, LockStore, Place, Step, StoreError};
use super::table::{Fields, Table, Told};
use super::{Bounds, LockClient, Locks, Standing, Written};
use crate::clock::{Clock, Moment};
use crate::random::chance::Chance;
use crate::redis_pool::RedisError;
use crate::sessions::gateway::BackendError;

const PROCESSES: [&str; 3] = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"];
const HOSTS: [&str; 3] = ["web1", "web2", "web3"];
/// The longest that a step takes there and back, in milliseconds.
const LATENCY_MILLISECONDS: u64 = 8;

fn bounds() -> Bounds {
    Bounds::of(&crate::settings::Sessions::default())
}

/// In a thousand.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Messages that are lost.
    lost: u64,
    /// Steps that fail before they are done, or whose answer is lost.
    failed: u64,
    /// Clients that die at any one point.
    killed: u64,
    /// Milliseconds after which some process or connection breaks, or the Redis forgets; 0: never.
    upset_each: u64,
    /// Clients that talk to the Redis themselves.
    direct: u64,
    /// Clients that have the lock for so long that others break it.
    slow: u64,
    /// Whether locks are freed without a look at whose they are.
    blind: bool,
}

#[derive(Default)]
struct Hash {
    lock: i64,
    pid: Bytes,
}

impl Fields for &mut Hash {
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

#[derive(Default)]
struct Redis {
    sessions: BTreeMap<Bytes, Hash>,
    table: Table,
    heard_by: BTreeMap<String, mpsc::UnboundedSender<Bytes>>,
    /// Who believes that it has a lock.
    holders: BTreeMap<Bytes, Vec<u64>>,
    /// When one last broke a lock by PHP's own rule.
    broken: BTreeMap<Bytes, Moment>,
    /// In the order in which the lock was asked for, and given.
    asked: Vec<String>,
    given: Vec<String>,
}

struct World {
    redis: Mutex<Redis>,
    random: Mutex<Chance>,
    clock: Clock,
    faults: Faults,
    dead: Mutex<Vec<String>>,
}

impl World {
    fn random(&self, below: u64) -> u64 {
        (self.random.lock().number() >> 33) % below
    }

    fn happens(&self, in_a_thousand: u64) -> bool {
        self.random(1_000) < in_a_thousand
    }

    async fn pause(&self, milliseconds: u64) {
        sleep(Duration::from_millis(self.random(milliseconds) + 1)).await;
    }

    fn is_dead(&self, process: &str) -> bool {
        self.dead.lock().iter().any(|dead| dead == process)
    }

    fn step(&self, place: &Place, step: &Step) -> Result<Answer, StoreError> {
        let mut redis = self.redis.lock();
        let Redis { sessions, table, heard_by, asked, given, .. } = &mut *redis;
        let mut hash = sessions.entry(place.key.clone()).or_default();
        if self.faults.blind && matches!(step, Step::Free { .. }) {
            return hash.set_free().map(|()| Answer::Freed);
        }
        let tell = |told: Told| match heard_by.get(&told.token()[..16]) {
            Some(heard) if self.happens(self.faults.lost) => !heard.is_closed(),
            Some(heard) => heard.send(told.message()).is_ok(),
            None => false,
        };
        let lives =
            |token: &str| heard_by.get(&token[..16]).is_some_and(|heard| !heard.is_closed());
        let answer = table.run((place, step), &mut hash, self.clock.now(), tell, lives);
        if let Step::Take { token, .. } = step {
            if !asked.contains(token) {
                asked.push(token.clone());
            }
            if answer == Ok(Answer::Counted(1)) {
                given.push(token.clone());
            }
        }
        answer
    }

    /// PHP's rule goes by the pid, which one that breaks a lock writes a while later; who has taken it in
    /// between hears of that a while later, too.
    fn is_just_broken(&self, redis: &Redis, key: &Bytes) -> bool {
        let breakers_see = Duration::from_millis(3 * LATENCY_MILLISECONDS);
        let broken = redis.broken.get(key).copied();
        broken.is_some_and(|at| self.clock.now().since(at) <= breakers_see)
    }

    fn got(&self, key: &Bytes, client: u64) {
        let mut redis = self.redis.lock();
        let is_broken = self.is_just_broken(&redis, key);
        let holders = redis.holders.entry(key.clone()).or_default();
        assert!(is_broken || holders.is_empty(), "{client} has the lock beside {holders:?}");
        holders.push(client);
    }

    fn lost(&self, key: &Bytes, client: u64) {
        let mut redis = self.redis.lock();
        redis.holders.entry(key.clone()).or_default().retain(|holder| *holder != client);
    }
}

/// The Redis, as one process sees it.
struct Store {
    world: Arc<World>,
    process: String,
}

impl LockStore for Store {
    fn run<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Boxed<'a, Result<Answer, StoreError>> {
        Box::pin(async move {
            let (world, away) =
                (&self.world, || StoreError::Away(BackendError::Lost(RedisError::Unexpected)));
            world.pause(LATENCY_MILLISECONDS / 2).await;
            if world.is_dead(&self.process) {
                // Whoever asks is dead, too.
                return std::future::pending().await;
            }
            if world.happens(world.faults.failed) {
                return Err(away());
            }
            let answer = world.step(place, step);
            world.pause(LATENCY_MILLISECONDS / 2).await;
            if world.happens(world.faults.failed) { Err(away()) } else { answer }
        })
    }

    fn count<'a>(&'a self, place: &'a Place) -> Boxed<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let mut redis = self.world.redis.lock();
            let mut hash = redis.sessions.entry(place.key.clone()).or_default();
            (&mut hash).count()
        })
    }

    fn listen<'a>(&'a self, process: &'a str) -> Boxed<'a, Result<Box<dyn Hears>, StoreError>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::unbounded_channel();
            self.world.redis.lock().heard_by.insert(process.to_owned(), sender);
            let hears: Box<dyn Hears> = Box::new(Ear(receiver));
            Ok(hears)
        })
    }
}

struct Ear(mpsc::UnboundedReceiver<Bytes>);

impl Hears for Ear {
    fn next(&mut self) -> Boxed<'_, Option<Bytes>> {
        Box::pin(self.0.recv())
    }
}

/// How PHP's session handler asks for the lock.
enum Door {
    Gateway(Box<LockClient>),
    Direct,
}

impl Door {
    async fn take(&mut self, world: &World, key: &Bytes) -> Result<i64, BackendError> {
        match self {
            Self::Gateway(client) => {
                let began = world.clock.now();
                let answer = client.take(2, key).await;
                let held = world.clock.now().since(began);
                // A lost answer counts as the connection's timeout, which is not of the lock.
                let most = bounds().wait_max + Duration::from_millis(30 * LATENCY_MILLISECONDS);
                assert!(held <= most, "held for {held:?}");
                answer
            }
            Self::Direct => {
                let mut redis = world.redis.lock();
                let mut hash = redis.sessions.entry(key.clone()).or_default();
                Ok((&mut hash).count()?)
            }
        }
    }

    /// A write of PHP's: what is set free is free before the gateway hears of it.
    fn wrote(&mut self, key: &Bytes, written: Written) {
        if let Self::Gateway(client) = self {
            client.wrote(2, key, written);
        }
    }
}

/// One request of PHP, by php-redis-session-abstract's rules: ten tries, half a second apart, then the
/// lock is broken where its owner has not changed. `None`: it died.
async fn request(
    world: &World,
    mut door: Door,
    key: &Bytes,
    pid: Bytes,
    number: u64,
) -> Option<()> {
    const BREAK_AFTER: usize = 10;
    let (mut tries, mut old_pid) = (0, None);
    loop {
        let count = door.take(world, key).await.ok()?;
        let own_pid = || world.redis.lock().sessions[key].pid.clone();
        let pid_now = (count != 1 && tries + 1 >= BREAK_AFTER).then(own_pid);
        if count == 1 {
            world.got(key, number);
            break;
        }
        if tries >= BREAK_AFTER && old_pid == pid_now {
            let mut redis = world.redis.lock();
            redis.holders.insert(key.clone(), vec![number]);
            redis.broken.insert(key.clone(), world.clock.now());
            break;
        }
        tries += 1;
        old_pid = pid_now;
        if tries > 100 || world.happens(world.faults.killed) {
            return None;
        }
        sleep(Duration::from_millis(500)).await;
    }
    let has = Has { world, key, number };
    world.pause(LATENCY_MILLISECONDS).await;
    if world.happens(world.faults.killed) {
        return None;
    }
    {
        let mut redis = world.redis.lock();
        if world.is_just_broken(&redis, key) {
            // Of two that break it at once, the one has it who signs last.
            redis.holders.insert(key.clone(), vec![number]);
        }
        let hash = redis.sessions.entry(key.clone()).or_default();
        (hash.pid, hash.lock) = (pid.clone(), 1);
    }
    door.wrote(key, Written { pid: Some(pid.clone()), lock: Some(1), deleted: false });
    world.pause(if world.happens(world.faults.slow) { 20_000 } else { 100 }).await;
    if world.happens(world.faults.killed) {
        return None;
    }
    let is_own = world.redis.lock().sessions[key].pid == pid;
    drop(has);
    if is_own {
        world.redis.lock().sessions.entry(key.clone()).or_default().lock = 0;
        door.wrote(key, Written { pid: None, lock: Some(0), deleted: false });
    }
    Some(())
}

/// A client that believes that it has the lock; one that dies believes nothing.
struct Has<'a> {
    world: &'a World,
    key: &'a Bytes,
    number: u64,
}

impl Drop for Has<'_> {
    fn drop(&mut self) {
        self.world.lost(self.key, self.number);
    }
}

fn locks(world: &Arc<World>, at: usize) -> Arc<Locks> {
    let process = PROCESSES[at].to_owned();
    let store = Arc::new(Store { world: Arc::clone(world), process: process.clone() });
    let dead = Arc::clone(world);
    let hosts = Box::new(move |host: &str| match HOSTS.iter().position(|known| *known == host) {
        Some(its) if its == at => Standing::Here,
        Some(its) if dead.is_dead(PROCESSES[its]) => Standing::Gone,
        _ => Standing::Other,
    });
    Locks::new(store, bounds(), process, hosts, None, &world.clock)
}

fn world(seed: u64, faults: Faults) -> Arc<World> {
    Arc::new(World {
        redis: Mutex::default(),
        random: Mutex::new(Chance::of(seed)),
        clock: Clock::manual(),
        faults,
        dead: Mutex::default(),
    })
}

/// Moves the clock with tokio's, which is paused and goes from timer to timer.
fn tick(world: &Arc<World>) -> JoinHandle<()> {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(1)).await;
            world.clock.advance(Duration::from_millis(1));
        }
    })
}

/// Some clients on each process, for one of two sessions; then one more, which must get the lock.
async fn run(seed: u64, faults: Faults) {
    let world = world(seed, faults);
    let ticker = tick(&world);
    let all: Vec<_> = (0..PROCESSES.len()).map(|at| locks(&world, at)).collect();
    let keys = [Bytes::from_static(b"sess_one"), Bytes::from_static(b"sess_two")];
    let mut tasks: Vec<(usize, JoinHandle<Option<()>>)> = Vec::new();
    for number in 0..40 {
        let at = world.random(3) as usize;
        let is_direct = world.happens(faults.direct);
        let door =
            if is_direct { Door::Direct } else { Door::Gateway(Box::new(all[at].client(None))) };
        let host = if is_direct { "elsewhere" } else { HOSTS[at] };
        let (pid, key) =
            (Bytes::from(format!("{host}|{number}")), keys[number as usize % 2].clone());
        let its_world = Arc::clone(&world);
        let start = world.random(2_000);
        tasks.push((
            at,
            tokio::spawn(async move {
                sleep(Duration::from_millis(start)).await;
                request(&its_world, door, &key, pid, number).await
            }),
        ));
    }
    if faults.upset_each > 0 {
        for _ in 0..3 {
            world.pause(faults.upset_each).await;
            upset(&world, &mut tasks);
        }
    }
    for (at, task) in tasks {
        let ended = task.await;
        let was_killed = world.is_dead(PROCESSES[at]);
        assert!(was_killed || ended.is_ok(), "{ended:?}");
    }
    // Whatever was left behind is in nobody's way for longer than PHP's own rule has it.
    for key in &keys {
        let calm = Faults::default();
        let at = (0..PROCESSES.len()).find(|at| !world.is_dead(PROCESSES[*at])).expect("one lives");
        let door = Door::Gateway(Box::new(all[at].client(None)));
        let pid = Bytes::from(format!("{}|99", HOSTS[at]));
        // With the time that the slowest has it.
        let patience = Duration::from_secs(40);
        let last = request(&world, door, key, pid, 99);
        if faults.failed == 0 && calm.killed == faults.killed {
            let ended = tokio::time::timeout(patience, last).await;
            assert_eq!(ended.ok(), Some(Some(())), "the lock is in nobody's way");
        }
    }
    ticker.abort();
}

fn upset(world: &World, tasks: &mut [(usize, JoinHandle<Option<()>>)]) {
    match world.random(3) {
        // kill -9
        0 if world.dead.lock().len() < 2 => {
            let at = world.random(3) as usize;
            world.dead.lock().push(PROCESSES[at].to_owned());
            world.redis.lock().heard_by.remove(PROCESSES[at]);
            for (_, task) in tasks.iter().filter(|(its, _)| *its == at) {
                task.abort();
            }
        }
        // Another Redis takes over; what stood beside the sessions is gone, and so are connections.
        1 => {
            let mut redis = world.redis.lock();
            redis.table.forget();
            redis.heard_by.clear();
        }
        _ => world.redis.lock().heard_by.clear(),
    }
}

/// Under tokio's paused time, which jumps to the next timer.
fn with_time(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future);
}

fn simulate(seeds: std::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        with_time(run(seed + 1, faults));
    }
}

#[test]
fn nobody_has_a_lock_beside_another_where_nothing_fails() {
    simulate(0..20, Faults::default());
}

#[test]
fn nobody_has_a_lock_beside_another_though_messages_are_lost() {
    simulate(0..20, Faults { lost: 300, ..Faults::default() });
}

#[test]
fn nobody_has_a_lock_beside_another_though_steps_fail_and_clients_die() {
    simulate(0..20, Faults { failed: 30, killed: 50, lost: 50, slow: 50, ..Faults::default() });
}

#[test]
fn nobody_has_a_lock_beside_another_though_processes_are_killed_and_the_redis_forgets() {
    simulate(0..200, Faults { upset_each: 2_000, lost: 20, slow: 50, ..Faults::default() });
}

#[test]
fn nobody_has_a_lock_beside_another_though_some_php_talks_to_the_redis_itself() {
    let faults = Faults { direct: 400, lost: 50, killed: 20, slow: 50, ..Faults::default() };
    simulate(0..20, faults);
    simulate(20..30, Faults { upset_each: 3_000, ..faults });
}

#[test]
fn the_simulation_notices_locks_that_are_freed_blindly() {
    let faults = Faults { slow: 200, blind: true, ..Faults::default() };
    let noticed = std::panic::catch_unwind(|| simulate(0..20, faults));
    assert!(noticed.is_err());
}

/// Ten that hold the lock for 100 ms at most are through before anybody is held too long. Gives how
/// many were not answered when it was their turn.
fn ten_in_line(seed: u64, faults: Faults) -> u64 {
    let mut unanswered = 0;
    with_time(async {
        let world = world(seed, faults);
        let ticker = tick(&world);
        let all: Vec<_> = (0..2).map(|at| locks(&world, at)).collect();
        let mut tasks = Vec::new();
        for number in 0..10 {
            let door = Door::Gateway(Box::new(all[number as usize % 2].client(None)));
            let (its_world, start) = (Arc::clone(&world), world.random(50));
            tasks.push(tokio::spawn(async move {
                sleep(Duration::from_millis(start)).await;
                let (key, pid) = (Bytes::from_static(b"sess_one"), format!("web1|{number}"));
                request(&its_world, door, &key, pid.into(), number).await
            }));
        }
        for task in tasks {
            assert_eq!(task.await.expect("joined"), Some(()));
        }
        ticker.abort();
        unanswered = all.iter().map(|locks| locks.figures().unanswered).sum();
        let redis = world.redis.lock();
        assert!(unanswered > 0 || (redis.given == redis.asked && redis.asked.len() == 10));
    });
    unanswered
}

#[test]
fn the_lock_is_given_in_the_order_in_which_it_was_asked_for() {
    assert_eq!((1..20).map(|seed| ten_in_line(seed, Faults::default())).sum::<u64>(), 0);
}

#[test]
fn without_messages_waiters_would_not_be_answered_when_it_is_their_turn() {
    let silent = Faults { lost: 1_000, ..Faults::default() };
    assert!((1..20).map(|seed| ten_in_line(seed, silent)).sum::<u64>() > 0);
}
