//! The typed reason of each miss, pass and refusal: one word, the same in header, log and metric.

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $variant:ident = $word:literal,)+) => {
        /// Why a request was not answered from the store, or a response not stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the table in ARCHITECTURE.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in header, log and metric.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Was there no place in the origin in time?
            pub const fn is_of_queue(self) -> bool {
                matches!(self, Self::OriginBusy | Self::QueuePutOut | Self::QueueTimeout)
            }

            /// Did a rule of `[traffic]` say no?
            pub const fn is_of_rule(self) -> bool {
                matches!(
                    self,
                    Self::RuleRefused
                        | Self::RuleLimited
                        | Self::RulePhp
                        | Self::RuleStored
                        | Self::Challenge
                )
            }
        }
    };
}

reasons! {
    // Misses: the store was asked and had nothing to serve.
    /// Nothing was stored under the key.
    Cold = "cold",
    /// What was stored is past its grace.
    Expired = "expired",
    /// An allowed client forced a fetch.
    Forced = "forced",
    /// A response for this key was found uncacheable a short while ago.
    HitForMiss = "hit-for-miss",
    /// This node cannot prove that it knows of every purge, so what is stored may be older than one.
    Unproven = "unproven",
    /// A purge came while the response was under way, so it was not kept.
    Fenced = "fenced",
    /// The leader of the fill hung or failed, and this request fetched for itself.
    FillAbandoned = "fill-abandoned",

    // Passes: the store was not asked.
    /// The method is neither GET nor HEAD.
    Method = "method",
    /// The path is one that is never stored.
    BypassPath = "bypass-path",
    /// A cookie that the configuration names.
    BypassCookie = "bypass-cookie",
    /// Static and media files are not kept in the page store.
    StaticFile = "static-file",
    /// The health check.
    HealthCheck = "health-check",
    /// An Authorization header, which a shared cache passes (RFC 9111 3.5).
    Authorization = "authorization",
    /// GraphQL with a token and no cache id.
    GraphqlToken = "graphql-token",
    /// A request to switch to another protocol (WebSocket).
    Upgrade = "upgrade",
    /// A GET or HEAD with content ("fat GET").
    RequestBody = "request-body",
    /// A path with encoded slashes, dots or NUL, on which two readers may disagree.
    AmbiguousPath = "ambiguous-path",
    /// A session id in the URL.
    SessionInUrl = "session-in-url",
    /// The host is none of `site.hosts`.
    UnknownHost = "unknown-host",
    /// Storing is switched off.
    StoreOff = "store-off",

    // Responses that are not stored.
    /// Its status is one that is not stored.
    Status = "status",
    /// `Cache-Control: private`.
    Private = "private",
    /// `no-store`, in Cache-Control or Surrogate-Control.
    NoStore = "no-store",
    /// `no-cache`, in Cache-Control.
    NoCache = "no-cache",
    /// No lifetime is left, or none was given.
    NoLifetime = "no-lifetime",
    /// `Vary: *`.
    VaryAny = "vary-any",
    /// It varies by a header that is not part of the key.
    Vary = "vary",
    /// It sets or deletes X-Magento-Vary: the page belongs to another variant.
    MagentoVary = "magento-vary",
    /// Its X-Magento-Cache-Id differs from the request's.
    GraphqlCacheId = "graphql-cache-id",
    /// HTML without tags could never be purged.
    Untagged = "untagged",
    /// It is partial content.
    Partial = "partial",
    /// Its content coding is unknown, one of several, or not what its content is.
    ContentEncoding = "content-encoding",
    /// It is larger than the store takes.
    TooLarge = "too-large",
    /// It ended before its end.
    Truncated = "truncated",

    // Refusals.
    /// The request is malformed, or two readers may read it in two ways.
    MalformedRequest = "malformed-request",
    /// The request is larger than a limit.
    OversizedRequest = "oversized-request",
    /// The request did not arrive in its time.
    SlowRequest = "slow-request",
    /// The request expects what nobody here does.
    Expectation = "expectation",

    /// A rule of `[traffic]` refuses it.
    RuleRefused = "rule-refused",
    /// A limit of `[traffic]` on requests is used up.
    RuleLimited = "rule-limited",
    /// A limit of `[traffic]` on PHP's time is used up.
    RulePhp = "rule-php",
    /// A rule of `[traffic]` gives what is stored alone, and nothing is.
    RuleStored = "rule-stored",

    // Failures.
    /// The origin refused the connection.
    OriginRefused = "origin-refused",
    /// The origin was too slow.
    OriginTimeout = "origin-timeout",
    /// All workers of the origin are busy and the queue is full.
    OriginBusy = "origin-busy",
    /// A request of a higher class took its seat in the queue before PHP.
    QueuePutOut = "queue-put-out",
    /// It waited in the queue before PHP for as long as its class may.
    QueueTimeout = "queue-timeout",
    /// The origin answered something that is no proper response.
    OriginMalformed = "origin-malformed",
    /// The origin's connection broke.
    OriginLost = "origin-lost",
    /// Too many requests of the session wait, or those before it took too long.
    SessionBusy = "session-busy",
    /// The shop is being worked on (`parvis maintenance`).
    Maintenance = "maintenance",
    /// A rule asks its client to solve a challenge first.
    Challenge = "challenge",
    /// The shop is full, and its client waits (`[waiting_room]`).
    Waiting = "waiting",
    /// A fragment failed, and `esi.on_error` says that its page fails with it.
    Fragment = "fragment",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }
}
