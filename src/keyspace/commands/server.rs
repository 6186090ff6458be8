//! What concerns the server: what it is, what it can do.

use std::fmt::Write as _;

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::glob;
use super::super::table::{self, COMMANDS, Command, Flags};
use crate::resp::write;

/// The version whose commands and replies these are; clients decide by it what they send.
pub const VERSION: &str = "7.0.15";

/// A container without the command's name.
pub fn container(call: &mut Call<'_>) -> Done {
    Err(Error::arity(call.command.name))
}

pub fn time(call: &mut Call<'_>) -> Done {
    let now_ms = call.view.now_ms;
    write::array(call.out, 2);
    call.bulk((now_ms / 1_000).to_string().as_bytes());
    call.bulk((now_ms % 1_000 * 1_000).to_string().as_bytes());
    Ok(())
}

/// The commands that are no part of another.
fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.name.contains('|'))
}

fn describe(call: &mut Call<'_>, command: &Command) {
    write::array(call.out, 6);
    call.bulk(command.name.as_bytes());
    call.integer(i64::from(command.arity));
    let writes = command.flags.contains(Flags::WRITES);
    let grows = command.flags.contains(Flags::GROWS);
    write::set(call.out, call.client.protocol, 1 + usize::from(grows));
    write::simple(call.out, if writes { "write" } else { "readonly" });
    if grows {
        write::simple(call.out, "denyoom");
    }
    let (first, last, distance) = command.keys;
    for place in [first, last, distance] {
        call.integer(i64::from(place));
    }
}

pub fn command(call: &mut Call<'_>) -> Done {
    write::array(call.out, commands().count());
    for command in commands() {
        describe(call, command);
    }
    Ok(())
}

pub fn command_info(call: &mut Call<'_>) -> Done {
    if call.len() == 2 {
        return command(call);
    }
    write::array(call.out, call.len() - 2);
    for name in call.args(2) {
        match table::named(name) {
            Some(command) => describe(call, command),
            None => write::null_array(call.out, call.client.protocol),
        }
    }
    Ok(())
}

pub fn command_count(call: &mut Call<'_>) -> Done {
    call.count(commands().count());
    Ok(())
}

pub fn command_list(call: &mut Call<'_>) -> Done {
    write::array(call.out, commands().count());
    for command in commands() {
        call.bulk(command.name.as_bytes());
    }
    Ok(())
}

/// People who type look for hints in it, and do without.
pub fn command_docs(call: &mut Call<'_>) -> Done {
    write::map(call.out, call.client.protocol, 0);
    Ok(())
}

/// What clients look for in a configuration.
pub fn config_get(call: &mut Call<'_>) -> Done {
    let bounds = call.view.keyspace.bounds;
    let known = [
        ("appendonly", "no".to_owned()),
        ("databases", bounds.databases.to_string()),
        ("maxmemory", bounds.memory_max_bytes.to_string()),
        ("maxmemory-policy", bounds.eviction.policy().to_owned()),
        ("proto-max-bulk-len", bounds.string_max_bytes.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let is_asked =
        |name: &str| call.args(2).any(|pattern| glob::matches(pattern, name.as_bytes(), true));
    let found: Vec<_> = known.into_iter().filter(|(name, _)| is_asked(name)).collect();
    write::map(call.out, call.client.protocol, found.len());
    for (name, value) in found {
        call.bulk(name.as_bytes());
        call.bulk(value.as_bytes());
    }
    Ok(())
}

const SECTIONS: [&str; 6] = ["server", "clients", "memory", "persistence", "stats", "keyspace"];

fn section(call: &Call<'_>, name: &str, text: &mut String) {
    let figures = call.view.keyspace.figures();
    let maximum = call.view.keyspace.bounds.memory_max_bytes;
    // Writing to a string cannot fail.
    let _ = match name {
        "server" => {
            write!(text, "# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\n")
        }
        "clients" => write!(text, "# Clients\r\n"),
        "memory" => write!(
            text,
            "# Memory\r\nused_memory:{}\r\nmaxmemory:{maximum}\r\nmaxmemory_policy:{}\r\n",
            figures.memory_bytes,
            call.view.keyspace.bounds.eviction.policy()
        ),
        "persistence" => write!(text, "# Persistence\r\nloading:0\r\n"),
        "stats" => write!(
            text,
            "# Stats\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\nevicted_keys:{}\r\n\
             keyspace_hits:{}\r\nkeyspace_misses:{}\r\n",
            figures.commands, figures.expired, figures.evicted, figures.hits, figures.misses
        ),
        _ => write!(text, "# Keyspace\r\n"),
    };
    if name == "keyspace" {
        for (at, database) in call.view.keyspace.databases.iter().enumerate() {
            let (keys, expiring) = (database.entries.len(), database.expiring);
            if keys > 0 {
                let _ = write!(text, "db{at}:keys={keys},expires={expiring},avg_ttl=0\r\n");
            }
        }
    }
}

pub fn info(call: &mut Call<'_>) -> Done {
    let is_all = call.len() == 1
        || (1..call.len())
            .any(|at| ["all", "default", "everything"].iter().any(|word| call.is(at, word)));
    let mut text = String::new();
    for name in SECTIONS {
        if is_all || (1..call.len()).any(|at| call.is(at, name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            section(call, name, &mut text);
        }
    }
    write::verbatim(call.out, call.protocol(), *b"txt", text.as_bytes());
    Ok(())
}
