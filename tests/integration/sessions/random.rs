//! Random commands of several clients, at Parvis and at a Redis of their own: equal replies.
//!
//! `PARVIS_SESSION_COMMANDS` says how many commands; `PARVIS_SESSION_SEED` repeats a run.

use bytes::{Bytes, BytesMut};

use super::{Client, node, packed, text};
use crate::support::chance::Chance;
use crate::support::redis::Redis;

const CLIENTS: usize = 5;

struct Dice(Chance);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        (self.0.number() >> 33) % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        self.0.one(all)
    }

    fn key(&mut self) -> String {
        format!("k{}", self.roll(8))
    }

    fn session(&mut self) -> String {
        format!("sess_{}", self.roll(4))
    }

    fn number(&mut self) -> String {
        self.roll(100).to_string()
    }

    /// A text of any length, now and then a long one.
    fn text(&mut self) -> String {
        let length = match self.roll(20) {
            0 => self.roll(40_000),
            1 => 0,
            _ => self.roll(40),
        };
        let letter = char::from(b'a' + u8::try_from(self.roll(26)).expect("small"));
        std::iter::repeat_n(letter, usize::try_from(length).expect("small")).collect()
    }
}

/// A command that goes anywhere, also within a transaction.
fn plain(dice: &mut Dice) -> String {
    let (key, other, field) = (dice.key(), dice.key(), format!("f{}", dice.roll(5)));
    let (number, text, session) = (dice.number(), dice.text(), dice.session());
    match dice.roll(40) {
        0..3 => format!("SET {key} {text}"),
        3..5 => format!("GET {key}"),
        5 => format!("INCRBY {key} {number}"),
        6 => format!("APPEND {key} {number}"),
        7 => format!("MSET {key} {number} {other} {text}"),
        8 => format!("MGET {key} {other} nothing"),
        9 => format!("DEL {key}"),
        10..12 => format!("HSET h{key} {field} {text}"),
        12 => format!("HMGET h{key} f0 f1 f2 f3"),
        13 => format!("HLEN h{key}"),
        14 => format!("HINCRBY h{key} n {number}"),
        15 => format!("HDEL h{key} {field}"),
        16..19 => format!("HMSET {session} data {text} lock 0 pid host|{number}"),
        19 => format!("HINCRBY {session} writes 1"),
        20 => format!("HMGET {session} data writes"),
        21 => format!("EXPIRE {session} 21600"),
        22 => format!("RPUSH l{key} {number} {text}"),
        23 => format!("LRANGE l{key} 0 3"),
        24 => format!("LPOP l{key} 2"),
        25 => format!("ZADD z{key} {number} a 2 b"),
        26 => format!("ZRANGE z{key} 0 -1 WITHSCORES"),
        27 => format!("SADD s{key} 1 2 {number}"),
        28 => format!("SCARD s{key}"),
        29 => format!("INCR h{key}"),
        30 => format!("GET {key} {other}"),
        31 => format!("NONSENSE {key} {number}"),
        32 => "TYPE hk1".to_owned(),
        33 => format!("EVAL return{{KEYS[1],ARGV[1],{number}}} 1 {key} x"),
        34 => format!("ECHO {text}"),
        35 => "PING".to_owned(),
        36 => format!("UNLINK {session}"),
        37 => format!("XADD x{key} 0-* a {number}"),
        38 => format!("STRLEN {key}"),
        _ => "EXISTS k0 k1 k2".to_owned(),
    }
}

/// What is about the connection, or waits.
fn of_connection(dice: &mut Dice, is_listed: &mut bool) -> String {
    match dice.roll(13) {
        0..4 => format!("SELECT {}", dice.of(&["0", "1", "2", "3", "2", "16", "x", "-1"])),
        4 => "CLIENT GETNAME".to_owned(),
        5 => format!("CLIENT SETNAME n{}", dice.number()),
        6 => "CLIENT NO-EVICT off".to_owned(),
        7 => format!("BLPOP l{} 0.001", dice.key()),
        8 => format!("AUTH {}", dice.of(&["x", "default x", "other x", "a b c"])),
        9 => {
            // It says who it is, which differs.
            *is_listed = true;
            format!("HELLO {}", dice.of(&["2", "3", "3", "4", "x"]))
        }
        10 => "RESET".to_owned(),
        11 => dice.of(&["EXEC", "DISCARD", "UNWATCH", "MULTI x", "EXEC x"]).to_owned(),
        _ => "OBJECT HELP x".to_owned(),
    }
}

