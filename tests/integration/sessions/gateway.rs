//! What a client of Redis meets at Parvis.

use std::time::Duration;

use super::{Client, node, packed, text};
use crate::support::Parvis;
use crate::support::process::wait_until;
use crate::support::redis::Redis;

/// Kills it, and waits until the node knows: what is sent to it before that may have been carried out.
fn lose(redis: &mut Redis, node: &Parvis) {
    let lost = || node.metric("parvis_sessions_trunks_lost_total ");
    let before = lost();
    redis.kill();
    wait_until("it is lost", Duration::from_secs(10), || lost() > before);
}

#[test]
fn what_is_no_command_gets_redis_own_words_and_the_connection_ends() {
    let (behind, direct) = (Redis::start(), Redis::start());
    let (node, port) = node(&behind.url(), |builder| builder);
    for wrong in [
        &b"*x\r\n"[..],
        b"*1\r\n+PING\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n$x\r\n",
        b"SET 'a\r\n",
        b"*3000000000\r\n",
    ] {
        let (mut ours, mut its) = (Client::connect(port), Client::connect(direct.port));
        ours.send(&[&packed("PING")[..], wrong].concat());
        its.send(&[&packed("PING")[..], wrong].concat());
        for _ in 0..2 {
            let (ours, its) = (ours.reply().expect("a reply"), its.reply().expect("a reply"));
            assert_eq!(text(&ours), text(&its), "{wrong:?}");
        }
        assert_eq!((ours.reply(), its.reply()), (None, None), "{wrong:?}");
    }
    assert_eq!(node.metric("parvis_sessions_malformed_total"), Some(6.0));
    assert_eq!(Client::connect(port).ask("PING"), "+PONG");
}

#[test]
fn nothing_is_done_of_what_a_browser_was_made_to_send_as_with_redis_itself() {
    let (behind, direct) = (Redis::start(), Redis::start());
    let (node, port) = node(&behind.url(), |builder| builder);
    for head in ["POST / HTTP/1.1\r\n", "MULTI\r\nhost: x\r\n", "WATCH k\r\nPost\r\n"] {
        for port in [port, direct.port] {
            let mut client = Client::connect(port);
            client.send(format!("{head}\r\nSET k v\r\nEXEC\r\n").as_bytes());
            while let Some(reply) = client.reply() {
                assert_eq!(text(&reply), "+OK", "{head}");
            }
        }
        assert_eq!((behind.ask(&["get", "k"]), direct.ask(&["get", "k"])), Default::default());
    }
    assert_eq!(node.metric("parvis_sessions_malformed_total"), Some(3.0));
}

#[test]
fn what_is_too_long_is_refused_before_it_has_come() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| {
        builder.with("sessions.request_max", "\"64KiB\"").with("sessions.arguments_max", "100")
    });
    for (wrong, answer) in [
        ("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$65537\r\n", "-ERR Protocol error: invalid bulk length"),
        ("*101\r\n", "-ERR Protocol error: invalid multibulk length"),
        (&"a".repeat(70_000), "-ERR Protocol error: too big inline request"),
    ] {
        let mut client = Client::connect(port);
        client.send(wrong.as_bytes());
        assert_eq!(text(&client.reply().expect("an error")), answer);
        assert_eq!(client.reply(), None);
    }
    assert!(node.resident_bytes() < 512 << 20);
}

#[test]
fn many_clients_share_few_connections_and_each_keeps_its_database_and_name() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("SELECT {}", number % 3)), "+OK");
        assert_eq!(client.ask(&format!("CLIENT SETNAME c{number}")), "+OK");
        assert_eq!(client.ask(&format!("SET k{number} {number}")), "+OK");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let value = number.to_string();
        assert_eq!(client.ask(&format!("GET k{number}")), format!("${}|{value}", value.len()));
        assert!(client.ask("CLIENT GETNAME").ends_with(&format!("|c{number}")));
    }
    assert_eq!(redis.ask(&["-n", "1", "dbsize"]), "33");
    assert_eq!(node.metric("parvis_sessions_clients "), Some(100.0));
    assert_eq!(node.metric("parvis_sessions_trunks "), Some(3.0));
    let behind = redis.ask(&["client", "list"]);
    assert!(behind.lines().count() < 10, "{behind}");
    let mut numbers: Vec<_> = clients.iter_mut().map(|client| client.ask("CLIENT ID")).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

