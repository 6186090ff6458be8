//! The heartbeat: announces this node and asks for the log's end in one step, which is its proof that
//! it knows it; and connects again when Redis was away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Load;
use super::hosts::own_host;
use super::link::{Link, SHORT_PAUSE, token};
use super::members::Member;
use super::stand::Stand;
use super::stream::beat_of;
use crate::clock::Moment;
use crate::observe::{Cause, State, Verdict};
use crate::redis_pool::RedisError;

/// The times over which hits are counted.
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// After so many beats in a row another process of this name is no one that this one takes over
/// from, or follows.
const DOUBLES_SEEN: u32 = 3;

/// How busy this node is, asked at each announcement.
type Asked = dyn Fn() -> Load + Send + Sync;

/// Beats for as long as the process lives.
pub(super) async fn run(link: Arc<Link>, state: Arc<State>, load: Box<Asked>) {
    let mut heart = Heart { ratio: Ratio::of(MINUTE), hour: Ratio::of(HOUR), doubles_seen: 0 };
    let require = link.redis_is_required();
    let mut readiness = state.watch();
    loop {
        let stand = Stand::of(&readiness.borrow_and_update());
        let went_well = heart.beat(&link, stand, &*load).await;
        if require {
            if went_well {
                state.clear(Cause::RedisAway)
            } else {
                state.raise(Cause::RedisAway)
            };
        }
        let pause = if went_well { link.settings.heartbeat } else { SHORT_PAUSE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = link.beat_now.notified() => {}
            // The others are to know at once. It does not end before the process does.
            _ = readiness.changed() => {}
        }
    }
}

/// Takes this node out of the list, so that nobody waits for it.
pub(super) async fn leave(link: &Link) {
    let _ = link.redis.ask(&link.keys.leave(&link.name)).await;
}

struct Heart {
    ratio: Ratio,
    hour: Ratio,
    /// So many beats in a row found another process of this name.
    doubles_seen: u32,
}

impl Heart {
    /// False: Redis did not answer.
    async fn beat(&mut self, link: &Arc<Link>, stand: Stand, load: &Asked) -> bool {
        let member = Member { stand, ..self.member(link, load()) };
        let announced = if link.is_aside.load(Ordering::Relaxed) {
            String::new()
        } else {
            serde_json::to_string(&member).unwrap_or_default()
        };
        let question = link.question();
        let asked = token();
        let expiry = link.settings.proof_max.as_millis();
        let command = link.keys.beat((asked, token()), (&link.name, &announced), expiry);
        let reply = match link.redis.ask(&command).await {
            Ok(reply) => reply,
            Err(RedisError::Away) => return false,
            Err(error) => {
                tracing::debug!(%error, "no heartbeat");
                return false;
            }
        };
        // The answer to another question proves nothing.
        let Some(beat) = beat_of(&reply).filter(|beat| beat.token == asked) else {
            tracing::error!("what stands at the keys of the log is no log");
            return false;
        };
        if !announced.is_empty() {
            self.look_for_a_double(link, beat.before.as_deref());
        }
        let taking = Arc::clone(link);
        // Where everything goes soft, all that is stored is looked at.
        drop(tokio::task::spawn_blocking(move || taking.ends_at(question, beat.end)).await);
        link.deliver.notify_one();
        true
    }

    fn member(&mut self, link: &Link, load: Load) -> Member {
        let now = link.clock.now();
        let totals = link.observer().totals();
        let hits = totals.requests(Verdict::Hit) + totals.requests(Verdict::Grace);
        let asked = [Verdict::Miss, Verdict::HitForMiss].iter().map(|one| totals.requests(*one));
        let all = hits + asked.sum::<u64>();
        let (recent_hits, recent) = self.ratio.recent(now, hits, all);
        let hit_percent = (recent_hits * 100).checked_div(recent);
        let (hits_hour, _) = self.hour.recent(now, hits, all);
        let position = link.position();
        let figures = link.figures();
        Member {
            name: link.name.clone(),
            instance: link.instance.to_string(),
            host: own_host(),
            address: link.address.clone(),
            peer: link.settings.peers.listen.map(|address| address.to_string()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: link.release.load().to_string(),
            epoch: position.map(|position| position.epoch.to_string()).unwrap_or_default(),
            sequence: figures.position,
            soft: figures.soft,
            journal: figures.journal as u64,
            load_percent: (load.in_use * 100 / load.places.max(1)) as u64,
            hit_percent,
            hits_hour,
            stand: Stand::default(),
            warm_percent: link.warmth.figures().percent,
        }
    }

    fn look_for_a_double(&mut self, link: &Link, before: Option<&[u8]>) {
        let before: Option<Member> = before.and_then(|text| serde_json::from_slice(text).ok());
        let is_other = before.is_some_and(|member| member.instance != link.instance.to_string());
        let seen = if is_other { self.doubles_seen.saturating_add(1) } else { 0 };
        self.doubles_seen = seen;
        if seen == DOUBLES_SEEN {
            tracing::warn!(
                name = link.name,
                "another node announces itself by this name: give each a fleet.name of its own"
            );
        }
    }
}

/// Hits of the last minute or hour.
struct Ratio {
    over: Duration,
    seen: VecDeque<(Moment, u64, u64)>,
}

impl Ratio {
    fn of(over: Duration) -> Self {
        Self { over, seen: VecDeque::new() }
    }

    /// Hits, and what was asked.
    fn recent(&mut self, now: Moment, hits: u64, all: u64) -> (u64, u64) {
        let (over, seen) = (self.over, &mut self.seen);
        while seen.len() > 1 && seen.front().is_some_and(|(at, ..)| now.since(*at) > over) {
            seen.pop_front();
        }
        // Beats may be more frequent than this wants to know.
        let is_due = |(at, ..): &(Moment, u64, u64)| now.since(*at) >= over / 60;
        if seen.back().is_none_or(is_due) {
            seen.push_back((now, hits, all));
        }
        let (_, hits_before, all_before) = seen.front().copied().unwrap_or((now, hits, all));
        (hits.saturating_sub(hits_before), all.saturating_sub(all_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_those_of_the_last_minute() {
        let mut ratio = Ratio::of(MINUTE);
        let at = Moment::from_milliseconds;
        assert_eq!(ratio.recent(at(0), 0, 0), (0, 0));
        assert_eq!(ratio.recent(at(1_000), 9, 10), (9, 10));
        for second in 2..70 {
            ratio.recent(at(second * 1_000), 9, 10);
        }
        assert_eq!(ratio.recent(at(70_000), 10, 12), (1, 2));
        assert!(ratio.seen.len() <= 62);
    }
}
