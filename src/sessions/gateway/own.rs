//! Commands about the connection itself, which this server answers: the connection behind is not the
//! client's.

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::commands::Own;
use super::door::{Door, login};
use crate::resp::{Protocol, Request, Value, decode, integer, write};

/// What a client has said of itself.
pub(super) struct Manners {
    pub(super) id: u64,
    /// Where it comes from, and came to.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) database: u32,
    pub(super) protocol: Protocol,
    pub(super) name: Bytes,
    library: Bytes,
    library_version: Bytes,
    /// May it ask for more than to log in?
    pub(super) is_in: bool,
    is_unix: bool,
}

/// What goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next command.
    GoOn,
    /// As a new connection.
    Anew,
    /// The connection closes.
    Close,
    /// The server behind is asked who it is.
    AskWho,
}

/// Bytes of a name that a client gives itself.
const NAME_MAX_BYTES: usize = 1 << 10;

impl Manners {
    pub(super) fn new(id: u64, from: String, to: String, is_unix: bool, door: &Door) -> Self {
        Self {
            id,
            from,
            to,
            database: 0,
            protocol: Protocol::Resp2,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            is_in: !door.is_closed(is_unix),
            is_unix,
        }
    }

    /// Answers a command about the connection.
    pub(super) fn answer(
        &mut self,
        own: Own,
        request: &Request,
        (door, databases): (&Door, u32),
        out: &mut BytesMut,
    ) -> After {
        match own {
            Own::Auth => self.auth(request, door, out),
            Own::Hello => return self.hello(request, door, out),
            Own::Client => self.client(request, out),
            Own::Select => self.select(request, databases, out),
            Own::Unsubscribe => self.unsubscribe(request, out),
            Own::Quit => {
                write::simple(out, "OK");
                return After::Close;
            }
            Own::Reset => {
                self.forget(door);
                write::simple(out, "RESET");
                return After::Anew;
            }
        }
        After::GoOn
    }

    /// As it was when it connected.
    pub(super) fn forget(&mut self, door: &Door) {
        self.database = 0;
        self.protocol = Protocol::Resp2;
        self.name = Bytes::new();
        self.is_in = !door.is_closed(self.is_unix);
    }

    fn auth(&mut self, request: &Request, door: &Door, out: &mut BytesMut) {
        match login(request) {
            Some((user, password)) => {
                if door.admits(user, password, out) {
                    self.is_in = true;
                    write::simple(out, "OK");
                }
            }
            None if request.len() > 3 => write::error(out, b"ERR syntax error"),
            None => wrong_number("auth", out),
        }
    }

    fn select(&mut self, request: &Request, databases: u32, out: &mut BytesMut) {
        let (2, Some(number)) = (request.len(), request.arg(1)) else {
            wrong_number("select", out);
            return;
        };
        match integer(number).map(u32::try_from) {
            None => write::error(out, b"ERR value is not an integer or out of range"),
            Some(Ok(number)) if number < databases => {
                self.database = number;
                write::simple(out, "OK");
            }
            Some(_) => write::error(out, b"ERR DB index is out of range"),
        }
    }

