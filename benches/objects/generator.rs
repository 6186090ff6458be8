//! Sends commands to a server that speaks RESP over a Unix socket, and says how that went. It uses nothing but
//! the standard library, so that `rustc` alone builds it.
//!
//! `generator SOCKET COMMANDS CONNECTIONS SECONDS RATE`: COMMANDS is a file of packed commands, each behind its
//! length (32 bits, little-endian). SECONDS 0: each of them once. RATE 0: as fast as it goes, one command of each
//! connection under way; else so many per second are due at fixed times, whatever came back (open loop), and
//! times count from when a command was due. It prints `done seconds p50 p99`, the last two in microseconds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connection, and what came over it.
struct Line {
    stream: UnixStream,
    came: Vec<u8>,
    /// When what is awaited was due.
    due: VecDeque<Instant>,
}

/// The length of the first reply, once it is whole.
fn reply(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let number = || -> i64 {
        let text = std::str::from_utf8(&bytes[1..end - 2]).expect("digits");
        text.parse().expect("a number")
    };
    match bytes[0] {
        b'$' => match number() {
            -1 => Some(end),
            length => {
                let whole = end + length as usize + 2;
                (bytes.len() >= whole).then_some(whole)
            }
        },
        b'*' => (0..number().max(0)).try_fold(end, |at, _| Some(at + reply(&bytes[at..])?)),
        b'-' => panic!("{}", String::from_utf8_lossy(&bytes[..end])),
        _ => Some(end),
    }
}

impl Line {
    fn to(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).expect("connected");
        stream.set_nonblocking(true).expect("set");
        Self { stream, came: Vec::new(), due: VecDeque::new() }
    }

    fn send(&mut self, mut bytes: &[u8], due: Instant, piece: &mut [u8], took: &mut Vec<u32>) {
        self.due.push_back(due);
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.take(piece, took),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes what came; how long each took that came whole.
    fn take(&mut self, piece: &mut [u8], took: &mut Vec<u32>) {
        loop {
            match self.stream.read(piece) {
                Ok(0) => panic!("closed"),
                Ok(count) => self.came.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            let mut at = 0;
            while let Some(length) = reply_at(&self.came, at) {
                at += length;
                let due = self.due.pop_front().expect("awaited");
                took.push(due.elapsed().as_nanos() as u32);
            }
            self.came.drain(..at);
        }
    }
}

fn reply_at(bytes: &[u8], at: usize) -> Option<usize> {
    if at == bytes.len() { None } else { reply(&bytes[at..]) }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, file, connections, seconds, rate] = &arguments[..] else {
        panic!("five arguments")
    };
    let bytes = std::fs::read(file).expect("commands");
    let mut commands = Vec::new();
    let mut rest = &bytes[..];
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (command, more) = more.split_at(u32::from_le_bytes(*length) as usize);
        commands.push(command);
        rest = more;
    }
    let connections: usize = connections.parse().expect("a number");
    let run = Duration::from_secs_f64(seconds.parse().expect("a number"));
    let rate: f64 = rate.parse().expect("a number");
    let mut lines: Vec<Line> = (0..connections).map(|_| Line::to(socket)).collect();
    let mut took: Vec<u32> = Vec::with_capacity(4 << 20);
    let mut piece = vec![0; 64 << 10];
    let began = Instant::now();
    if run.is_zero() {
        for command in &commands {
            lines[0].send(command, began, &mut piece, &mut took);
            while !lines[0].due.is_empty() {
                lines[0].take(&mut piece, &mut took);
            }
        }
    } else if rate == 0.0 {
        let mut next: Vec<usize> = (0..connections).map(|at| at * 61 % commands.len()).collect();
        while began.elapsed() < run {
            for (line, next) in lines.iter_mut().zip(&mut next) {
                if !line.due.is_empty() {
                    line.take(&mut piece, &mut took);
                }
                if line.due.is_empty() {
                    line.send(commands[*next], Instant::now(), &mut piece, &mut took);
                    *next = (*next + 1) % commands.len();
                }
            }
        }
    } else {
        let mut sent = 0_usize;
        while began.elapsed() < run {
            let due = began + Duration::from_secs_f64(sent as f64 / rate);
            if due <= Instant::now() {
                lines[sent % connections].send(commands[sent % commands.len()], due, &mut piece, &mut took);
                sent += 1;
            }
            lines
                .iter_mut()
                .filter(|line| !line.due.is_empty())
                .for_each(|line| line.take(&mut piece, &mut took));
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let done = took.len();
    took.sort_unstable();
    let at = |percent: usize| took.get(done * percent / 100).map_or(0.0, |it| f64::from(*it) / 1e3);
    println!("{done} {elapsed} {} {}", at(50), at(99));
}
