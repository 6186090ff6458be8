//! What is noted about one request.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};

use crate::exchange::{Delivered, Scheme};
use crate::reason::Reason;

macro_rules! verdicts {
    ($($(#[doc = $doc:expr])+ $variant:ident = $word:literal,)+) => {
        /// How a request was answered, in one word for header, log and metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Verdict {
            /// Every verdict.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

verdicts! {
    /// From the store, fresh; also by waiting for another request's fetch.
    Hit = "hit",
    /// From the store, past its lifetime.
    Grace = "grace",
    /// Fetched from the origin for the store.
    Miss = "miss",
    /// Fetched, since a response to this key was found uncacheable a short while ago.
    HitForMiss = "hit-for-miss",
    /// Handed to the origin without asking the store.
    Pass = "pass",
    /// A static or media file from the disk.
    File = "file",
    /// An answer of our own, such as the health check's.
    Synth = "synth",
    /// A purge.
    Purge = "purge",
    /// Refused before anything was asked.
    Refused = "refused",
    /// No answer could be had.
    Failed = "failed",
    /// The client left before there was an answer.
    Gone = "gone",
}

/// One request and how it ended. Texts that are not there are empty.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When its response had left, by the wall clock.
    pub ended: SystemTime,
    /// From when its head had been read until then.
    pub duration: Duration,
    /// From handing it to the origin until the response's head, where the origin was asked.
    pub first_byte: Option<Duration>,
    /// How long it waited for its turn in its session, where it did.
    pub queued: Option<Duration>,
    /// The client, after the forwarding headers of trusted hops.
    pub client: IpAddr,
    /// The scheme the client used.
    pub scheme: Scheme,
    /// The protocol version.
    pub version: Version,
    /// The method.
    pub method: &'a [u8],
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// Path and query, raw.
    pub target: &'a [u8],
    /// User-Agent.
    pub user_agent: &'a [u8],
    /// Referer.
    pub referer: &'a [u8],
    /// The class in which it asked for a place in PHP, where it did.
    pub class: &'a str,
    /// The status of the response.
    pub status: StatusCode,
    /// How it was answered.
    pub verdict: Verdict,
    /// Why not from the store.
    pub reason: Option<Reason>,
    /// The rule of `[traffic]` that said no.
    pub rule: Option<&'a str>,
    /// How the delivery ended.
    pub delivered: Delivered,
}

impl Record<'_> {
    /// When its head had been read, by the wall clock.
    pub fn time(&self) -> SystemTime {
        self.ended.checked_sub(self.duration).unwrap_or(self.ended)
    }

    /// Content bytes that were sent.
    pub fn body_bytes(&self) -> u64 {
        self.delivered.body_bytes()
    }
}

/// The word for how a delivery ended.
pub(super) const fn end_word(delivered: Delivered) -> &'static str {
    match delivered {
        Delivered::Whole { .. } => "whole",
        Delivered::ClientGone { .. } => "client-gone",
        Delivered::BodyFailed { .. } => "body-failed",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A record of a hit.
    pub fn record() -> Record<'static> {
        Record {
            ended: SystemTime::UNIX_EPOCH + Duration::from_micros(1_792_000_000_124_234),
            duration: Duration::from_micros(1_234),
            first_byte: None,
            queued: None,
            client: IpAddr::from([192, 0, 2, 77]),
            scheme: Scheme::Https,
            version: Version::HTTP_11,
            method: b"GET",
            authority: b"shop.example",
            target: b"/p?a=1",
            user_agent: b"curl/8",
            referer: b"",
            class: "",
            status: StatusCode::OK,
            verdict: Verdict::Hit,
            reason: None,
            rule: None,
            delivered: Delivered::Whole { body_bytes: 1_500 },
        }
    }

    #[test]
    fn each_verdict_has_a_word_of_its_own() {
        let words: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
        assert_eq!(words.len(), Verdict::ALL.len());
    }
}
