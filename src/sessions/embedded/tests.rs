use std::collections::BTreeSet;

use super::*;

/// A store in a directory of its own, tended by nobody.
struct Store {
    embedded: Arc<Embedded>,
    directory: tempfile::TempDir,
    clock: Clock,
}

fn load(directory: &Path, clock: &Clock) -> Result<Embedded, OpenError> {
    Embedded::load(&directory.join("sessions"), Bounds::default(), clock)
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Clock::manual();
        let embedded = Arc::new(load(directory.path(), &clock).expect("loaded"));
        Self { embedded, directory, clock }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("sessions")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file()).expect("readable")
    }

    fn ask(&self, words: &str) -> Value {
        ask(&self.embedded, words)
    }
}

fn request(words: &str) -> Request {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    Request::pack(&words)
}

fn ask(embedded: &Embedded, words: &str) -> Value {
    embedded.ask(0, request(words).raw())
}

/// All keys as the commands that make them, each as the set of its parts.
fn contents(embedded: &Embedded) -> BTreeSet<BTreeSet<Vec<u8>>> {
    let inner = embedded.inner.lock();
    let mut all = BTreeSet::new();
    for database in 0..inner.keyspace.databases() {
        for place in 0..inner.keyspace.len(database) {
            let (mut out, mut state) = (BytesMut::new(), ReadState::default());
            inner.keyspace.portrait(database, place, &mut out);
            let mut parts = BTreeSet::new();
            while let Ok(Some(it)) = resp::read_request(&mut out, &RECORD_LIMITS, &mut state) {
                let step = if it.is("HSET") { 2 } else { 1 };
                let words: Vec<&[u8]> = it.args().collect();
                let head = words[..2].concat();
                parts.extend(
                    words[2..].chunks(step).map(|part| [&head[..], &part.concat()].concat()),
                );
                parts.insert(head);
            }
            all.insert(parts);
        }
    }
    all
}

/// What sessions do, and more.
fn command(number: usize) -> String {
    let (key, other) = (number * 7 % 5, number * 3 % 5);
    match number % 11 {
        0 => format!("HSET s{key} data d{number} lock 0"),
        1 => format!("HINCRBY s{key} lock 1"),
        2 => format!("EXPIRE s{key} 5000"),
        3 => format!("SADD t{key} a{number} b{other}"),
        4 => format!("SUNIONSTORE t{other} t{key} t1"),
        5 => format!("SPOP t{key}"),
        6 => format!("RENAME s{key} s{other}"),
        7 => format!("SET v{key} {number} EX 100"),
        8 => format!("DEL s{other}"),
        9 => format!("COPY t{key} t{other} REPLACE"),
        _ => format!("HDEL s{key} data"),
    }
}

#[test]
fn what_was_acknowledged_is_there_wherever_the_file_ends() {
    let store = Store::new();
    let mut states = vec![(journal::MAGIC.len(), contents(&store.embedded))];
    for number in 0..33 {
        store.ask(&command(number));
        states.push((store.bytes().len(), contents(&store.embedded)));
    }
    let bytes = store.bytes();
    let other = tempfile::tempdir().expect("a directory");
    let path = other.path().join("sessions");
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).expect("written");
        let again = load(other.path(), &store.clock).expect("loaded");
        let whole = states.iter().rev().find(|(length, _)| *length <= cut);
        let expected = whole.map_or(&states[0], |state| state);
        assert!(contents(&again) == expected.1, "cut at {cut} of {}", bytes.len());
        assert_eq!(std::fs::metadata(&path).expect("there").len(), expected.0 as u64);
    }
}

#[test]
fn a_wrong_byte_ends_the_journal_before_its_record() {
    let store = Store::new();
    let mut states = vec![(journal::MAGIC.len(), contents(&store.embedded))];
    for number in 0..22 {
        store.ask(&command(number));
        states.push((store.bytes().len(), contents(&store.embedded)));
    }
    let bytes = store.bytes();
    let other = tempfile::tempdir().expect("a directory");
    for at in (journal::MAGIC.len()..bytes.len()).step_by(5) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x41;
        std::fs::write(other.path().join("sessions"), &wrong).expect("written");
        let again = load(other.path(), &store.clock).expect("loaded");
        let before = states.iter().rev().find(|(length, _)| *length <= at).expect("the first");
        assert!(contents(&again) == before.1, "wrong at {at}");
        // And it goes on from there.
        ask(&again, "SET after v");
        let expected = contents(&again);
        drop(again);
        let twice = load(other.path(), &store.clock).expect("loaded");
        assert!(contents(&twice) == expected);
    }
}