#[test]
fn commands_that_would_hurt_others_are_refused_and_the_rest_goes_on() {
    let redis = Redis::start();
    let (_node, port) = node(&redis.url(), |builder| builder);
    let mut client = Client::connect(port);
    for command in [
        "SHUTDOWN NOSAVE",
        "CLIENT KILL TYPE normal",
        "CLIENT REPLY OFF",
        "CLIENT PAUSE 1000",
        "CLIENT TRACKING ON",
        "SCRIPT KILL",
        "FLUSHALL",
        "CONFIG GET requirepass",
        "DEBUG SLEEP 1",
        "REPLICAOF no one",
    ] {
        let answer = client.ask(command);
        assert!(answer.starts_with("-ERR parvis: "), "{command}: {answer}");
    }
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("FLUSHDB"), "+OK");
    assert_eq!(client.ask("GET a"), "$-1");
}

#[test]
fn a_client_that_watches_waits_or_listens_has_a_connection_for_itself_and_gives_it_back() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder.with("sessions.pinned_max", "2"));
    let alone = || node.metric("parvis_sessions_alone ");
    let (mut one, mut other) = (Client::connect(port), Client::connect(port));
    assert_eq!(one.ask("WATCH a"), "+OK");
    assert_eq!(alone(), Some(1.0));
    assert_eq!(other.ask("SET a 1"), "+OK");
    assert_eq!(one.ask("MULTI"), "+OK");
    assert_eq!(one.ask("SET b 1"), "+QUEUED");
    assert_eq!(one.ask("EXEC"), "*-1", "somebody else wrote");
    assert_eq!(alone(), Some(0.0));
    one.send(&packed("BLPOP list 0"));
    wait_until("it waits", Duration::from_secs(10), || alone() == Some(1.0));
    assert_eq!(other.ask("RPUSH list x"), ":1");
    assert_eq!(text(&one.reply().expect("a reply")), "*2|$4|list|$1|x");
    let mut listener = Client::connect(port);
    assert_eq!(listener.ask("SUBSCRIBE news"), "*3|$9|subscribe|$4|news|:1");
    one.send(&packed("BLPOP list 0"));
    wait_until("both", Duration::from_secs(10), || alone() == Some(2.0));
    let mut third = Client::connect(port);
    assert_eq!(third.ask("WATCH a"), "-ERR parvis: sessions.pinned_max is reached");
    assert_eq!(third.reply(), None, "it cannot go on as if it watched");
    assert_eq!(other.ask("PUBLISH news hello"), ":1");
    assert_eq!(text(&listener.reply().expect("news")), "*3|$7|message|$4|news|$5|hello");
    drop((one, listener));
    wait_until("both are back", Duration::from_secs(10), || alone() == Some(0.0));
    assert_eq!(redis.ask(&["llen", "list"]), "0");
    assert_eq!(other.ask("RPUSH list y"), ":1", "nobody waits any more");
}

#[test]
fn a_password_is_asked_for_as_redis_does() {
    let redis = Redis::with(&["--requirepass", "secret"]);
    let url = format!("redis://:secret@127.0.0.1:{}", redis.port);
    let (_node, port) = node(&url, |builder| builder);
    let mut client = Client::connect(port);
    let mut direct = Client::connect(redis.port);
    for command in [
        "PING",
        "AUTH wrong",
        "HELLO 3",
        "AUTH secret",
        "PING",
        "RESET",
        "PING",
        "AUTH default secret",
        "GET a",
    ] {
        assert_eq!(client.ask(command), direct.ask(command), "{command}");
    }
    let mut client = Client::connect(port);
    assert!(client.ask("HELLO 3 AUTH default secret SETNAME x").starts_with("%7|"));
    assert_eq!(client.ask("GET nothing"), "_");
    assert_eq!(client.ask("CLIENT GETNAME"), "$1|x");
}

