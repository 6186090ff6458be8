//! What is stored outlives a stop and a start, on disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::chance::Chance;
use super::super::support::origin::{Origin, page};
use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use crate::fleet::{PATIENCE, Shop, overview, softened, store, version, wait_until_current};
use crate::support::redis::Redis;
use crate::support::tiny::Tiny;

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// A directory for snapshots, and for the journal.
struct State(tempfile::TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn kept_by(&self, builder: Builder) -> Builder {
        builder
            .with("store.snapshot_directory", &quoted(self.0.path()))
            .with("store.snapshot_interval", "0")
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("pages.snapshot")
    }
}

fn stop(mut parvis: Parvis) -> String {
    parvis.process.signal("TERM");
    assert_eq!(parvis.process.wait(Duration::from_secs(20)), Some(0), "{}", parvis.stderr());
    parvis.stderr()
}

fn wait_for_words(parvis: &Parvis, words: &str) {
    wait_until(words, PATIENCE, || parvis.stderr().contains(words));
}

/// Starts, and waits until the snapshot is read.
fn started(builder: Builder) -> Parvis {
    let parvis = builder.start();
    wait_for_words(&parvis, "the snapshot is in the store");
    parvis
}

fn node(shop: &Shop, redis: &Redis, state: &State) -> Builder {
    let journal = quoted(state.0.path());
    state.kept_by(shop.node("web-1", &redis.url())).with("fleet.journal_directory", &journal)
}

const TARGETS: [&str; 3] = ["/cat_p_1", "/cat_p_2", "/cat_p_3"];

#[test]
fn a_node_of_a_fleet_has_its_pages_again_but_for_what_was_purged_while_it_was_down() {
    let (shop, redis, state) = (Shop::open(), Redis::start(), State::new());
    let first = node(&shop, &redis, &state).start();
    let other = shop.node("web-2", &redis.url()).start();
    wait_until_current(&first);
    wait_until_current(&other);
    for target in TARGETS {
        store(&first, target);
    }
    stop(first);
    let now = shop.commit();
    assert_eq!(other.purge_tag("cat_p_1").status, 200);
    let again = started(node(&shop, &redis, &state));
    wait_until_current(&again);
    assert_eq!(softened(&again), 0, "the log was read on from where the snapshot stood");
    let rendered = shop.origin.count();
    for target in ["/cat_p_2", "/cat_p_3"] {
        let reply = again.get(target, &[]);
        assert!(reply.is_hit() && reply.text() == "0", "{reply:?}");
        assert!(reply.cache_status().contains("ttl=86"), "{}", reply.cache_status());
    }
    assert_eq!(shop.origin.count(), rendered);
    assert_eq!(version(&again, "/cat_p_1"), now);
    assert_eq!(overview(&other)["nodes"][0]["name"], "web-1");
}

#[test]
fn purges_of_its_own_that_only_its_journal_has_hold_for_what_it_reads() {
    let (shop, mut redis, state) = (Shop::open(), Redis::start(), State::new());
    let start = || node(&shop, &redis, &state).with("store.snapshot_interval", "\"100ms\"");
    let first = start().start();
    wait_until_current(&first);
    store(&first, "/cat_p_1");
    store(&first, "/cat_p_2");
    wait_for_words(&first, "a snapshot was written pages=2");
    let url = redis.url();
    redis.kill();
    // Older than the purge is what a crash leaves behind.
    let old = std::fs::read(state.file()).expect("a snapshot");
    let now = shop.commit();
    assert_eq!(first.purge_tag("cat_p_1").status, 202);
    first.process.signal("KILL");
    drop(first);
    std::fs::write(state.file(), old).expect("written");
    let journal = quoted(state.0.path());
    let again = state.kept_by(shop.node("web-1", &url)).with("fleet.journal_directory", &journal);
    let again = started(again);
    wait_for_words(&again, "purges from before the start wait in the journal");
    assert_eq!(version(&again, "/cat_p_1"), now);
    let reply = again.get("/cat_p_2", &[]);
    assert!(reply.cache_status().contains("unproven"), "{}", reply.cache_status());
    redis.start_again();
    wait_until_current(&again);
    assert!(shop.origin.count() <= 4);
}

