//! The access log's writer: one thread that no request waits for.
//!
//! It sleeps until the first line comes, then gathers lines for a moment and writes them in one
//! go. Lines come to it as text. A writer that is stuck (a full pipe, a hanging disk) costs lines, never requests.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::ObserveError;
use super::line::LineWriter;
use super::queue::{Pushed, Queue};
use super::record::Record;
use crate::clock::{Clock, Moment};
use crate::settings;

/// How long lines are gathered before they are written. The writer may share a core with who
/// serves requests: what it writes in one go is what a request may have to wait for.
const GATHER: Duration = Duration::from_millis(5);

/// How often lost lines are reported.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Where the lines go.
pub(super) struct Output {
    file: File,
    /// Where it can be opened again.
    path: Option<PathBuf>,
    /// The last write stopped within a line.
    torn: bool,
}

impl Output {
    fn stdout() -> Result<Self, ObserveError> {
        let owned = io::stdout().as_fd().try_clone_to_owned();
        owned
            .map(|owned| Self::of(File::from(owned)))
            .map_err(|source| ObserveError::Stdout { source })
    }

    fn path(path: &Path) -> Result<Self, ObserveError> {
        match open(path) {
            Ok(file) => Ok(Self { path: Some(path.to_owned()), ..Self::of(file) }),
            Err(source) => Err(ObserveError::Open { path: path.to_owned(), source }),
        }
    }

    fn of(file: File) -> Self {
        Self { file, path: None, torn: false }
    }

    /// Writes whole lines and says how many did not make it.
    fn write(&mut self, text: &[u8]) -> (usize, Option<io::Error>) {
        let mut rest = text;
        let mut failure = None;
        // The rest of a torn line and the next one must not look like one line.
        if self.torn {
            match self.file.write_all(b"\n") {
                Ok(()) => self.torn = false,
                Err(error) => failure = Some(error),
            }
        }
        while failure.is_none() && !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => failure = Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failure = Some(error),
            }
        }
        (memchr::memchr_iter(b'\n', rest).count(), failure)
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
            }
            Err(error) => tracing::error!(
                path = %path.display(), %error,
                "cannot open the access log again; it goes on where it was"
            ),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

struct Shared {
    queue: Queue,
    written: AtomicU64,
    idle: AtomicBool,
    reopen: AtomicBool,
    closing: AtomicBool,
}

/// The access log.
pub(super) struct AccessLog {
    shared: Arc<Shared>,
    writer: Thread,
    finished: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the log; `None` where it is off.
    pub(super) fn open(log: &settings::Log, clock: &Clock) -> Result<Option<Self>, ObserveError> {
        let output = match &log.access {
            settings::AccessLog::Off => return Ok(None),
            settings::AccessLog::Stdout => Output::stdout()?,
            settings::AccessLog::File(path) => Output::path(path)?,
        };
        Self::start(output, log, clock).map(Some)
    }

    fn start(output: Output, log: &settings::Log, clock: &Clock) -> Result<Self, ObserveError> {
        let shared = Arc::new(Shared {
            queue: Queue::new(log.queue_max, &LineWriter::new(log.format, log.shorten_addresses)),
            written: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let (finish, finished) = sync_channel(1);
        let writer = Writer {
            shared: Arc::clone(&shared),
            output,
            clock: clock.clone(),
            reported_lost: 0,
            reported_at: None,
            finish,
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| ObserveError::Thread { source })?;
        let writer = thread.thread().clone();
        Ok(Self { shared, writer, finished: Mutex::new(finished) })
    }

    /// Takes a record in; never waits. `ended`: since the clock's origin.
    pub(super) fn push(&self, record: &Record<'_>, ended: Duration) {
        if self.shared.closing.load(Ordering::Relaxed) {
            return self.shared.queue.lose(1);
        }
        let pushed = self.shared.queue.push(record, ended);
        // The writer raises `idle` before it looks at the queue for the last time, and both sides
        // look under the queue's lock: either it sees the line or this sees `idle`.
        let idle = self.shared.idle.load(Ordering::Relaxed);
        if pushed == Pushed::HalfFull || (idle && self.shared.idle.swap(false, Ordering::Relaxed)) {
            self.writer.unpark();
        }
    }

    /// Has the file opened again, after what waits has been written to the old one.
    pub(super) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Writes what waits and ends the writer; says whether that was done within `deadline`.
    /// Blocks. Later lines count as lost.
    pub(super) fn close(&self, deadline: Duration) -> bool {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
        // The sender goes away with the writer: a second call finds it gone.
        let finished = self.finished.lock().recv_timeout(deadline);
        !matches!(finished, Err(std::sync::mpsc::RecvTimeoutError::Timeout))
    }

    pub(super) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.shared.queue.lost()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

struct Writer {
    shared: Arc<Shared>,
    output: Output,
    clock: Clock,
    reported_lost: u64,
    reported_at: Option<Moment>,
    finish: SyncSender<()>,
}

impl Writer {
    fn run(mut self) {
        let mut spares = self.shared.queue.spares();
        let mut text = Vec::new();
        loop {
            // Read before the queue is: what was pushed before a close is still written.
            let closing = self.shared.closing.load(Ordering::Acquire);
            let reopen = self.shared.reopen.swap(false, Ordering::AcqRel);
            text.clear();
            let lines = self.shared.queue.drain(&mut text, &mut spares);
            let idle = lines == 0;
            if !idle {
                self.write(&text, lines);
            }
            if reopen {
                self.output.reopen();
            }
            if closing {
                self.report_lost();
                break;
            }
            self.report_lost_from_time_to_time();
            self.rest(idle);
        }
        // Nobody may wait any more.
        let _ = self.finish.try_send(());
    }

    fn write(&mut self, text: &[u8], lines: usize) {
        let (lost, failure) = self.output.write(text);
        self.shared.written.fetch_add((lines - lost) as u64, Ordering::Relaxed);
        if let Some(error) = failure {
            self.shared.queue.lose(lost as u64);
            if self.may_report() {
                tracing::error!(%error, "cannot write to the access log");
                self.report_lost();
            }
        }
    }

    fn rest(&self, idle: bool) {
        if !idle {
            return std::thread::park_timeout(GATHER);
        }
        self.shared.idle.store(true, Ordering::Relaxed);
        let woken = self.shared.closing.load(Ordering::Acquire)
            || self.shared.reopen.load(Ordering::Acquire)
            || !self.shared.queue.is_empty();
        if !woken {
            std::thread::park_timeout(REPORT_INTERVAL);
        }
        if self.shared.idle.swap(false, Ordering::Relaxed) {
            return;
        }
        std::thread::park_timeout(GATHER);
    }

    fn may_report(&self) -> bool {
        let now = self.clock.now();
        self.reported_at.is_none_or(|before| now.since(before) >= REPORT_INTERVAL)
    }

    fn report_lost_from_time_to_time(&mut self) {
        if self.may_report() {
            self.report_lost();
        }
    }

    fn report_lost(&mut self) {
        let lost = self.shared.queue.lost();
        if lost > self.reported_lost {
            tracing::warn!(lines = lost - self.reported_lost, "access log lines were lost");
            self.reported_lost = lost;
            self.reported_at = Some(self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests;