#[test]
fn one_client_too_many_is_told_so() {
    let redis = Redis::start();
    let (_node, port) = node(&redis.url(), |builder| builder.with("sessions.clients_max", "2"));
    let mut clients = [Client::connect(port), Client::connect(port)];
    assert!(clients.iter_mut().all(|client| client.ask("PING") == "+PONG"));
    let mut third = Client::connect(port);
    assert_eq!(text(&third.reply().expect("a word")), "-ERR max number of clients reached");
    assert_eq!(third.reply(), None);
    drop(clients);
    wait_until("a place", Duration::from_secs(10), || Client::connect(port).reply_to_ping());
}

#[test]
fn a_redis_that_is_lost_is_waited_for_and_what_may_have_been_done_gets_an_error() {
    let mut redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| {
        builder.with("sessions.failover_wait", "\"2s\"").with("sessions.timeout", "\"300ms\"")
    });
    let mut client = Client::connect(port);
    assert_eq!(client.ask("INCR a"), ":1");
    redis.stop();
    let answer = client.ask("INCR a");
    assert!(answer.contains("may have been carried out"), "{answer}");
    redis.signal("CONT");
    assert_eq!(client.ask("GET nothing"), "$-1");
    lose(&mut redis, &node);
    client.send(&packed("SET a 7"));
    std::thread::sleep(Duration::from_millis(500));
    redis.start_again();
    assert_eq!(text(&client.reply().expect("a reply")), "+OK", "it was not sent before");
    lose(&mut redis, &node);
    let answer = client.ask("SET a 8");
    assert!(answer.starts_with("-ERR parvis: Redis cannot be reached"), "{answer}");
    assert_eq!(crate::support::client::get(node.port, "/.parvis/ready", &[]).status, 200);
    redis.start_again();
    wait_until("it answers again", Duration::from_secs(10), || client.ask("SET a 9") == "+OK");
}

#[test]
fn a_reply_that_is_too_large_costs_its_own_command_and_not_those_of_others() {
    let redis = Redis::start();
    let (node, port) =
        node(&redis.url(), |builder| builder.with("sessions.reply_max", "\"64KiB\""));
    let mut direct = Client::connect(redis.port);
    assert_eq!(direct.ask(&format!("SET big {}", "x".repeat(70_000))), "+OK");
    let (mut one, mut other) = (Client::connect(port), Client::connect(port));
    assert_eq!(other.ask("SET small 1"), "+OK");
    let lost = || node.metric("parvis_sessions_trunks_lost_total ").unwrap_or_default();
    one.send(&[packed("GET small"), packed("GET big"), packed("GET small")].concat());
    for expected in ["$1|1", "-ERR parvis: the reply is larger than sessions.reply_max", "$1|1"] {
        assert_eq!(text(&one.reply().expect("a reply")), expected);
    }
    assert!((lost() - 1.0).abs() < f64::EPSILON, "it was asked for once");
    for _ in 0..20 {
        assert_eq!(other.ask("INCR counted").chars().next(), Some(':'));
    }
    assert_eq!((other.ask("GET counted").as_str(), lost()), ("$2|20", 1.0));
}

#[test]
fn replies_over_a_connection_of_ones_own_do_not_pile_up_where_nobody_reads_them() {
    const ASKED: usize = 20_000;
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    let mut client = Client::connect(port);
    assert_eq!(client.ask(&format!("SET big {}", "x".repeat(64_000))), "+OK");
    assert_eq!(client.ask("WATCH big"), "+OK");
    let before = node.resident_bytes();
    let mut asking = client.stream.try_clone().expect("a handle");
    let asked = packed("GET big").repeat(ASKED);
    let asks = std::thread::spawn(move || std::io::Write::write_all(&mut asking, &asked));
    std::thread::sleep(Duration::from_secs(2));
    let more = node.resident_bytes().saturating_sub(before);
    assert!(more < 64 << 20, "{more} bytes for replies that nobody reads");
    for number in 0..ASKED {
        assert_eq!(client.reply().map(|reply| reply.len()), Some(64_010), "{number}");
    }
    asks.join().expect("no panic").expect("it reads");
}

