//! The connections to the Redis that has the sessions, without a client before them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parvis::clock::Clock;
use parvis::resp::{Value, write};
use parvis::sessions::gateway::{BackendError, Trunks};
use parvis::settings::Settings;

use crate::support::redis::Redis;

fn command(arguments: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    write::command(&mut out, &arguments);
    out.freeze()
}

fn trunks(redis: &Redis, more: &[(&str, &str)]) -> Trunks {
    let url = redis.url();
    let given = [("PARVIS__SESSIONS__URL", url.as_str())].into_iter().chain(more.iter().copied());
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::load(None, given).expect("valid");
    let its = settings.sessions_redis().expect("there is one");
    Trunks::new(&its, &settings.sessions, &Clock::system()).expect("no authority to read")
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
    })
}

/// Kills the Redis, and waits until that is known: what is sent before may have been carried out.
async fn lose(redis: &mut Redis, trunks: &Trunks) {
    let before = trunks.figures().lost;
    redis.kill();
    while trunks.figures().lost == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn commands_are_asked_in_their_database_and_many_at_once_each_get_their_own_reply() {
    let redis = Redis::start();
    run(async {
        let trunks = trunks(&redis, &[]);
        let ask = |database: u32, arguments: &[&str]| {
            let (trunks, command) = (trunks.clone(), command(arguments));
            async move { trunks.ask(database, command).await }
        };
        assert_eq!(ask(2, &["SET", "a", "1"]).await, Ok(Value::Simple("OK".into())));
        assert_eq!(ask(3, &["GET", "a"]).await, Ok(Value::Null));
        let asked: Vec<_> = (0..1_000)
            .map(|number: i64| {
                let text = number.to_string();
                (number, tokio::spawn(ask(2, &["ECHO", &text])))
            })
            .collect();
        for (number, asked) in asked {
            let answer = asked.await.expect("no panic");
            assert_eq!(answer, Ok(Value::Bulk(number.to_string().into())));
        }
        let wrong = ask(2, &["INCR", "a", "b"]).await.expect("a reply");
        assert!(matches!(wrong, Value::Error(_)), "{wrong:?}");
        assert_eq!(trunks.figures().connections, 2);
        let none = ask(16, &["GET", "a"]).await;
        assert_eq!(none, Err(BackendError::Refused("ERR DB index is out of range".to_owned())));
    });
}

#[test]
fn messages_come_and_the_end_of_their_connection_is_told() {
    let mut redis = Redis::start();
    run(async {
        let trunks = trunks(&redis, &[("PARVIS__SESSIONS__TIMEOUT", "300ms")]);
        let mut messages = trunks.subscribe("news").await.expect("subscribed");
        for text in ["one", "two"] {
            let heard = trunks.ask(0, command(&["PUBLISH", "news", text])).await;
            assert_eq!(heard, Ok(Value::Integer(1)));
            assert_eq!(messages.next().await, Some(Bytes::from(text)));
            // Silence is no end.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        redis.stop();
        assert_eq!(messages.next().await, None, "it hangs");
        redis.signal("CONT");
        let mut messages = trunks.subscribe("news").await.expect("subscribed");
        redis.kill();
        assert_eq!(messages.next().await, None, "it has ended");
    });
}

#[test]
fn a_question_waits_for_a_redis_that_comes_back_and_not_for_ever() {
    let mut redis = Redis::start();
    run(async {
        let trunks = trunks(&redis, &[("PARVIS__SESSIONS__FAILOVER_WAIT", "3s")]);
        let ask = || trunks.ask(2, command(&["PING"]));
        assert_eq!(ask().await, Ok(Value::Simple("PONG".into())));
        lose(&mut redis, &trunks).await;
        let (answer, ()) = tokio::join!(ask(), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            redis.start_again();
        });
        assert_eq!(answer, Ok(Value::Simple("PONG".into())));
        lose(&mut redis, &trunks).await;
        assert!(matches!(ask().await, Err(BackendError::Away(_))));
        let since = std::time::Instant::now();
        assert!(matches!(ask().await, Err(BackendError::Away(_))));
        assert!(since.elapsed() < Duration::from_secs(3), "who comes later does not wait");
    });
}