#[test]
fn zeros_at_the_end_are_cut_off_and_another_file_is_left_alone() {
    let store = Store::new();
    store.ask("SET k v");
    let bytes = store.bytes();
    let other = tempfile::tempdir().expect("a directory");
    let path = other.path().join("sessions");
    std::fs::write(&path, [&bytes[..], &[0; 5_000]].concat()).expect("written");
    let again = load(other.path(), &store.clock).expect("loaded");
    assert_eq!(contents(&again), contents(&store.embedded));
    drop(again);
    assert_eq!(std::fs::read(&path).expect("there"), bytes);
    for foreign in [&b"SELECT 0\r\n"[..], b"x", b"parvis sessions 2\nwith more behind it"] {
        std::fs::write(&path, foreign).expect("written");
        assert!(matches!(load(other.path(), &store.clock), Err(OpenError::Foreign(_))));
        assert_eq!(std::fs::read(&path).expect("there"), foreign);
    }
}

#[test]
fn one_process_has_it_and_gives_it_on() {
    let store = Store::new();
    let mut session = store.embedded.session();
    store.ask("HSET s data d");
    let taken = load(store.directory.path(), &store.clock);
    assert!(matches!(taken, Err(OpenError::Taken(_))), "{taken:?}");
    store.embedded.close();
    let next = load(store.directory.path(), &store.clock).expect("loaded");
    assert_eq!(ask(&next, "HGET s data"), Value::Bulk("d".into()));
    let mut out = BytesMut::new();
    assert_eq!(session.execute(&request("HSET s data e"), &mut out), After::Close);
    assert!(out.starts_with(b"-LOADING "), "{out:?}");
    assert_eq!(ask(&next, "HGET s data"), Value::Bulk("d".into()));
}

#[test]
fn it_is_opened_again_with_what_another_process_did_meanwhile() {
    let store = Store::new();
    store.ask("SET a 1");
    store.embedded.close();
    let next = load(store.directory.path(), &store.clock).expect("loaded");
    ask(&next, "SET a 2");
    assert!(matches!(store.embedded.open_again(), Err(OpenError::Taken(_))));
    assert!(matches!(store.ask("GET a"), Value::Error(_)), "it is still closed");
    drop(next);
    store.embedded.open_again().expect("opened");
    assert_eq!(store.ask("GET a"), Value::Bulk("2".into()));
    store.ask("SET a 3");
    store.embedded.close();
    let last = load(store.directory.path(), &store.clock).expect("loaded");
    assert_eq!(ask(&last, "GET a"), Value::Bulk("3".into()));
}

#[test]
fn a_session_goes_on_as_another_one() {
    let store = Store::new();
    let mut out = BytesMut::new();
    let mut say = |session: &mut EmbeddedSession, words: &str| {
        out.clear();
        session.execute(&request(words), &mut out);
        String::from_utf8_lossy(&out).trim_end().to_owned()
    };
    let again = |session: &EmbeddedSession| {
        let mut next = store.embedded.session();
        next.resume(session.begun().iter().map(|request| &request.raw()[..]));
        next
    };
    let mut amid = store.embedded.session();
    for words in ["HELLO 3", "CLIENT SETNAME php", "SELECT 3", "WATCH k", "SELECT 2"] {
        assert!(!say(&mut amid, words).starts_with('-'));
    }
    let mut watching = again(&amid);
    assert_eq!((watching.database(), watching.name()), (2, &b"php"[..]));
    assert_eq!(watching.protocol(), resp::Protocol::Resp3);
    assert_eq!(say(&mut watching, "MULTI"), "+OK");
    assert_eq!(say(&mut watching, "EXEC"), "_", "others may have come in between");
    assert_eq!(say(&mut amid, "UNWATCH"), "+OK");
    assert_eq!(say(&mut amid, "MULTI"), "+OK");
    assert_eq!(say(&mut amid, "SET k v"), "+QUEUED");
    assert_eq!(say(&mut again(&amid), "EXEC"), "*1\r\n+OK");
    assert_eq!(say(&mut again(&amid), "DISCARD"), "+OK");
    assert!(say(&mut amid, "NONSENSE").starts_with('-'));
    assert!(say(&mut again(&amid), "EXEC").starts_with("-EXECABORT"));
}

