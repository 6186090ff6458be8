//! A client that asks again for a lock that it had, or of which many were broken by others.

use std::time::Duration;

use bytes::Bytes;
use parvis::sessions::lock::{Bounds, Standing};

use super::lock::{DATABASE, Node, bounds, bulk, runtime, sign, two, until, write_free};
use crate::support::redis::Redis;

/// Who has the only lock.
const OWNER: &str = "return redis.call('HGET', redis.call('KEYS', '*:holder:*')[1], 'owner')";

#[test]
fn a_client_whose_lock_another_broke_waits_in_line_again() {
    let redis = Redis::start();
    runtime().block_on(async {
        let nodes = two(&redis).await;
        let key = Bytes::from_static(b"sess_broken");
        let (mut first, mut second) = (nodes[0].client(), nodes[1].client());
        assert_eq!(first.take(DATABASE, &key).await, Ok(1));
        sign(&nodes[0], &mut first, &key, "web|1").await;
        sign(&nodes[1], &mut second, &key, "web|2").await;
        let (taken, ()) = tokio::join!(first.take(DATABASE, &key), async {
            until(|| nodes[0].locks.figures().waited == 1).await;
            write_free(&nodes[1], &mut second, &key).await;
        });
        assert_eq!((taken, nodes[0].locks.figures().held), (Ok(1), 1));
        assert_eq!(nodes[0].locks.figures().freed, 0, "the other's lock is left alone");
    });
}

#[test]
fn a_client_that_asks_for_what_it_has_is_answered_as_by_redis_and_frees_it_when_it_goes() {
    let redis = Redis::start();
    runtime().block_on(async {
        let short = Bounds { wait_max: Duration::from_millis(50), ..bounds() };
        let node = Node::with(&redis, "one", short, |_| Standing::Other).await;
        let key = Bytes::from_static(b"sess_again");
        let mut client = node.client();
        assert_eq!(client.take(DATABASE, &key).await, Ok(1));
        assert!(client.holds_any());
        assert_eq!(client.take(DATABASE, &key).await, Ok(2));
        assert!(!client.holds_any(), "PHP would not ask for it");
        // By PHP's own rule it breaks it, which the Redis is told beside.
        let owner = async || node.ask(&["EVAL", OWNER, "0"]).await;
        let before = owner().await;
        sign(&node, &mut client, &key, "web|1").await;
        while owner().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((node.locks.figures().held, client.holds_any()), (1, true));
        drop(client);
        until(|| node.locks.figures().freed == 1).await;
        assert_eq!(node.ask(&["HGET", "sess_again", "lock"]).await, bulk("0"));
    });
}

#[test]
fn a_client_that_many_locks_were_broken_of_waits_in_line_all_the_same() {
    let redis = Redis::start();
    runtime().block_on(async {
        let nodes = two(&redis).await;
        let mut client = nodes[0].client();
        for number in 0..40 {
            let key = Bytes::from(format!("sess_{number}"));
            assert_eq!(client.take(DATABASE, &key).await, Ok(1));
        }
        assert!(nodes[0].locks.figures().held < 40, "they are bounded");
        let (mut other, key) = (nodes[1].client(), Bytes::from_static(b"sess_other"));
        assert_eq!(other.take(DATABASE, &key).await, Ok(1));
        let (taken, ()) = tokio::join!(client.take(DATABASE, &key), async {
            until(|| nodes[0].locks.figures().waited == 1).await;
            write_free(&nodes[1], &mut other, &key).await;
        });
        assert_eq!(taken, Ok(1));
    });
}
