//! What concerns the connection itself: greeting, database, transaction.

use bytes::Bytes;

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::session::{After, Replies, Transaction};
use super::keys::database;
use super::server::VERSION;
use crate::resp::{self, Protocol, write};

pub fn ping(call: &mut Call<'_>) -> Done {
    match call.len() {
        1 => write::simple(call.out, "PONG"),
        2 => call.bulk(call.arg(1)),
        _ => return Err(Error::arity(call.command.name)),
    }
    Ok(())
}

pub fn echo(call: &mut Call<'_>) -> Done {
    // Clients ask so whether a connection that they have kept still stands, before they begin with it.
    call.begins();
    call.bulk(call.arg(1));
    Ok(())
}

pub fn quit(call: &mut Call<'_>) -> Done {
    call.client.after = After::Close;
    call.ok();
    Ok(())
}

pub fn reset(call: &mut Call<'_>) -> Done {
    call.client.reset();
    call.begins();
    write::simple(call.out, "RESET");
    Ok(())
}

/// The client began its work with another process, which passes on what it says: nobody knows what was cleaned
/// since, so nothing is kept until it begins anew.
pub fn began(call: &mut Call<'_>) -> Done {
    call.client.own.begin(0);
    call.ok();
    Ok(())
}

pub fn select(call: &mut Call<'_>) -> Done {
    call.client.database = database(call, 1)?;
    call.ok();
    Ok(())
}

/// There is no password: who may connect is a matter of the socket. As redis-server without one does, the
/// default user is let in with any.
fn log_in(user: &[u8]) -> Done {
    if user == b"default" {
        return Ok(());
    }
    Err(Error::fixed("WRONGPASS invalid username-password pair or user is disabled."))
}

pub fn auth(call: &mut Call<'_>) -> Done {
    match call.len() {
        2 => {
            return Err(Error::fixed(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        3 => log_in(call.arg(1))?,
        _ => return Err(Error::SYNTAX),
    }
    call.ok();
    Ok(())
}

/// A client's name is shown in lists, where spaces are between fields.
fn set_name(call: &mut Call<'_>, name: &[u8]) -> Done {
    if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let text = "ERR Client names cannot contain spaces, newlines or special characters.";
        return Err(Error::fixed(text));
    }
    call.client.name = Bytes::copy_from_slice(name);
    Ok(())
}

pub fn hello(call: &mut Call<'_>) -> Done {
    let mut protocol = call.protocol();
    if call.len() > 1 {
        let wrong = Error::fixed("ERR Protocol version is not an integer or out of range");
        protocol = match resp::integer(call.arg(1)).ok_or(wrong)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Error::fixed("NOPROTO unsupported protocol version")),
        };
    }
    // Each option counts, though one behind it may be wrong.
    let mut at = 2;
    while at < call.len() {
        let left = call.len() - at - 1;
        if call.is(at, "AUTH") && left >= 2 {
            log_in(call.arg(at + 1))?;
            at += 3;
        } else if call.is(at, "SETNAME") && left >= 1 {
            set_name(call, call.arg(at + 1))?;
            at += 2;
        } else {
            let option = call.arg(at);
            return Err(Error::text(
                [b"ERR Syntax error in HELLO option '", option, b"'"].concat(),
            ));
        }
    }
    call.client.protocol = protocol;
    call.begins();
    write::map(call.out, protocol, 7);
    let version = if protocol == Protocol::Resp2 { 2 } else { 3 };
    let id = i64::try_from(call.client.id).unwrap_or(i64::MAX);
    for (field, value) in [("server", "redis"), ("version", VERSION)] {
        call.bulk(field.as_bytes());
        call.bulk(value.as_bytes());
    }
    for (field, number) in [("proto", version), ("id", id)] {
        call.bulk(field.as_bytes());
        call.integer(number);
    }
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        call.bulk(field.as_bytes());
        call.bulk(value.as_bytes());
    }
    call.bulk(b"modules");
    write::array(call.out, 0);
    Ok(())
}

pub fn multi(call: &mut Call<'_>) -> Done {
    if call.client.transaction.is_some() {
        return Err(Error::fixed("ERR MULTI calls can not be nested"));
    }
    call.client.transaction = Some(Transaction::default());
    call.ok();
    Ok(())
}

pub fn exec(call: &mut Call<'_>) -> Done {
    call.client.execute_queue(call.view.keyspace, call.view.now_ms, call.out)
}

pub fn discard(call: &mut Call<'_>) -> Done {
    if call.client.transaction.take().is_none() {
        return Err(Error::fixed("ERR DISCARD without MULTI"));
    }
    call.client.unwatch();
    call.ok();
    Ok(())
}

pub fn watch(call: &mut Call<'_>) -> Done {
    if call.client.transaction.is_some() {
        return Err(Error::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    for key in call.args(1) {
        call.client.watch(&mut call.view, key)?;
    }
    call.ok();
    Ok(())
}

pub fn unwatch(call: &mut Call<'_>) -> Done {
    call.client.unwatch();
    call.ok();
    Ok(())
}

pub fn client_id(call: &mut Call<'_>) -> Done {
    call.integer(i64::try_from(call.client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub fn client_getname(call: &mut Call<'_>) -> Done {
    let name = call.client.name.clone();
    call.bulk_or_null(Some(&name[..]).filter(|name| !name.is_empty()));
    Ok(())
}

pub fn client_setname(call: &mut Call<'_>) -> Done {
    set_name(call, call.arg(2))?;
    call.ok();
    Ok(())
}

/// Libraries tell their name and version; nobody asks for them.
pub fn client_setinfo(call: &mut Call<'_>) -> Done {
    if !call.is(2, "LIB-NAME") && !call.is(2, "LIB-VER") {
        let option = [b"ERR Unrecognized option '", call.arg(2), b"'"].concat();
        return Err(Error::text(option));
    }
    call.ok();
    Ok(())
}

/// Of all clients the one that asks.
pub fn client_info(call: &mut Call<'_>) -> Done {
    let client = &*call.client;
    let version = if client.protocol == Protocol::Resp2 { 2 } else { 3 };
    let name = String::from_utf8_lossy(&client.name);
    let queued = client.transaction.as_ref().map_or(-1, Transaction::len);
    let text = format!(
        "id={} name={name} db={} sub=0 psub=0 ssub=0 multi={queued} watch={} resp={version}\n",
        client.id,
        client.database,
        client.watched.len(),
    );
    write::verbatim(call.out, call.protocol(), *b"txt", text.as_bytes());
    Ok(())
}

pub fn client_reply(call: &mut Call<'_>) -> Done {
    if call.is(2, "ON") {
        call.client.replies = Replies::All;
        call.ok();
    } else if call.is(2, "OFF") {
        call.client.replies = Replies::None;
    } else if call.is(2, "SKIP") {
        if call.client.replies != Replies::None {
            call.client.replies = Replies::SkipNext;
        }
    } else {
        return Err(Error::SYNTAX);
    }
    Ok(())
}

/// NO-EVICT and NO-TOUCH: there is nothing to switch.
pub fn client_switch(call: &mut Call<'_>) -> Done {
    if !call.is(2, "ON") && !call.is(2, "OFF") {
        return Err(Error::SYNTAX);
    }
    call.ok();
    Ok(())
}
