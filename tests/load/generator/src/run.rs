//! A run: its phases, who comes in them, and its results.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use crate::bots::{self, Kind};
use crate::calls::Visit;
use crate::journey::{Profile, journey};
use crate::plan::{Catalogue, Phase, Plan};
use crate::visitor::{Arrival, come};
use crate::warm::warm;
use crate::world::{Levels, World};

/// Sessions of which averages are taken.
const DESCRIBED: u32 = 20_000;

/// Does what the plan in one file says, and writes the results to another.
pub fn run(plan: &str, results: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(plan).map_err(|error| format!("{plan}: {error}"))?;
    let plan = Plan::read(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let told = LocalSet::new().block_on(&runtime, all(plan));
    std::fs::write(results, told.to_string()).map_err(|error| format!("{results}: {error}"))
}

async fn all(plan: Plan) -> Value {
    let mut warmed = Value::Null;
    if plan.warm {
        println!("warming");
        let world = Rc::new(World::new(plan.clone()));
        let failed = warm(&world).await;
        let (answers, errors) = world.figures.borrow().totals;
        warmed = json!({ "seconds": world.began.elapsed().as_secs_f64(), "answers": answers, "errors": errors, "failed": failed });
    }
    let world = Rc::new(World::new(plan));
    #[expect(clippy::disallowed_methods, reason = "who watches beside knows the clock alone")]
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    println!("began {began:.3}");
    spawn_local(tell(Rc::clone(&world)));
    let mut random = Rng::with_seed(world.plan.seed);
    let mut start = world.began;
    let mut before = Phase::none();
    for phase in world.plan.phases.clone() {
        println!("phase {}", phase.name);
        enter(&world, &before, &phase, start, &mut random);
        start += Duration::from_secs_f64(phase.seconds);
        sleep_until(start).await;
        before = phase;
    }
    world.levels.send_replace(Levels::default());
    // So that all who leave say what they waited for.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let names: Vec<String> = world.plan.phases.iter().map(|phase| phase.name.clone()).collect();
    let mut told = world.figures.borrow_mut().results(&names);
    let (unsent_sessions, unsent_bots) = world.unsent.get();
    let sessions = world.sessions.get();
    told["began"] = json!(began);
    told["warm"] = warmed;
    told["sessions"] =
        json!({ "begun": sessions.0, "ended": sessions.1, "unsent": unsent_sessions });
    told["bots_unsent"] = json!(unsent_bots);
    told
}

impl Phase {
    fn none() -> Self {
        Self {
            name: String::new(),
            seconds: 0.0,
            settle_seconds: 0.0,
            users: 0,
            ramp_seconds: 0.0,
            buyers: 0.0,
            browsers: 0.0,
            facet: 0.0,
            crawler: 0.0,
            abuse: 0.0,
            goodbot: 0.0,
        }
    }
}

/// Lets come who is to come in this phase, and leave who was there before and is too many.
fn enter(world: &Rc<World>, before: &Phase, phase: &Phase, begin: Instant, random: &mut Rng) {
    world.levels.send_replace(Levels {
        users: phase.users as f64,
        buyers: phase.buyers,
        browsers: phase.browsers,
    });
    for user in before.users..phase.users {
        let share = (user - before.users) as f64 / (phase.users - before.users) as f64;
        let at = begin + Duration::from_secs_f64(share * phase.ramp_seconds);
        let arrival = Arrival {
            profile: Profile::Buyer,
            at,
            mark: user as f64,
            under_way: true,
            is_followed: true,
        };
        spawn_local(come(Rc::clone(world), arrival, random.fork()));
    }
    let kinds = [
        (Profile::Buyer, before.buyers, phase.buyers),
        (Profile::Browser, before.browsers, phase.browsers),
    ];
    for (profile, old, new) in kinds {
        if new > 0.0 {
            spawn_local(arrive(
                Rc::clone(world),
                profile,
                (old, new),
                begin,
                phase.seconds,
                random.fork(),
            ));
        }
    }
    let bots = [
        (Kind::Facet, phase.facet),
        (Kind::Crawler, phase.crawler),
        (Kind::Abuse, phase.abuse),
        (Kind::Good, phase.goodbot),
    ];
    for (kind, rate) in bots {
        if rate > 0.0 {
            spawn_local(bots::crawl(
                Rc::clone(world),
                kind,
                rate,
                begin,
                phase.seconds,
                random.fork(),
            ));
        }
    }
}

/// Sessions that begin at a rate; at first as many as would be under way by then, so that the load is there at once.
async fn arrive(
    world: Rc<World>,
    profile: Profile,
    rates: (f64, f64),
    begin: Instant,
    seconds: f64,
    mut random: Rng,
) {
    let (old, new) = rates;
    let think = Duration::from_millis(world.plan.think_ms).as_secs_f64();
    let lasts = think * (described(profile).0 - 1.0).max(0.0);
    #[expect(clippy::cast_sign_loss, reason = "it is not negative")]
    let under_way = ((new - old).max(0.0) * lasts / 2.0) as usize;
    for _ in 0..under_way {
        let at = begin + Duration::from_secs_f64(random.f64() * think);
        let arrival = Arrival {
            profile,
            at,
            mark: old + random.f64() * (new - old),
            under_way: true,
            is_followed: false,
        };
        spawn_local(come(Rc::clone(&world), arrival, random.fork()));
    }
    let end = begin + Duration::from_secs_f64(seconds);
    let mut at = begin;
    loop {
        at += bots::gap(&mut random, new);
        if at >= end {
            return;
        }
        sleep_until(at).await;
        let arrival =
            Arrival { profile, at, mark: random.f64() * new, under_way: false, is_followed: false };
        spawn_local(come(Rc::clone(&world), arrival, random.fork()));
    }
}

/// A line every few seconds.
async fn tell(world: Rc<World>) {
    let mut before = 0;
    for second in 1_u64.. {
        sleep_until(world.began + Duration::from_secs(second)).await;
        let mut figures = world.figures.borrow_mut();
        figures.roll(second);
        if second % 5 == 0 {
            let (answers, errors) = figures.totals;
            println!(
                "{second} s: {} visitors, {} answers/s, {errors} errors",
                world.users.get(),
                (answers - before) / 5
            );
            before = answers;
        }
    }
}

/// Steps of a session on average, and requests of each kind.
fn described(profile: Profile) -> (f64, BTreeMap<&'static str, f64>) {
    let mut random = Rng::with_seed(1);
    let catalogue = Catalogue { products: 500, categories: 30, words: 50 };
    let (mut steps, mut kinds) = (0, BTreeMap::new());
    for _ in 0..DESCRIBED {
        let mut visit = Visit::new(random.fork(), catalogue);
        for step in journey(profile, &mut random) {
            steps += 1;
            for call in visit.calls(step) {
                *kinds.entry(call.kind).or_insert(0.0) += 1.0 / f64::from(DESCRIBED);
            }
        }
    }
    (f64::from(steps) / f64::from(DESCRIBED), kinds)
}

/// How many steps and requests a session has, as JSON.
pub fn describe() -> Value {
    let of = |profile| {
        let (steps, kinds) = described(profile);
        json!({ "steps": steps, "requests": kinds })
    };
    json!({ "buyers": of(Profile::Buyer), "browsers": of(Profile::Browser) })
}
