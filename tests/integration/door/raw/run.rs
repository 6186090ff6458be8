//! Sends a case and looks at what comes of it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::case::{Case, Expected, Kind};

/// Where cases are sent.
pub struct Runner<'a> {
    pub port: u16,
    pub kind: Kind,
    /// How many pieces a case is sent in.
    pub pieces: usize,
    /// How long silence is waited out.
    pub patience: Duration,
    /// How many requests the origin has seen.
    pub count: &'a dyn Fn() -> usize,
}

/// What came of a case.
#[derive(Debug, Default, PartialEq, Eq)]
struct Observed {
    statuses: Vec<u16>,
    /// The connection took and answered another request.
    stays_open: bool,
    /// What is wrong besides.
    complaint: Option<String>,
    origin: usize,
    saw: Option<String>,
}

impl fmt::Display for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.stays_open { "open" } else { "close" };
        write!(formatter, "{:?} {end} origin {}", self.statuses, self.origin)?;
        write!(formatter, " saw {:?} {:?}", self.saw, self.complaint)
    }
}

/// Runs all cases; tells which went wrong, and how.
pub fn mismatches(runner: &Runner<'_>, cases: &[Case]) -> Vec<String> {
    let before = (runner.count)();
    let (mut wrong, mut total) = (Vec::new(), 0);
    for (number, case) in cases.iter().enumerate() {
        let expected = case.expected(runner.kind);
        let observed = observe(runner, case, expected, number);
        total += observed.origin + usize::from(observed.stays_open);
        if !is_as(&observed, expected) {
            wrong.push(format!("{}: {}: {observed}, not {expected:?}", case.file, case.name));
        }
    }
    // A request that was smuggled may reach the origin later than the answer its client.
    let after = (runner.count)() - before;
    if after != total {
        wrong.push(format!("the origin has seen {after} requests in all, not {total}"));
    }
    wrong
}

fn is_as(observed: &Observed, expected: &Expected) -> bool {
    observed.statuses.iter().eq(expected.statuses.iter().map(|status| &status.number))
        && observed.stays_open == expected.stays_open
        && observed.complaint.is_none()
        && observed.origin == expected.origin
        && (expected.saw.is_none() || observed.saw == expected.saw)
}

fn observe(runner: &Runner<'_>, case: &Case, expected: &Expected, number: usize) -> Observed {
    let before = (runner.count)();
    let mut observed = Observed::default();
    let mut answers = Answers::connect(runner);
    let bytes = case.bytes(number);
    for piece in bytes.chunks(bytes.len().div_ceil(runner.pieces).max(1)) {
        answers.send(piece);
        std::thread::yield_now();
    }
    if case.half_close {
        let _ = answers.stream.shutdown(Shutdown::Write);
    }
    while !(expected.stays_open && observed.statuses.len() == expected.statuses.len()) {
        let status = expected.statuses.get(observed.statuses.len());
        match answers.next(status.is_some_and(|status| status.head_only)) {
            Ok(Some(answer)) => {
                observed.statuses.push(answer.status);
                observed.saw = observed.saw.or(answer.field("x-saw"));
            }
            Ok(None) => break,
            Err(complaint) => {
                observed.complaint = Some(complaint);
                break;
            }
        }
    }
    if expected.stays_open && observed.complaint.is_none() {
        observed.complaint = answers.sentinel(number).err();
        observed.stays_open = observed.complaint.is_none();
    }
    observed.origin = (runner.count)() - before - usize::from(observed.stays_open);
    observed
}

/// The answers that come on a connection.
struct Answers {
    stream: TcpStream,
    read: Vec<u8>,
}

struct Answer {
    status: u16,
    head: String,
    content: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

impl Answers {
    fn connect(runner: &Runner<'_>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", runner.port)).expect("a listener");
        stream.set_read_timeout(Some(runner.patience)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new() }
    }

    /// What the other end no longer takes is lost.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Is the connection in step? One more request is answered as itself, and then it ends.
    fn sentinel(&mut self, number: usize) -> Result<(), String> {
        let line = format!("POST /sentinel-{number}");
        let fields = "Host: shop.test\r\nConnection: close\r\nContent-Length: 0";
        self.send(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes());
        let answer = self.next(false)?.ok_or("closed before the sentinel")?;
        let content = String::from_utf8_lossy(&answer.content);
        if answer.status != 200 || content != line {
            return Err(format!("{} {content:?} to the sentinel", answer.status));
        }
        match self.next(false)? {
            None => Ok(()),
            Some(answer) => Err(format!("{} behind the sentinel", answer.status)),
        }
    }

    /// The next answer; `None`: the connection was closed in between.
    fn next(&mut self, head_only: bool) -> Result<Option<Answer>, String> {
        let Some(at) = self.find(b"\r\n\r\n")? else {
            return if self.read.is_empty() { Ok(None) } else { Err(self.odd("a broken head")) };
        };
        let head = String::from_utf8_lossy(&self.take(at + 4)).into_owned();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| format!("no status line: {head:?}"))?;
        let mut answer = Answer { status, head, content: Vec::new() };
        if head_only || status < 200 || matches!(status, 204 | 304) {
            return Ok(Some(answer));
        }
        if answer.field("transfer-encoding").is_some() {
            loop {
                let at = self.find(b"\r\n")?.ok_or("a broken chunk")?;
                let line = String::from_utf8_lossy(&self.take(at + 2)).into_owned();
                let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| line)?;
                answer.content.extend(self.exactly(size)?);
                self.exactly(2)?;
                if size == 0 {
                    return Ok(Some(answer));
                }
            }
        }
        answer.content = if let Some(length) = answer.field("content-length") {
            self.exactly(length.parse().map_err(|_| length)?)?
        } else {
            while self.more()? {}
            std::mem::take(&mut self.read)
        };
        Ok(Some(answer))
    }

    fn odd(&self, what: &str) -> String {
        format!("{what}: {:?}", String::from_utf8_lossy(&self.read))
    }

    fn find(&mut self, end: &[u8]) -> Result<Option<usize>, String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Ok(Some(at));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.read.len() < count {
            if !self.more()? {
                return Err(self.odd("content cut short"));
            }
        }
        Ok(self.take(count))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let after = self.read.split_off(count);
        std::mem::replace(&mut self.read, after)
    }

    /// Reads once; `false` at the end, for which a reset counts too.
    fn more(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(_) => Err(self.odd("silence")),
        }
    }
}
