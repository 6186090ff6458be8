//! The heartbeat: announces this node and asks for the log's end in one step, which is its proof that
//! it knows it; and connects again when Redis was away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Load;
use super::link::{Link, SHORT_PAUSE, token};
use super::members::Member;
use super::stream::beat_of;
use crate::clock::Moment;
use crate::observe::{Cause, State, Verdict};
use crate::redis_pool::RedisError;

/// The time over which the hit ratio is taken.
const RATIO_OVER: Duration = Duration::from_secs(60);

/// After so many beats in a row another process of this name is no one that this one takes over
/// from, or follows.
const DOUBLES_SEEN: u32 = 3;

/// How busy this node is, asked at each announcement.
type Asked = dyn Fn() -> Load + Send + Sync;

/// Beats for as long as the process lives.
pub(super) async fn run(link: Arc<Link>, state: Arc<State>, load: Box<Asked>) {
    let mut heart = Heart { ratio: Ratio::default(), doubles_seen: 0 };
    let require = link.redis_is_required();
    loop {
        let went_well = heart.beat(&link, &*load).await;
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
        }
    }
}

/// Takes this node out of the list, so that nobody waits for it.
pub(super) async fn leave(link: &Link) {
    let _ = link.redis.ask(&link.keys.leave(&link.name)).await;
}

struct Heart {
    ratio: Ratio,
    /// So many beats in a row found another process of this name.
    doubles_seen: u32,
}

impl Heart {
    /// False: Redis did not answer.
    async fn beat(&mut self, link: &Arc<Link>, load: &Asked) -> bool {
        let member = self.member(link, load());
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
        let hit_percent = self.ratio.percent(now, hits, hits + asked.sum::<u64>());
        let position = link.position();
        let figures = link.figures();
        Member {
            name: link.name.clone(),
            instance: link.instance.to_string(),
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

/// Hits of the last minute.
#[derive(Default)]
struct Ratio(VecDeque<(Moment, u64, u64)>);

impl Ratio {
    /// In percent; `None`: nothing was asked.
    fn percent(&mut self, now: Moment, hits: u64, all: u64) -> Option<u64> {
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, ..)| now.since(*at) > RATIO_OVER)
        {
            self.0.pop_front();
        }
        // Beats may be more frequent than this wants to know.
        let is_due = |(at, ..): &(Moment, u64, u64)| now.since(*at) >= RATIO_OVER / 60;
        if self.0.back().is_none_or(is_due) {
            self.0.push_back((now, hits, all));
        }
        let (_, hits_before, all_before) = self.0.front().copied()?;
        let (hits, all) = (hits.saturating_sub(hits_before), all.saturating_sub(all_before));
        (hits * 100).checked_div(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_is_that_of_the_last_minute() {
        let mut ratio = Ratio::default();
        let at = Moment::from_milliseconds;
        assert_eq!(ratio.percent(at(0), 0, 0), None);
        assert_eq!(ratio.percent(at(1_000), 9, 10), Some(90));
        for second in 2..70 {
            ratio.percent(at(second * 1_000), 9, 10);
        }
        assert_eq!(ratio.percent(at(70_000), 10, 12), Some(50));
        assert!(ratio.0.len() <= 62);
    }
}