#[test]
fn where_the_log_does_not_reach_back_what_is_read_is_stale() {
    let (shop, mut redis, state) = (Shop::open(), Redis::start(), State::new());
    let first = node(&shop, &redis, &state).start();
    wait_until_current(&first);
    store(&first, "/cat_p_1");
    stop(first);
    redis.kill();
    let now = shop.commit();
    // It comes back empty.
    redis.start_again();
    let again = started(node(&shop, &redis, &state));
    wait_until_current(&again);
    wait_until("softness", PATIENCE, || softened(&again) > 0);
    let reply = again.get("/cat_p_1", &[]);
    assert!(reply.cache_status().contains("; hit") && reply.text() == "0", "{reply:?}");
    wait_until("the refresh", PATIENCE, || version(&again, "/cat_p_1") == now);
}

#[test]
fn a_single_node_serves_what_it_reads_as_grace_and_refreshes_it() {
    let (shop, state) = (Shop::open(), State::new());
    let single = || state.kept_by(Parvis::before_http(shop.origin.port));
    let first = single().start();
    for target in TARGETS {
        store(&first, target);
    }
    assert!(stop(first).contains("a snapshot was written pages=3"));
    let now = shop.commit();
    let again = started(single());
    let reply = again.get("/cat_p_1", &[]);
    assert!(reply.cache_status().contains("; hit; ttl=0; detail=grace"), "{reply:?}");
    assert_eq!(reply.text(), "0");
    wait_until("the refresh", PATIENCE, || version(&again, "/cat_p_1") == now);
    // A purge reaches what was read.
    assert_eq!(again.purge_tag("cat_p_2").status, 200);
    assert_eq!(version(&again, "/cat_p_2"), now);
}

/// A shop with pages of some size, all of them stored by a process that has ended.
fn stopped_shop(state: &State, pages: usize) -> Origin {
    let origin = Origin::start(|seen, stream| {
        let content = format!("{} {}", seen.target, "lorem ipsum ".repeat(300));
        let _ = stream.write_all(&page(&content, "t"));
    });
    let first = state.kept_by(Parvis::before_http(origin.port)).start();
    for number in 0..pages {
        first.get(&format!("/{number}"), &[]);
    }
    wait_until("storing", PATIENCE, || first.metric("parvis_store_objects ") >= Some(pages as f64));
    stop(first);
    origin
}

/// Starts on a file that was changed; gives how many pages it took, after some word of warning.
fn restored_after(change: impl FnOnce(&mut Vec<u8>), words: &str) -> Option<f64> {
    let state = State::new();
    let origin = stopped_shop(&state, 50);
    let mut bytes = std::fs::read(state.file()).expect("a snapshot");
    change(&mut bytes);
    std::fs::write(state.file(), bytes).expect("written");
    let again = state.kept_by(Parvis::before_http(origin.port)).start();
    wait_for_words(&again, words);
    assert!(!state.file().exists(), "it is not read again");
    for number in 0..50 {
        let target = format!("/{number}");
        let reply = again.get(&target, &[]);
        assert!(reply.status == 200 && reply.text().starts_with(&format!("{target} ")));
    }
    again.metric("parvis_snapshot_restored_total ")
}

#[test]
fn of_a_corrupt_snapshot_what_comes_before_the_fault_is_used_and_the_rest_is_cold() {
    let is_half = |pages: Option<f64>| pages.is_some_and(|pages| (10.0..40.0).contains(&pages));
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    };
    assert!(is_half(restored_after(flip, "the checksum of record")));
    assert!(is_half(restored_after(|bytes| bytes.truncate(bytes.len() / 2), "before its end")));
    assert_eq!(restored_after(|bytes| bytes[0] = b'X', "it is no snapshot"), Some(0.0));
    assert_eq!(restored_after(Vec::clear, "it ends in record 0"), Some(0.0));
}

#[test]
fn a_snapshot_of_another_release_or_of_other_keys_is_not_used() {
    let (shop, state) = (Shop::open(), State::new());
    let file = state.0.path().join("deployed_version.txt");
    std::fs::write(&file, "1700\n").expect("written");
    let single = || {
        let single = state.kept_by(Parvis::before_http(shop.origin.port));
        single.with("fleet.release_file", &quoted(&file))
    };
    let first = single().start();
    store(&first, "/cat_p_1");
    stop(first);
    let kept = std::fs::read(state.file()).expect("a snapshot");
    std::fs::write(&file, "1701\n").expect("written");
    let again = single().start();
    wait_for_words(&again, "it is of release \"1700\", and the release is \"1701\"");
    assert!(!again.get("/cat_p_1", &[]).is_hit());
    drop(again);
    std::fs::write(&file, "1700\n").expect("written");
    std::fs::write(state.file(), kept).expect("written");
    let again = single().with("site.key_cookies", "[\"store\"]").start();
    wait_for_words(&again, "the snapshot is not used");
    assert!(!again.get("/cat_p_1", &[]).is_hit());
}