    /// Who is not subscribed is told for each channel that none is left.
    fn unsubscribe(&self, request: &Request, out: &mut BytesMut) {
        let kind = request.arg(0).unwrap_or_default().to_ascii_lowercase();
        let mut left = |channel: Option<&[u8]>| {
            write::push(out, self.protocol, 3);
            write::bulk(out, &kind);
            match channel {
                Some(channel) => write::bulk(out, channel),
                None => write::null(out, self.protocol),
            }
            write::integer(out, 0);
        };
        if request.len() == 1 {
            left(None);
        }
        request.args().skip(1).for_each(|channel| left(Some(channel)));
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`. What the server behind says of itself goes
    /// on to the client.
    fn hello(&mut self, request: &Request, door: &Door, out: &mut BytesMut) -> After {
        let protocol = match request.arg(1).map(integer) {
            None => self.protocol,
            Some(Some(2)) => Protocol::Resp2,
            Some(Some(3)) => Protocol::Resp3,
            Some(None) => {
                let error = b"ERR Protocol version is not an integer or out of range";
                write::error(out, error);
                return After::GoOn;
            }
            Some(Some(_)) => {
                write::error(out, b"NOPROTO unsupported protocol version");
                return After::GoOn;
            }
        };
        let (mut at, mut name, mut is_in) = (2, None, self.is_in);
        while let Some(option) = request.arg(at) {
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            match (request.arg(at + 1), request.arg(at + 2)) {
                (Some(user), Some(password)) if is("auth") => {
                    if !door.admits(Some(user), password, out) {
                        return After::GoOn;
                    }
                    is_in = true;
                    at += 3;
                }
                (Some(_), _) if is("setname") => {
                    name = request.bytes(at + 1);
                    if !name.as_ref().is_some_and(|name| is_name(name)) {
                        write::error(out, NO_NAME);
                        return After::GoOn;
                    }
                    at += 2;
                }
                _ => {
                    let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                    text.extend_from_slice(option);
                    text.push(b'\'');
                    write::error(out, &text);
                    return After::GoOn;
                }
            }
        }
        if !is_in {
            write::error(out, NOT_IN_FOR_HELLO);
            return After::GoOn;
        }
        (self.is_in, self.protocol) = (true, protocol);
        if let Some(name) = name {
            self.name = owned(&name);
        }
        After::AskWho
    }

    fn client(&mut self, request: &Request, out: &mut BytesMut) {
        let Some(what) = request.arg(1) else {
            wrong_number("client", out);
            return;
        };
        let what = String::from_utf8_lossy(what).to_ascii_lowercase();
        match (what.as_str(), request.len()) {
            ("id", 2) => write::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX)),
            ("getname", 2) if self.name.is_empty() => write::null(out, self.protocol),
            ("getname", 2) => write::bulk(out, &self.name),
            ("info" | "list", 2) => {
                let line = self.line();
                write::verbatim(out, self.protocol, *b"txt", &line);
            }
            ("setname", 3) => match request.bytes(2) {
                Some(name) if is_name(&name) => {
                    self.name = owned(&name);
                    write::simple(out, "OK");
                }
                _ => write::error(out, NO_NAME),
            },
            ("setinfo", 4) => self.set_info(request, out),
            // They are about the memory of the server, which decides for the shared connections.
            ("no-evict" | "no-touch", 3) => write::simple(out, "OK"),
            ("id" | "getname" | "info" | "setname" | "setinfo" | "no-evict" | "no-touch", _) => {
                wrong_number(&format!("client|{what}"), out);
            }
            _ => {
                let mut text = b"ERR parvis: CLIENT ".to_vec();
                // As it came: in letters it may be longer.
                let what = request.arg(1).unwrap_or_default();
                text.extend_from_slice(&what[..what.len().min(64)]);
                text.extend_from_slice(b" concerns connections that all clients share");
                write::error(out, &text);
            }
        }
    }

    fn set_info(&mut self, request: &Request, out: &mut BytesMut) {
        let (option, value) = (request.arg(2).unwrap_or_default(), request.bytes(3));
        let Some(value) = value.filter(|value| is_name(value)) else {
            let mut text = b"ERR ".to_vec();
            text.extend_from_slice(option);
            text.extend_from_slice(b" cannot contain spaces, newlines or special characters.");
            write::error(out, &text);
            return;
        };
        if option.eq_ignore_ascii_case(b"lib-name") {
            self.library = owned(&value);
        } else if option.eq_ignore_ascii_case(b"lib-ver") {
            self.library_version = owned(&value);
        } else {
            let mut text = b"ERR Unrecognized option '".to_vec();
            text.extend_from_slice(option);
            text.push(b'\'');
            write::error(out, &text);
            return;
        }
        write::simple(out, "OK");
    }

    /// As `CLIENT LIST` shows a client.
    fn line(&self) -> Vec<u8> {
        let version = if self.protocol == Protocol::Resp3 { 3 } else { 2 };
        let mut line = Vec::new();
        // Writing to a vector cannot fail.
        let _ = write!(line, "id={} addr={} laddr={} name=", self.id, self.from, self.to);
        line.extend_from_slice(&self.name);
        let _ = write!(line, " db={} resp={version} lib-name=", self.database);
        line.extend_from_slice(&self.library);
        line.extend_from_slice(b" lib-ver=");
        line.extend_from_slice(&self.library_version);
        line.push(b'\n');
        line
    }

    /// What the server behind answers to HELLO, with this client's own number in it.
    pub(super) fn introduce(&self, reply: &Bytes, out: &mut BytesMut) {
        let mut value = decode(reply).unwrap_or(Value::Null);
        let own = Value::Integer(i64::try_from(self.id).unwrap_or(i64::MAX));
        let is_id =
            |key: &Value| matches!(key, Value::Bulk(key) | Value::Simple(key) if key == "id");
        match &mut value {
            Value::Map(pairs) => {
                pairs
                    .iter_mut()
                    .filter(|(key, _)| is_id(key))
                    .for_each(|(_, id)| *id = own.clone());
            }
            Value::Array(parts) => {
                let at = parts.iter().position(is_id);
                if let Some(id) = at.and_then(|at| parts.get_mut(at + 1)) {
                    *id = own;
                }
            }
            _ => {
                out.put_slice(reply);
                return;
            }
        }
        write::value(out, self.protocol, &value);
    }
}

/// A text that does not keep a whole request alive.
fn owned(text: &Bytes) -> Bytes {
    Bytes::copy_from_slice(text)
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_MAX_BYTES && name.iter().all(u8::is_ascii_graphic)
}

pub(super) fn wrong_number(command: &str, out: &mut BytesMut) {
    let text = format!("ERR wrong number of arguments for '{command}' command");
    write::error(out, text.as_bytes());
}

const NO_NAME: &[u8] = b"ERR Client names cannot contain spaces, newlines or special characters.";
pub(super) const NOT_IN: &[u8] = b"NOAUTH Authentication required.";
const NOT_IN_FOR_HELLO: &[u8] = b"NOAUTH HELLO must be called with the client already \
    authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to \
    authenticate the client and select the RESP protocol version at the same time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_an_error_and_no_panic() {
        let settings = crate::settings::Settings::default();
        let door = Door::new(&settings);
        let commands = [("CLIENT", Own::Client), ("HELLO", Own::Hello), ("SELECT", Own::Select)];
        for (name, own) in commands {
            for wrong in [&b"\xff"[..], &[b'\xff'; 100], b"", "\u{130}".as_bytes()] {
                for request in [
                    Request::pack(&[name.as_bytes(), wrong]),
                    Request::pack(&[name.as_bytes(), b"setinfo", wrong, b"x"]),
                    Request::pack(&[name.as_bytes(), b"3", wrong, wrong, wrong]),
                ] {
                    let mut out = BytesMut::new();
                    let mut manners = Manners::new(1, String::new(), String::new(), false, &door);
                    manners.answer(own, &request, (&door, 16), &mut out);
                    assert_eq!(out.first(), Some(&b'-'), "{name} {wrong:?}");
                }
            }
        }
    }
}
