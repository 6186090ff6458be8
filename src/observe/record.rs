//! What is noted about one request.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode, Version};

use crate::exchange::{Client, Delivered, Request, Scheme};
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

/// One request and how it ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// When its head had been read, by the wall clock.
    pub time: SystemTime,
    /// From there until its response had left.
    pub duration: Duration,
    /// From handing it to the origin until the response's head, where the origin was asked.
    pub first_byte: Option<Duration>,
    /// The client, after the forwarding headers of trusted hops.
    pub client: IpAddr,
    /// The scheme the client used.
    pub scheme: Scheme,
    /// The protocol version.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// Host and port as the client named them.
    pub authority: Bytes,
    /// Path and query, raw.
    pub target: Bytes,
    /// User-Agent, where there is one.
    pub user_agent: Option<Bytes>,
    /// Referer, where there is one.
    pub referer: Option<Bytes>,
    /// The status of the response.
    pub status: StatusCode,
    /// How it was answered.
    pub verdict: Verdict,
    /// Why not from the store.
    pub reason: Option<Reason>,
    /// How the delivery ended.
    pub delivered: Delivered,
}

impl Record {
    /// A request whose head has just been read. Until an answer is known it counts as
    /// [`Verdict::Gone`], with nginx's status 499 ("client closed request").
    pub fn new(request: &Request, client: &Client, time: SystemTime) -> Self {
        Self {
            time,
            duration: Duration::ZERO,
            first_byte: None,
            client: client.address,
            scheme: client.scheme,
            version: request.version,
            method: request.method.clone(),
            authority: request.authority.clone(),
            target: request.target.clone(),
            user_agent: request.fields.first("User-Agent").cloned(),
            referer: request.fields.first("Referer").cloned(),
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            verdict: Verdict::Gone,
            reason: None,
            delivered: Delivered::ClientGone { body_bytes: 0 },
        }
    }

    /// Content bytes that were sent.
    pub fn body_bytes(&self) -> u64 {
        match self.delivered {
            Delivered::Whole { body_bytes }
            | Delivered::ClientGone { body_bytes }
            | Delivered::BodyFailed { body_bytes } => body_bytes,
        }
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
    pub fn record() -> Record {
        Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_792_000_000_123),
            duration: Duration::from_micros(1_234),
            first_byte: None,
            client: IpAddr::from([192, 0, 2, 77]),
            scheme: Scheme::Https,
            version: Version::HTTP_11,
            method: Method::GET,
            authority: Bytes::from("shop.example"),
            target: Bytes::from("/p?a=1"),
            user_agent: Some(Bytes::from("curl/8")),
            referer: None,
            status: StatusCode::OK,
            verdict: Verdict::Hit,
            reason: None,
            delivered: Delivered::Whole { body_bytes: 1_500 },
        }
    }

    #[test]
    fn each_verdict_has_a_word_of_its_own() {
        let words: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
        assert_eq!(words.len(), Verdict::ALL.len());
    }
}
