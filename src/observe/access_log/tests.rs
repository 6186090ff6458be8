use super::super::record::tests::record;
use super::*;
use std::io::Read;
use std::os::fd::OwnedFd;

fn settings(path: &Path, queue_max: usize) -> settings::Log {
    settings::Log {
        access: settings::AccessLog::File(path.to_owned()),
        queue_max,
        ..settings::Log::default()
    }
}

/// Pushes a line with this number.
fn push(log: &AccessLog, number: usize) {
    let target = format!("/{number}");
    log.push(&Record { target: target.as_bytes(), ..record() }, Duration::ZERO);
}

/// The numbers of the lines of a file.
fn numbers(text: &str) -> Vec<usize> {
    let number = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
        value["target"].as_str().and_then(|target| target[1..].parse().ok()).expect("a number")
    };
    text.lines().map(number).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn lines_are_written_without_waiting_for_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let log =
        AccessLog::open(&settings(&path, 1_000), &Clock::system()).expect("open").expect("on");
    for number in 0..3 {
        push(&log, number);
        wait_until("the line is there", || {
            numbers(&std::fs::read_to_string(&path).expect("readable")).last() == Some(&number)
        });
    }
    assert_eq!((log.written(), log.lost()), (3, 0));
}

#[test]
fn close_writes_what_waits_and_later_lines_count_as_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let log =
        AccessLog::open(&settings(&path, 1_000), &Clock::system()).expect("open").expect("on");
    (0..100).for_each(|number| push(&log, number));
    assert!(log.close(LONG));
    assert!(log.close(LONG), "closing twice does no harm");
    push(&log, 100);
    let written = numbers(&std::fs::read_to_string(&path).expect("readable"));
    assert_eq!(written.len() as u64 + log.lost(), 101);
    assert_eq!(written.len() as u64, log.written());
    assert!(log.lost() >= 1);
}

#[test]
fn rename_and_reopen_loses_no_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let log =
        AccessLog::open(&settings(&path, 1 << 20), &Clock::system()).expect("open").expect("on");
    let turns = 10;
    let per_turn = 500;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..turns * per_turn {
                push(&log, number);
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        for turn in 0..turns {
            let old = directory.path().join(format!("access.log.{turn}"));
            std::fs::rename(&path, old).expect("renamed");
            log.reopen();
            wait_until("a new file", || path.exists());
        }
    });
    push(&log, turns * per_turn);
    assert!(log.close(LONG));
    let newest = numbers(&std::fs::read_to_string(&path).expect("readable"));
    assert!(newest.contains(&(turns * per_turn)), "it goes on in the new file");
    let mut all: Vec<usize> = std::fs::read_dir(directory.path())
        .expect("readable")
        .flat_map(|entry| {
            numbers(&std::fs::read_to_string(entry.expect("an entry").path()).expect("readable"))
        })
        .collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..=turns * per_turn), "{} lines", all.len());
    assert_eq!(log.lost(), 0);
}

#[test]
fn a_reopen_that_fails_goes_on_with_the_old_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let log = AccessLog::open(&settings(&path, 100), &Clock::system()).expect("open").expect("on");
    let old = directory.path().join("old");
    std::fs::rename(&path, &old).expect("renamed");
    std::fs::create_dir(&path).expect("in the way");
    log.reopen();
    push(&log, 1);
    assert!(log.close(LONG));
    assert_eq!(numbers(&std::fs::read_to_string(&old).expect("readable")), [1]);
}

#[test]
fn a_stuck_reader_costs_lines_and_never_a_wait() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let log = settings::Log { queue_max: 500, ..settings::Log::default() };
    let output = Output::of(File::from(OwnedFd::from(writer)));
    let log = AccessLog::start(output, &log, &Clock::system()).expect("started");
    // A pipe takes 64 KiB; the rest stays in the queue, and what exceeds that is lost.
    let total = 5_000_usize;
    (0..total).for_each(|number| push(&log, number));
    wait_until("lines are lost", || {
        push(&log, total);
        log.lost() > 0
    });
    assert!(!log.close(Duration::from_millis(50)), "it is stuck, and the deadline holds");
    let mut text = String::new();
    let reading = std::thread::spawn(move || {
        reader.read_to_string(&mut text).expect("readable");
        text
    });
    assert!(log.close(LONG), "once somebody reads, it ends");
    let (written, lost) = (log.written(), log.lost());
    drop(log);
    let read = numbers(&reading.join().expect("joined"));
    assert_eq!(read.len() as u64, written);
    assert!(lost > 0 && written > 0);
}

#[test]
fn what_cannot_be_written_is_counted_and_a_torn_line_is_ended() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut output = Output::of(full);
    let (lost, failure) = output.write(b"a\nb\n");
    assert_eq!(lost, 2);
    assert!(failure.is_some());
    assert!(!output.torn);

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let mut output = Output::path(&path).expect("open");
    output.write(b"{\"torn\":");
    assert!(output.torn);
    output.write(b"{}\n");
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), "{\"torn\":\n{}\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let path = Path::new("/nonexistent/access.log");
    let result = AccessLog::open(&settings(path, 10), &Clock::system());
    let error = result.err().expect("an error").to_string();
    assert!(error.contains("log.access") && error.contains("/nonexistent/access.log"), "{error}");
}
