//! What the store says of a throwaway session: it is empty, its lock is free, all is written.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Mint;
use crate::resp::{Protocol, Request, write};

/// Commands about one key, and what they are answered; anything else goes to the store, which
/// knows no such key.
enum Answer {
    /// As of a field that becomes what is added.
    Sum,
    Status,
    Integer(i64),
    /// A null for each name.
    Nulls(usize),
    Null,
    NoPairs,
    /// The `pid` that this client wrote.
    Holder,
}

/// Answers one client's commands about throwaway sessions, outside its transactions.
pub struct Answers {
    mint: Arc<Mint>,
    key_prefix: Vec<u8>,
    /// The key that this client wrote last, and the `pid` it wrote: the handler asks for that before it
    /// writes the session, and must find itself.
    holder: Option<(Bytes, Bytes)>,
}

impl Answers {
    /// For a client that connected.
    pub fn new(mint: Arc<Mint>, key_prefix: &[u8]) -> Self {
        Self { mint, key_prefix: key_prefix.to_owned(), holder: None }
    }

    /// Is this a command that is answered here?
    pub fn take(&self, request: &Request) -> bool {
        request.arg(1).is_some_and(|key| self.is_own(key)) && answer_of(request).is_some()
    }

    /// Answers the command where it is about a throwaway session; says whether it was.
    ///
    /// A command about several keys is the store's, even if one of them is such a session's.
    pub fn answer(&mut self, request: &Request, protocol: Protocol, out: &mut BytesMut) -> bool {
        let Some(key) = request.arg(1).filter(|key| self.is_own(key)) else { return false };
        let Some(answer) = answer_of(request) else { return false };
        match answer {
            Answer::Sum => {
                let by = request.arg(3).and_then(|by| std::str::from_utf8(by).ok());
                write::integer(out, by.and_then(|by| by.parse().ok()).unwrap_or(1));
            }
            Answer::Status => write::simple(out, "OK"),
            Answer::Integer(number) => write::integer(out, number),
            Answer::Nulls(names) => {
                write::array(out, names);
                for _ in 0..names {
                    write::null(out, protocol);
                }
            }
            Answer::Null => write::null(out, protocol),
            Answer::NoPairs => write::map(out, protocol, 0),
            Answer::Holder => match &self.holder {
                Some((own, pid)) if &own[..] == key => write::bulk(out, pid),
                _ => write::null(out, protocol),
            },
        }
        self.note_holder(request);
        true
    }

    fn is_own(&self, key: &[u8]) -> bool {
        key.strip_prefix(&self.key_prefix[..]).is_some_and(|id| self.mint.is_throwaway(id))
    }

    fn note_holder(&mut self, request: &Request) {
        if !request.is("HMSET") && !request.is("HSET") {
            return;
        }
        let names = (2..request.len()).step_by(2);
        let pid = names
            .filter(|at| request.arg(*at) == Some(b"pid"))
            .find_map(|at| request.bytes(at + 1));
        if let (Some(key), Some(pid)) = (request.bytes(1), pid) {
            // Copies: the command's bytes may have a whole session in them.
            self.holder = Some((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&pid)));
        }
    }
}

/// `None`: a command that is none of a session handler's, or one that the store must refuse.
fn answer_of(request: &Request) -> Option<Answer> {
    let arguments = request.len() - 2;
    let pairs = arguments > 0 && arguments.is_multiple_of(2);
    let answers: [(&str, bool, Answer); 16] = [
        ("HINCRBY", arguments == 2, Answer::Sum),
        ("HMGET", arguments > 0, Answer::Nulls(arguments)),
        ("HMSET", pairs, Answer::Status),
        ("HSET", pairs, Answer::Integer(i64::try_from(arguments / 2).unwrap_or(1))),
        ("HSETNX", arguments == 2, Answer::Integer(1)),
        ("HGET", arguments == 1 && request.arg(2) == Some(b"pid"), Answer::Holder),
        ("HGET", arguments == 1, Answer::Null),
        ("HGETALL", arguments == 0, Answer::NoPairs),
        ("HEXISTS", arguments == 1, Answer::Integer(0)),
        ("HDEL", arguments > 0, Answer::Integer(0)),
        ("EXPIRE", arguments > 0, Answer::Integer(1)),
        ("PEXPIRE", arguments > 0, Answer::Integer(1)),
        ("EXISTS", arguments == 0, Answer::Integer(0)),
        ("TTL", arguments == 0, Answer::Integer(-2)),
        ("DEL", arguments == 0, Answer::Integer(1)),
        ("UNLINK", arguments == 0, Answer::Integer(1)),
    ];
    answers.into_iter().find(|(name, fits, _)| *fits && request.is(name)).map(|(.., answer)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> (Answers, String) {
        let mint = Arc::new(Mint::new("secret"));
        let key = format!("sess_{}", mint.id());
        (Answers::new(mint, b"sess_"), key)
    }

    fn said(answers: &mut Answers, command: &str) -> Option<String> {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut out = BytesMut::new();
        let own = answers.answer(&Request::pack(&arguments), Protocol::Resp2, &mut out);
        assert_eq!(own, !out.is_empty());
        own.then(|| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_whole_session_is_answered_as_a_new_one_is() {
        let (mut answers, key) = answers();
        for (command, expected) in [
            ("HINCRBY KEY lock 1", ":1\r\n"),
            ("HMGET KEY data writes", "*2\r\n$-1\r\n$-1\r\n"),
            ("HMSET KEY pid vm|7 lock 1 req GET", "+OK\r\n"),
            ("EXPIRE KEY 21600", ":1\r\n"),
            ("HGET KEY pid", "$4\r\nvm|7\r\n"),
            ("hmset KEY data x|i:1; lock 0", "+OK\r\n"),
            ("HINCRBY KEY writes 1", ":1\r\n"),
            ("EXPIRE KEY 600", ":1\r\n"),
            // The next request of the connection: nothing of it stayed.
            ("HINCRBY KEY lock 1", ":1\r\n"),
            ("HMGET KEY data writes", "*2\r\n$-1\r\n$-1\r\n"),
            ("UNLINK KEY", ":1\r\n"),
        ] {
            let command = command.replace("KEY", &key);
            assert_eq!(said(&mut answers, &command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn who_writes_another_session_is_not_its_holder() {
        let (mut answers, key) = answers();
        let other = format!("sess_{}", answers.mint.id());
        said(&mut answers, &format!("HMSET {key} pid vm|7 lock 1"));
        assert_eq!(said(&mut answers, &format!("HGET {other} pid")).as_deref(), Some("$-1\r\n"));
        assert_eq!(said(&mut answers, &format!("HGET {key} req")).as_deref(), Some("$-1\r\n"));
    }

    #[test]
    fn anything_else_is_the_stores() {
        let (mut answers, key) = answers();
        let id = key.trim_start_matches("sess_").to_owned();
        for command in [
            "PING".to_owned(),
            "SELECT 2".to_owned(),
            format!("HINCRBY {id} lock 1"),
            "HINCRBY sess_im2tov5730esfpirp7tijom7dv lock 1".to_owned(),
            format!("DEL {key} sess_im2tov5730esfpirp7tijom7dv"),
            format!("RENAME {key} x"),
            format!("HINCRBY {key} lock"),
            format!("HMSET {key} pid"),
            format!("HMGET {key}"),
        ] {
            assert_eq!(said(&mut answers, &command), None, "{command}");
        }
    }
}
