//! Reads the log behind this node's position and applies it, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use super::link::{Link, SHORT_PAUSE};
use super::stream::{Read, entries_of};
use crate::fleet::log::Order;
use crate::random;
use crate::redis_pool::{self, RedisError};

/// The longest wait for new entries in one question; within it a position that has moved is seen.
const BLOCK_MAX: Duration = Duration::from_secs(1);

/// Reads for as long as the process lives.
pub(super) async fn run(link: Arc<Link>) {
    let mut backoff = link.redis.backoff();
    loop {
        // Before the log was found there is no place to read from.
        while link.position().is_none() {
            link.moved.notified().await;
        }
        let error = match link.redis.link().await {
            Ok(mut connection) => {
                let began = link.clock.now();
                let error = follow(&link, &mut connection).await;
                if link.clock.now().since(began) > BLOCK_MAX {
                    backoff.reset();
                }
                error
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "the log cannot be read");
        tokio::time::sleep(backoff.next(random::number())).await;
    }
}

async fn follow(link: &Arc<Link>, connection: &mut redis_pool::Link) -> RedisError {
    let block = link.settings.proof_max.min(BLOCK_MAX);
    loop {
        let Some(position) = link.position() else { return RedisError::Unexpected };
        let question = link.keys.read(position.sequence, block.as_millis().max(1));
        let patience = block + link.redis.timeout();
        let answer = tokio::select! {
            answer = connection.ask(&question, patience) => answer,
            // The log's end is elsewhere now. What was asked would wait at the wrong place.
            () = link.moved.notified() => return RedisError::Away,
        };
        let entries = match answer {
            Ok(reply) => entries_of(&reply, link.regex_max_bytes),
            Err(error) => return error,
        };
        let Some(entries) = entries else {
            tracing::error!("what stands at the key of the log is no log");
            tokio::time::sleep(SHORT_PAUSE).await;
            return RedisError::Unexpected;
        };
        let is_long = |read: &Read| read.entry.order.as_ref().is_none_or(Order::is_long);
        if entries.iter().any(is_long) {
            let link = Arc::clone(link);
            drop(tokio::task::spawn_blocking(move || link.take(entries)).await);
        } else {
            link.take(entries);
        }
    }
}