#[test]
fn sessions_end_in_their_time_and_over_a_restart() {
    let store = Store::new();
    store.ask("SET short v EX 10");
    store.ask("SET long v EX 10000");
    store.ask("SET ever v");
    store.clock.advance(Duration::from_secs(11));
    store.embedded.end_sessions();
    assert_eq!(store.embedded.figures().keys, 2);
    store.embedded.close();
    let clock = Clock::manual();
    let again = load(store.directory.path(), &clock).expect("loaded");
    assert_eq!(again.figures().keys, 2);
    let Value::Integer(left) = ask(&again, "TTL long") else { panic!("a number") };
    assert!((9_000..=10_000).contains(&left), "{left}");
    clock.advance(Duration::from_secs(10_001));
    assert_eq!(ask(&again, "GET long"), Value::Null);
    assert_eq!(ask(&again, "TTL ever"), Value::Integer(-1));
}

#[test]
fn what_ended_and_was_begun_again_is_not_mixed_with_what_it_was() {
    let store = Store::new();
    store.ask("HSET s data old pid 1");
    store.ask("EXPIRE s 10");
    store.clock.advance(Duration::from_secs(11));
    store.ask("HINCRBY s lock 1");
    store.ask("EXPIRE s 100000");
    store.embedded.close();
    let again = load(store.directory.path(), &store.clock).expect("loaded");
    assert_eq!(ask(&again, "HLEN s"), Value::Integer(1));
}

#[test]
fn several_commands_are_done_together() {
    let store = Store::new();
    store.ask("HSET s pid web1|7 lock 1");
    let free = |pid: &str| {
        store.embedded.together(0, |ask| {
            if ask(&request("HGET s pid")) == Value::Bulk(Bytes::copy_from_slice(pid.as_bytes())) {
                ask(&request("HSET s lock 0"));
            }
        });
        store.ask("HGET s lock")
    };
    assert_eq!(free("web1|8"), Value::Bulk("1".into()));
    assert_eq!(free("web1|7"), Value::Bulk("0".into()));
    assert!(matches!(store.embedded.ask(0, b"*1\r\n$4\r\nPI"), Value::Error(_)));
}

/// Keys that take several pieces.
fn fill(store: &Store) {
    for key in 0..60 {
        store.ask(&format!("HSET big{key} data {}", "x".repeat(8_000)));
    }
}

/// Writes the journal anew, with commands between its steps; after each step `check` sees what there is.
fn rewrite(store: &Store, mut between: impl FnMut(usize), mut check: impl FnMut()) {
    let mut rewrite = Rewrite::begin(&store.embedded).expect("begun").expect("open");
    let mut number = 0;
    loop {
        for _ in 0..11 {
            between(number);
            number += 1;
        }
        check();
        if rewrite.step().expect("written") == Step::Walked {
            break;
        }
    }
    between(number);
    check();
    rewrite.finish().expect("in its place");
    check();
    assert!(number >= 44, "{number}: it took several steps");
}

/// A copy of the directory as it is now, as a process finds it after this one was killed.
fn after_a_crash(store: &Store) -> Embedded {
    let copy = tempfile::tempdir().expect("a directory");
    for file in std::fs::read_dir(store.directory.path()).expect("readable") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
    }
    let again = load(copy.path(), &store.clock).expect("loaded");
    let files: Vec<_> = std::fs::read_dir(copy.path()).expect("readable").collect();
    assert_eq!(files.len(), 2, "journal and lock: what was being written is removed");
    again
}

#[test]
fn it_is_written_anew_while_commands_go_on_and_a_crash_finds_all_at_any_step() {
    let store = Store::new();
    fill(&store);
    for number in 0..1_100 {
        store.ask(&command(number));
    }
    // Its pieces end between keys that commands move, copy and join.
    let between = |number: usize| {
        store.ask(&command(number));
        store.ask(&format!("RENAME big{} moved{number}", number % 60));
        store.ask(&format!("DEL big{}", (number * 11) % 60));
        store.ask(&format!("HSET big{} data y", (number * 13) % 60));
    };
    rewrite(&store, between, || {
        assert!(contents(&after_a_crash(&store)) == contents(&store.embedded));
    });
    assert_eq!(store.embedded.figures().rewrites, 1);
    // And it goes on in the new file.
    for number in 0..50 {
        store.ask(&command(number));
    }
    assert!(contents(&after_a_crash(&store)) == contents(&store.embedded));
}