#[test]
fn a_full_disk_is_told_the_old_snapshot_stays_and_all_goes_on() {
    let Some(tiny) = Tiny::mount() else {
        println!("skipped: no right to mount a file system");
        return;
    };
    let origin = Origin::start(|seen, stream| {
        // It cannot be compressed.
        let mut chance = Chance::of(seen.target.len() as u64);
        let content: String =
            (0..20_000).map(|_| char::from(b'!' + chance.below(90) as u8)).collect();
        let _ = stream.write_all(&page(&content, "t"));
    });
    let parvis = Parvis::before_http(origin.port)
        .with("store.snapshot_directory", &quoted(tiny.path()))
        .with("store.snapshot_interval", "\"200ms\"")
        .start();
    let file = tiny.path().join("pages.snapshot");
    parvis.get("/first", &[]);
    wait_until("a snapshot", PATIENCE, || file.exists());
    for number in 0..100 {
        parvis.get(&format!("/{number}"), &[]);
    }
    wait_for_words(&parvis, "no snapshot was written; the one before stays");
    let failures = parvis.metric("parvis_snapshot_failures_total ").expect("shown");
    assert!(failures >= 1.0);
    wait_until("a hit", PATIENCE, || parvis.get("/5", &[]).is_hit());
    assert!(std::fs::metadata(&file).expect("the old one").len() > 0);
    let said = stop(parvis);
    assert!(!said.contains("panicked"), "{said}");
    let again = Parvis::before_http(origin.port)
        .with("store.snapshot_directory", &quoted(tiny.path()))
        .start();
    wait_for_words(&again, "the snapshot is in the store");
    assert!(again.metric("parvis_snapshot_restored_total ") >= Some(1.0));
    drop(again);
}

#[test]
fn a_directory_that_cannot_be_used_is_told_and_all_goes_on() {
    let origin = Origin::always(page("content", "t"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let parvis = Parvis::before_http(origin.port)
        .with("store.snapshot_directory", &quoted(file.path()))
        .with("store.snapshot_interval", "\"100ms\"")
        .start();
    wait_for_words(&parvis, "no snapshot was written");
    let said = parvis.stderr();
    let at = |words: &str| said.find(words).expect("said");
    let told = "store.snapshot_directory cannot be written";
    assert!(at(told) < at("no snapshot was written"), "at the start: {said}");
    assert_eq!(said.matches(told).count(), 1, "{said}");
    assert_eq!(parvis.get("/p", &[]).text(), "content");
    stop(parvis);
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_the_old_snapshot_whole() {
    let state = State::new();
    let origin = stopped_shop(&state, 20);
    let old = std::fs::read(state.file()).expect("a snapshot");
    let is_being_written = || {
        let files = std::fs::read_dir(state.0.path()).expect("a directory");
        files
            .filter_map(Result::ok)
            .any(|file| file.file_name().to_string_lossy().starts_with(".pages"))
    };
    let second = state
        .kept_by(Parvis::before_http(origin.port))
        .with("store.snapshot_interval", "\"100ms\"")
        .with("store.snapshot_rate", "\"1MiB\"")
        .start();
    let mut number = 100;
    wait_until("a snapshot to take its time", Duration::from_secs(60), || {
        number += 1;
        second.get(&format!("/{number}{}", "x".repeat(3_000)), &[]);
        is_being_written() && number > 600
    });
    let whole = std::fs::read(state.file()).expect("the last whole one");
    second.process.signal("KILL");
    thread::sleep(Duration::from_millis(100));
    drop(second);
    assert!(is_being_written(), "it was killed in the middle");
    let kept = std::fs::read(state.file()).expect("the old one");
    assert!(kept == whole || kept.len() >= old.len());
    let third = started(state.kept_by(Parvis::before_http(origin.port)));
    assert!(third.metric("parvis_snapshot_restored_total ") >= Some(20.0));
    assert!(!third.stderr().contains("corrupt"), "{}", third.stderr());
    stop(third);
    assert!(!is_being_written(), "what was left over is gone");
}
