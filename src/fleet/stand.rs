//! How nodes stand towards their visitors, and how many may be out at once.
//!
//! A fault that one server has makes it not ready, and others take its visitors. What many have at
//! once must not do so, or nobody would be left. So each node announces a fault first, and is out only
//! while not too many others are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::link::Link;
use super::members::Member;
use crate::clock::Moment;
use crate::observe::{Phase, Readiness, State};

/// How a node stands towards its visitors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// It is ready.
    #[default]
    Ready,
    /// It is ready in spite of a fault, or is about to be out.
    Faulty,
    /// It is not ready because of a fault.
    Out,
    /// It starts.
    Joining,
    /// It was told to stop.
    Leaving,
    /// What only a newer version knows.
    #[serde(other)]
    Else,
}

impl Stand {
    /// Of a node with this readiness.
    pub fn of(readiness: &Readiness) -> Self {
        let is_starting = readiness.causes().iter().any(|cause| cause.is_of_start());
        match readiness.phase() {
            Phase::Draining | Phase::Stopping => Self::Leaving,
            Phase::Starting => Self::Joining,
            Phase::Serving if is_starting => Self::Joining,
            Phase::Serving if !readiness.ready() => Self::Out,
            Phase::Serving if readiness.has_bounded_fault() => Self::Faulty,
            Phase::Serving => Self::Ready,
        }
    }

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Faulty => "ready, faulty",
            Self::Out => "out",
            Self::Joining => "joining",
            Self::Leaving => "leaving",
            Self::Else => "?",
        }
    }

    /// May it be asked to render pages?
    pub(super) fn renders(self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Does it get visitors?
    fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Faulty)
    }
}

/// How many of so many nodes may be not ready: the share, but one of several in any case, and never
/// all of them.
pub fn out_max(nodes: usize, share_percent: usize) -> usize {
    (nodes * share_percent / 100).max(1).min(nodes.saturating_sub(1))
}

/// May a node with a fault be not ready? Those that are so already come first, and among equals the
/// names decide, so that all who see the same agree without asking each other.
pub fn may_be_out(own_name: &str, is_out: bool, members: &[Member], share_percent: usize) -> bool {
    // Who starts has no visitors yet who would miss it.
    let counts = |member: &&Member| member.name != own_name && member.stand != Stand::Joining;
    let others = || members.iter().filter(counts);
    let own_rank = (!is_out, own_name);
    let comes_first = |member: &&Member| match member.stand {
        Stand::Out => (false, member.name.as_str()) < own_rank,
        Stand::Faulty => (true, member.name.as_str()) < own_rank,
        // Stopping is nobody's choice here.
        stand => !stand.is_ready(),
    };
    others().filter(comes_first).count() < out_max(others().count() + 1, share_percent)
}

/// Heartbeats for which a fault is announced before it makes a node not ready: by then those who
/// have got it at the same time know of each other.
const ANNOUNCED_FOR: u32 = 2;

/// Decides for this node.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Since when the others have known of its fault.
    announced: Option<Moment>,
    has_said: bool,
}

impl Guard {
    /// Looks at who is there. What was decided stays while nobody can be seen.
    pub(super) fn look(&mut self, link: &Arc<Link>, state: &State, members: &[Member]) {
        let readiness = state.readiness();
        if !readiness.has_bounded_fault() {
            *self = Self::default();
            state.excuse(true);
            return;
        }
        let own = members.iter().find(|member| member.name == link.name);
        if !own.is_some_and(|own| matches!(own.stand, Stand::Faulty | Stand::Out)) {
            link.beat_now.notify_one();
            return;
        }
        let now = link.clock.now();
        let announced = *self.announced.get_or_insert(now);
        if now.since(announced) < link.settings.heartbeat * ANNOUNCED_FOR {
            return;
        }
        let is_out = readiness.excused().next().is_none();
        let may = may_be_out(&link.name, is_out, members, link.settings.warm.out_share_percent);
        let is_news = state.excuse(!may) || !self.has_said;
        if is_news && may {
            tracing::error!("not ready because of a fault of this server");
        } else if is_news {
            tracing::warn!(
                "ready in spite of a fault: more nodes than fleet.out_share would be not ready"
            );
        }
        self.has_said = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: usize, stand: Stand) -> Member {
        Member { name: format!("web-{name:02}"), stand, ..Member::default() }
    }

    #[test]
    fn one_of_several_may_always_be_out_and_never_all() {
        let of = |nodes| out_max(nodes, 30);
        assert_eq!([0, 1, 2, 3, 6, 7, 10].map(of), [0, 0, 1, 1, 1, 2, 3]);
        assert_eq!(out_max(5, 100), 4);
    }

    #[test]
    fn a_word_of_a_newer_version_is_no_mistake() {
        let stand = |text: &str| serde_json::from_str::<Stand>(text).ok();
        assert_eq!(stand("\"resting\""), Some(Stand::Else));
        assert_eq!(stand("\"joining\""), Some(Stand::Joining));
        assert_eq!(serde_json::to_string(&Stand::Out).ok().as_deref(), Some("\"out\""));
    }

    #[test]
    fn a_node_that_stops_counts_as_out_and_one_that_starts_not_at_all() {
        let rest =
            |stand| vec![member(1, Stand::Faulty), member(2, stand), member(3, Stand::Ready)];
        let may = |stand| may_be_out("web-01", false, &rest(stand), 30);
        assert!(may(Stand::Ready) && may(Stand::Faulty) && may(Stand::Joining));
        assert!(!may(Stand::Leaving) && !may(Stand::Out));
        let alone = [member(1, Stand::Faulty), member(2, Stand::Joining)];
        assert!(!may_be_out("web-01", false, &alone, 30), "nobody else has visitors");
    }

    /// All nodes decide by what they saw of each other until nothing changes.
    fn settle(stands: &[Stand]) -> Vec<Stand> {
        let mut members: Vec<_> =
            stands.iter().enumerate().map(|(name, stand)| member(name, *stand)).collect();
        for _ in 0..=stands.len() {
            let seen = members.clone();
            for member in &mut members {
                let is_out = member.stand == Stand::Out;
                if is_out || member.stand == Stand::Faulty {
                    let may = may_be_out(&member.name, is_out, &seen, 30);
                    member.stand = if may { Stand::Out } else { Stand::Faulty };
                }
            }
            if seen == members {
                return members.into_iter().map(|member| member.stand).collect();
            }
        }
        panic!("they do not come to rest: {stands:?}");
    }

    proptest! {
        #[test]
        fn no_more_are_out_than_may_be_and_as_many_as_may(stands in prop::collection::vec(
            prop::sample::select(vec![
                Stand::Ready, Stand::Faulty, Stand::Out, Stand::Joining, Stand::Leaving,
            ]),
            1..12,
        )) {
            let settled = settle(&stands);
            let number = |of: &[Stand]| settled.iter().filter(|stand| of.contains(stand)).count();
            let (out, faulty) = (number(&[Stand::Out]), number(&[Stand::Faulty]));
            let nodes = stands.len() - number(&[Stand::Joining]);
            let room = out_max(nodes, 30).saturating_sub(number(&[Stand::Leaving]));
            prop_assert_eq!(out, room.min(out + faulty));
        }
    }
}
