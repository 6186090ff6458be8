//! One command while it is done: what it was asked with, what it changes, and where its reply goes.

use bytes::BytesMut;

use super::error::Error;
use super::session::Client;
use super::table::Command;
use super::value::{Entry, Value};
use super::view::View;
use crate::resp::{self, Protocol, Request, write};

/// A command and all it works with.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub view: View<'a>,
    pub client: &'a mut Client,
    pub request: &'a Request,
    pub command: &'static Command,
    pub out: &'a mut BytesMut,
    /// Where its reply begins in there.
    pub begins: usize,
    /// What it did was told in other words than its own.
    pub is_told: bool,
}

/// What a command comes to, but for its reply.
pub(super) type Done = Result<(), Error>;

impl<'a> Call<'a> {
    /// How many arguments there are, the name included.
    pub fn len(&self) -> usize {
        self.request.len()
    }

    /// An argument that the table says is there.
    pub fn arg(&self, at: usize) -> &'a [u8] {
        self.request.arg(at).unwrap_or_default()
    }

    /// Arguments from one on.
    pub fn args(&self, from: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.request.args().skip(from)
    }

    /// Is an argument this word, in any case?
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.request.arg(at).is_some_and(|own| own.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// An argument that is a number.
    pub fn number(&self, at: usize) -> Result<i64, Error> {
        resp::integer(self.arg(at)).ok_or(Error::NOT_AN_INTEGER)
    }

    pub fn protocol(&self) -> Protocol {
        self.client.protocol
    }

    /// Tells what was done in these words, instead of the command's own.
    pub fn tell(&mut self, command: &[&[u8]]) {
        self.is_told = true;
        self.view.keyspace.effects.push(self.view.at, command);
    }

    /// Tells what was done in words that begin so, and go on with what it was done to, where that is not all that the
    /// command names: who copies keeps what was spared, too.
    pub fn tell_part(&mut self, begin: &[&[u8]], done_to: &[&[u8]]) {
        if begin.len() + done_to.len() < self.len() {
            self.tell(&[begin, done_to].concat());
        }
    }

    /// Tells that a key is a lock or a counter where it is one: the words told of it do not say so.
    pub fn tell_own(&mut self, key: &[u8]) {
        if self.view.is_own(key) {
            self.tell(&[b"PARVIS.OWN", key]);
        }
    }

    /// Looks whether the reply may grow further, where a short command could ask for the same many times.
    pub fn check_reply(&self) -> Done {
        let is_too_large = self.out.len() - self.begins > self.view.keyspace.bounds.reply_max_bytes;
        if is_too_large { Err(Error::REPLY) } else { Ok(()) }
    }

    pub fn ok(&mut self) {
        write::simple(self.out, "OK");
    }

    pub fn integer(&mut self, number: i64) {
        write::integer(self.out, number);
    }

    pub fn count(&mut self, number: usize) {
        write::integer(self.out, signed(number));
    }

    pub fn flag(&mut self, yes: bool) {
        write::integer(self.out, i64::from(yes));
    }

    pub fn bulk(&mut self, text: &[u8]) {
        write::bulk(self.out, text);
    }

    pub fn null(&mut self) {
        write::null(self.out, self.client.protocol);
    }

    pub fn bulk_or_null(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.bulk(text),
            None => self.null(),
        }
    }
}

/// A length as replies have it.
pub(super) fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// So many fields or members are told in one command.
const TOLD_AT_ONCE: usize = 500;

/// Writes the commands that make a key what it is, whatever it was; `None`: it is gone.
pub(super) fn portrait(database: usize, key: &[u8], entry: Option<&Entry>, out: &mut BytesMut) {
    write::command(out, &[b"SELECT", database.to_string().as_bytes()]);
    write::command(out, &[b"DEL", key]);
    let Some(entry) = entry else { return };
    match &entry.value {
        Value::String(text) => write::command(out, &[b"SET", key, text]),
        Value::Hash(fields) => {
            let pairs: Vec<_> = fields.iter().collect();
            for pairs in pairs.chunks(TOLD_AT_ONCE) {
                let words = pairs.iter().flat_map(|(field, value)| [*field, &***value]);
                let words: Vec<&[u8]> = [b"HSET", key].into_iter().chain(words).collect();
                write::command(out, &words);
            }
        }
        Value::Set(members) => {
            let members: Vec<_> = members.iter().map(|(member, ())| member).collect();
            for members in members.chunks(TOLD_AT_ONCE) {
                let words = members.iter().copied();
                let words: Vec<&[u8]> = [b"SADD", key].into_iter().chain(words).collect();
                write::command(out, &words);
            }
        }
    }
    if entry.is_own {
        write::command(out, &[b"PARVIS.OWN", key]);
    }
    if let Some(end) = entry.expires_ms {
        write::command(out, &[b"PEXPIREAT", key, end.to_string().as_bytes()]);
    }
}