/// What a client sends together, and how many replies that has.
struct Step {
    commands: Vec<String>,
    /// It is written in pieces, with a pause: a transaction that does not come whole.
    in_pieces: bool,
    says_who: bool,
}

/// What a client may be amid.
#[derive(Clone, Copy, Default)]
struct State {
    in_transaction: bool,
    watches: bool,
}

fn step(dice: &mut Dice, state: &mut State) -> Step {
    let mut says_who = false;
    let mut commands = Vec::new();
    let mut in_pieces = false;
    match dice.roll(20) {
        // Amid a transaction or a watch Parvis refuses some of these, and says so.
        0 if !state.in_transaction && !state.watches => {
            commands.push(of_connection(dice, &mut says_who));
        }
        1..4 => {
            commands.push("MULTI".to_owned());
            for _ in 0..dice.roll(6) {
                let strange = ["SELECT 1", "MULTI", "WATCH k1", "BLPOP nothing 0", "SELECT 99"];
                let is_strange = dice.roll(12) == 0;
                commands.push(if is_strange { dice.of(&strange).to_owned() } else { plain(dice) });
            }
            commands.push(dice.of(&["EXEC", "EXEC", "EXEC", "DISCARD"]).to_owned());
            in_pieces = dice.roll(4) == 0;
            *state = State::default();
        }
        4 => {
            commands.push(format!("WATCH {} {}", dice.key(), dice.session()));
            state.watches |= !state.in_transaction;
        }
        5 => {
            commands.extend(["UNWATCH".to_owned(), plain(dice)]);
            state.watches &= state.in_transaction;
        }
        // Left open: it goes on with this client's next step.
        6 if dice.roll(4) == 0 => {
            commands.push("MULTI".to_owned());
            state.in_transaction = true;
        }
        _ => (0..=dice.roll(12)).for_each(|_| commands.push(plain(dice))),
    }
    Step { commands, in_pieces, says_who }
}

#[test]
fn random_commands_of_several_clients_get_the_same_replies_as_from_redis_itself() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let commands_max = number("PARVIS_SESSION_COMMANDS", 100_000);
    let seed = number("PARVIS_SESSION_SEED", u64::from(std::process::id()));
    let (behind, direct) = (Redis::start(), Redis::start());
    let (_node, port) = node(&behind.url(), |builder| builder);
    let mut dice = Dice(Chance::of(seed));
    let connect = |port| (0..CLIENTS).map(|_| Client::connect(port)).collect::<Vec<_>>();
    let (mut ours, mut its) = (connect(port), connect(direct.port));
    let mut states = [State::default(); CLIENTS];
    let mut asked = 0;
    let mut history: Vec<String> = Vec::new();
    while asked < commands_max {
        let at = usize::try_from(dice.roll(CLIENTS as u64)).expect("small");
        let step = step(&mut dice, &mut states[at]);
        let all: Vec<Bytes> = step.commands.iter().map(|command| packed(command)).collect();
        if step.in_pieces {
            for command in &all {
                ours[at].send(command);
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        } else {
            ours[at].send(&all.iter().fold(BytesMut::new(), |mut out, command| {
                out.extend_from_slice(command);
                out
            }));
        }
        for command in &all {
            its[at].send(command);
        }
        for command in &step.commands {
            history.push(format!("{at}: {}", &command[..command.len().min(60)]));
            let (our, its) = (ours[at].reply(), its[at].reply());
            let first = |reply: &Option<Bytes>| reply.as_ref().map(|reply| reply[0]);
            let is_same =
                our.is_some() && (our == its || step.says_who && first(&our) == first(&its));
            let own: Vec<_> = history
                .iter()
                .rev()
                .filter(|line| line.starts_with(&format!("{at}: ")))
                .take(40)
                .collect();
            let shown = |reply: Option<Bytes>| {
                reply.map_or("nothing".to_owned(), |reply| text(&reply[..reply.len().min(300)]))
            };
            assert!(
                is_same,
                "seed {seed}, after {asked}\n{}\nParvis {}\nRedis  {}",
                own.into_iter().rev().cloned().collect::<Vec<_>>().join("\n"),
                shown(our),
                shown(its)
            );
            asked += 1;
        }
    }
    for database in ["0", "1", "2", "3"] {
        let digest = |redis: &Redis| redis.ask(&["-n", database, "dbsize"]);
        assert_eq!(digest(&behind), digest(&direct), "seed {seed}");
    }
}