#[test]
fn without_what_is_changed_meanwhile_the_new_journal_is_wrong() {
    let store = Store::new();
    fill(&store);
    let between = |number: usize| {
        store.embedded.inner.lock().keyspace.keep_touched(false);
        store.ask(&format!("RENAME big{} moved{number}", number % 60));
    };
    rewrite(&store, between, || {});
    assert!(contents(&after_a_crash(&store)) != contents(&store.embedded));
}

#[test]
fn emptied_databases_end_a_rewriting_and_the_old_journal_stays() {
    let store = Store::new();
    fill(&store);
    for words in ["FLUSHALL", "SWAPDB 0 1"] {
        let mut rewrite = Rewrite::begin(&store.embedded).expect("begun").expect("open");
        rewrite.step().expect("written");
        store.ask(words);
        store.ask("SET k v");
        rewrite.step().expect_err("given up");
        drop(rewrite);
        assert!(contents(&after_a_crash(&store)) == contents(&store.embedded));
    }
    store.embedded.write_anew().expect("written");
    assert!(contents(&after_a_crash(&store)) == contents(&store.embedded));
    // One that is closed meanwhile touches nothing that the next process has.
    let mut rewrite = Rewrite::begin(&store.embedded).expect("begun").expect("open");
    while rewrite.step().expect("written") == Step::More {}
    store.embedded.close();
    let before = store.bytes();
    rewrite.finish().expect_err("closed");
    assert!(Rewrite::begin(&store.embedded).expect("looked").is_none());
    assert_eq!(store.bytes(), before);
}

#[test]
fn a_journal_that_has_grown_is_written_anew() {
    let store = Store::new();
    for number in 0..60 {
        store.ask(&format!("HSET s data {}{number}", "x".repeat(20_000)));
        store.embedded.sync_if_due();
        if store.embedded.is_rewrite_due() {
            store.embedded.rewrite();
        }
        store.clock.advance(Duration::from_secs(6));
    }
    let figures = store.embedded.figures();
    assert_eq!((figures.rewrites, figures.failures), (1, 0));
    assert!(figures.journal_bytes < 200_000, "{figures:?}");
    assert_eq!(figures.journal_bytes, store.bytes().len() as u64);
}

#[test]
fn memory_has_a_bound_and_what_is_refused_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let bounds = Bounds { memory_max_bytes: 10_000, ..Bounds::default() };
    let clock = Clock::manual();
    let path = directory.path().join("sessions");
    let store = Embedded::open(&path, bounds, &clock).expect("opened");
    ask(&store, &format!("SET k {}", "x".repeat(10_000)));
    let Value::Error(text) = ask(&store, "SET l v") else { panic!("refused") };
    assert!(text.starts_with(b"OOM "), "{text:?}");
    assert_eq!(store.figures().refused, 1);
    // What is there already is loaded, whatever the bound is.
    drop(store);
    let mut again = Embedded::open(&path, bounds, &clock);
    for _ in 0..100 {
        if again.is_ok() {
            break;
        }
        // The thread of the one before lets go of it in its next turn.
        std::thread::sleep(Duration::from_millis(50));
        again = Embedded::open(&path, bounds, &clock);
    }
    assert_eq!(again.expect("opened").figures().keys, 1);
}

#[test]
fn without_a_journal_all_is_in_memory() {
    let clock = Clock::manual();
    let store = Embedded::open(Path::new(""), Bounds::default(), &clock).expect("opened");
    ask(&store, "SET k v EX 10");
    assert_eq!(ask(&store, "GET k"), Value::Bulk("v".into()));
    assert!(store.inner.lock().keyspace.take_effects().is_empty(), "nobody would take them");
    clock.advance(Duration::from_secs(11));
    store.end_sessions();
    store.sync_if_due();
    assert!(!store.is_rewrite_due());
    assert_eq!((store.figures().keys, store.figures().is_behind), (0, false));
    store.close();
    assert!(matches!(ask(&store, "GET k"), Value::Error(_)));
}