#[test]
fn a_database_that_redis_refuses_does_not_spend_the_patience_for_a_failover() {
    let mut redis = Redis::with(&["--databases", "2"]);
    let (node, port) =
        node(&redis.url(), |builder| builder.with("sessions.failover_wait", "\"2s\""));
    let (mut wrong, mut right) = (Client::connect(port), Client::connect(port));
    let refused = || node.metric("parvis_sessions_connect_failures_total ").unwrap_or_default();
    assert_eq!(right.ask("SET a 1"), "+OK");
    assert_eq!(wrong.ask("SELECT 12"), "+OK");
    for _ in 0..3 {
        assert_eq!(wrong.ask("GET a"), "-ERR DB index is out of range");
    }
    std::thread::sleep(Duration::from_millis(2_500));
    let before = refused();
    assert!(before <= 3.0, "{before} tries for 3 commands");
    lose(&mut redis, &node);
    right.send(&packed("SET a 2"));
    std::thread::sleep(Duration::from_millis(500));
    redis.start_again();
    assert_eq!(text(&right.reply().expect("a reply")), "+OK", "it was waited for");
    assert_eq!(wrong.ask("GET a"), "-ERR DB index is out of range");
    assert_eq!(wrong.ask("SELECT 0"), "+OK");
    assert_eq!(wrong.ask("GET a"), "$1|2");
}

#[test]
fn a_transaction_in_which_a_command_was_refused_is_not_carried_out() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    let mut client = Client::connect(port);
    for whole in [true, false] {
        for refused in ["FLUSHALL", "SUBSCRIBE a", "CONFIG GET maxmemory", "CLIENT ID", "HELLO 3"] {
            let commands = ["MULTI", "SET a 1", refused, "SET b 1", "EXEC"].map(packed);
            let mut replies = Vec::new();
            if whole {
                client.send(&commands.concat());
                replies.extend((0..5).map(|_| text(&client.reply().expect("a reply"))));
            } else {
                for command in commands {
                    client.send(&command);
                    replies.push(text(&client.reply().expect("a reply")));
                }
            }
            assert_eq!([&replies[0][..], &replies[1], &replies[3]], ["+OK", "+QUEUED", "+QUEUED"]);
            assert!(replies[2].starts_with("-ERR parvis: "), "{replies:?}");
            let aborted = "-EXECABORT Transaction discarded because of previous errors.";
            assert_eq!(replies[4], aborted, "{refused}");
            assert_eq!(client.ask("EXISTS a b"), ":0");
        }
    }
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "*1|+OK", "the next one is");
    assert_eq!(node.metric("parvis_sessions_alone "), Some(0.0));
}

#[test]
fn a_transaction_that_is_discarded_lets_no_lock_go() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    let held = || node.metric("parvis_sessions_locks_held ");
    let mut client = Client::connect(port);
    let let_go = ["MULTI", "HMSET sess_a lock 0", "DISCARD"];
    assert_eq!(client.ask("HINCRBY sess_a lock 1"), ":1");
    for command in let_go {
        assert!(client.ask(command).starts_with('+'));
    }
    assert_eq!(held(), Some(1.0), "in parts");
    client.send(&let_go.map(packed).concat());
    for _ in let_go {
        assert!(client.reply().is_some_and(|reply| reply.starts_with(b"+")));
    }
    assert_eq!(held(), Some(1.0), "whole");
    client.send(&["MULTI", "HMSET sess_a lock 0", "EXEC"].map(packed).concat());
    assert!((0..3).all(|_| client.reply().is_some()));
    assert_eq!(held(), Some(0.0), "EXEC does");
}

#[test]
fn who_is_not_subscribed_may_unsubscribe_as_at_redis() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut ours, mut its) = (Client::connect(port), Client::connect(redis.port));
        assert_eq!(ours.ask(hello).chars().next(), its.ask(hello).chars().next());
        for (command, replies) in [
            ("UNSUBSCRIBE", 1),
            ("unsubscribe a", 1),
            ("PUNSUBSCRIBE a b", 2),
            ("SUNSUBSCRIBE", 1),
            ("PING", 1),
            ("WATCH a", 1),
            ("UNSUBSCRIBE a b c", 3),
            ("UNWATCH", 1),
        ] {
            ours.send(&packed(command));
            its.send(&packed(command));
            for _ in 0..replies {
                assert_eq!(ours.reply(), its.reply(), "{hello}: {command}");
            }
        }
    }
    assert_eq!(node.metric("parvis_sessions_alone "), Some(0.0));
}
