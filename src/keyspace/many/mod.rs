//! Cleans of many keys, more than are dropped at once: clients of two nodes save as Magento's backends do, and clean in all
//! their ways, while values end, are given up, are freed in slices and are copied. Nothing that was cleaned is read
//! afterwards, values and sets of tags are those of a plain model, and the memory is that of a count from scratch.

mod model;
mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::garbage::AT_ONCE_MAX_KEYS;
use model::{Layout, SCOPE};
use world::World;

/// Ids of values.
const IDS: u16 = 700;

/// How a client saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pipeline,
    Transaction,
    Script,
}

/// Values that a client saves.
#[derive(Clone, Copy, Debug)]
struct Saves {
    layout: Layout,
    way: Way,
    from: u16,
    count: u16,
    tags: u8,
    bytes: usize,
    seconds: u16,
}

/// How a client cleans tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// What has all of them: SINTER, then UNLINK.
    Intersection,
    /// The same: SMEMBERS of one after another, and what all of them have is deleted.
    Together,
    /// What has any: SUNION, then all in one transaction.
    Union,
    /// One after another: SMEMBERS, UNLINK, DEL.
    Members,
    Script,
    /// Their sets alone are deleted.
    Sets,
}

#[derive(Clone, Debug)]
enum Step {
    Save(Saves),
    /// A client begins, and reads.
    Read,
    /// It saves what it made of that.
    SaveLate(Saves),
    Clean(How, Layout, u8, usize),
    CleanKeys(Layout, u16, u16),
    CleanElsewhere(Layout, u8),
    Flush(&'static str),
    Free(usize),
    Expire(usize),
    Collect(u8),
    Copy,
}

/// What a game is played with.
#[derive(Clone, Copy, Debug)]
struct Setting {
    memory_max_bytes: usize,
    cleans_max: usize,
    /// Between two steps values grow old, so that it is known exactly what goes.
    is_calm: bool,
    is_fenced: bool,
    /// Nodes hear what the others clean.
    tells: bool,
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![3 => Just(Layout::Hashes), 2 => Just(Layout::Strings)]
}

/// One tag or several, and that of all values or not.
fn tags() -> impl Strategy<Value = u8> {
    prop_oneof![(0..5_u8).prop_map(|tag| 1_u8 << tag), 1..1_u8 << 6]
}

fn saves() -> impl Strategy<Value = Saves> {
    let many = AT_ONCE_MAX_KEYS as u16 + 1;
    let counts = prop_oneof![2 => 1..20_u16, 1 => many..300];
    let ways = prop_oneof![Just(Way::Pipeline), Just(Way::Transaction), Just(Way::Script)];
    let sizes = prop_oneof![3 => 0..200_usize, 1 => 2_000..3_000_usize];
    (layouts(), ways, 0..IDS, counts, tags(), sizes, 20..600_u16).prop_map(
        |(layout, way, from, count, tags, bytes, seconds)| {
            let scope = if layout == Layout::Hashes { SCOPE } else { 0 };
            Saves { layout, way, from, count, tags: tags | scope, bytes, seconds }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let hows = prop_oneof![
        3 => Just(How::Intersection),
        2 => Just(How::Together),
        1 => Just(How::Union),
        1 => Just(How::Members),
        1 => Just(How::Script),
        1 => Just(How::Sets),
    ];
    let clean = (hows, layouts(), tags(), 50..700_usize);
    let step = prop_oneof![
        12 => saves().prop_map(Step::Save),
        4 => Just(Step::Read),
        4 => saves().prop_map(Step::SaveLate),
        10 => clean.prop_map(|(how, layout, tags, chunk)| Step::Clean(how, layout, tags, chunk)),
        2 => (layouts(), 0..IDS, 1..400_u16).prop_map(|(layout, from, count)| Step::CleanKeys(layout, from, count)),
        3 => (layouts(), tags()).prop_map(|(layout, tags)| Step::CleanElsewhere(layout, tags)),
        1 => prop_oneof![Just("FLUSHDB"), Just("FLUSHALL")].prop_map(Step::Flush),
        4 => (1..200_000_usize).prop_map(Step::Free),
        2 => (1..2_000_usize).prop_map(Step::Expire),
        2 => tags().prop_map(Step::Collect),
        2 => Just(Step::Copy),
    ];
    proptest::collection::vec((0..2_usize, step), 1..40)
}

const ROOMY: usize = 64 << 20;

fn settings() -> impl Strategy<Value = Setting> {
    let memory = prop_oneof![Just(ROOMY), 400_000..1_500_000_usize];
    (memory, prop_oneof![Just(5_000), Just(50)], any::<bool>()).prop_map(
        |(memory_max_bytes, cleans_max, is_calm)| Setting {
            memory_max_bytes,
            cleans_max,
            is_calm,
            is_fenced: true,
            tells: true,
        },
    )
}

/// Plays all steps, and cleans up.
fn play(setting: Setting, steps: &[(usize, Step)]) -> Result<World, String> {
    let mut world = World::new(setting);
    for (at, step) in steps.iter().enumerate() {
        world.step(step).map_err(|what| format!("step {at}, {step:?}: {what}"))?;
    }
    world.end()?;
    Ok(world)
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]
    #[test]
    fn cleans_of_many_keys_leave_what_a_plain_model_has_and_the_memory_is_counted(
        setting in settings(),
        steps in steps(),
    ) {
        let played = play(setting, &steps);
        prop_assert!(played.is_ok(), "{}", played.err().unwrap_or_default());
    }
}

/// Of games that are the same in each run those in which a value outlived its clean.
fn outlived(setting: Setting) -> usize {
    let mut runner = TestRunner::deterministic();
    let mut game = || steps().new_tree(&mut runner).expect("steps").current();
    let is_it = |what: String| what.contains("is older than a clean of it");
    (0..GAMES).filter(|_| play(setting, &game()).is_err_and(is_it)).count()
}

const GAMES: usize = 12;
const CALM: Setting = Setting {
    memory_max_bytes: ROOMY,
    cleans_max: 5_000,
    is_calm: true,
    is_fenced: true,
    tells: true,
};

#[test]
fn where_other_nodes_do_not_hear_of_cleans_it_is_noticed() {
    assert_eq!(outlived(CALM), 0);
    let noticed = outlived(Setting { tells: false, ..CALM });
    assert!(noticed > GAMES / 4, "{noticed}");
}

#[test]
fn without_the_fence_what_is_saved_late_is_noticed() {
    let noticed = outlived(Setting { is_fenced: false, ..CALM });
    assert!(noticed > 0, "{noticed}");
}

#[test]
fn a_byte_that_is_counted_wrongly_is_noticed() {
    let mut runner = TestRunner::deterministic();
    let steps = steps().new_tree(&mut runner).expect("steps").current();
    let mut world = World::new(CALM);
    for step in &steps {
        world.step(step).expect("as it is to be");
    }
    let keyspace = &mut world.nodes[0].keyspace;
    assert_eq!(model::recount_all(keyspace), Ok(()));
    keyspace.databases[0].sets.bytes += 1;
    assert!(model::recount_all(keyspace).is_err());
}
