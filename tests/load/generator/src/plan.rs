//! What a run does: read from a file of JSON, with a bound for everything.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// Seconds of a run; longer ones are a mistake.
const SECONDS_MAX: f64 = 4.0 * 3600.0;
/// Visitors at once; each takes a descriptor.
const USERS_MAX: usize = 100_000;
/// Arrivals of one kind in a second.
const RATE_MAX: f64 = 20_000.0;

/// A run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the server listens.
    pub target: SocketAddr,
    /// The Host of all requests.
    pub host: String,
    /// Addresses of this machine from which it connects, in turn: each has ports of its own.
    pub sources: Vec<IpAddr>,
    /// Of a visitor between two pages, on average, in milliseconds; it is spread from half to one and a half of that.
    pub think_ms: u64,
    /// After so many milliseconds a visitor gives a request up.
    pub patience_ms: u64,
    /// Visitors at once, of all kinds. Who would come beyond it is counted, and does not come.
    pub users_max: usize,
    /// Connections that bots of one kind have at once.
    pub bot_connections_max: usize,
    /// Of all random choices.
    pub seed: u64,
    /// What there is to visit.
    pub catalogue: Catalogue,
    /// Whether each page is asked for once before the first phase, by guests and by customers.
    pub warm: bool,
    /// One after another.
    pub phases: Vec<Phase>,
}

/// Pages of the shop, by number.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// /simple-product-1.html and so on.
    pub products: usize,
    /// /category-1.html and so on.
    pub categories: usize,
    /// Words that are often searched for.
    pub words: usize,
}

/// A time with a constant load.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// As the results call it.
    pub name: String,
    /// How long it takes.
    pub seconds: f64,
    /// From then on it counts; before, the load settles.
    #[serde(default)]
    pub settle_seconds: f64,
    /// Visitors at once, each followed by the next: a closed loop with think times.
    #[serde(default)]
    pub users: usize,
    /// Over how many seconds those of `users` who are not there yet come.
    #[serde(default)]
    pub ramp_seconds: f64,
    /// Sessions that begin in a second whatever the server does: an open loop.
    #[serde(default)]
    pub buyers: f64,
    /// The same of visitors who only look round, with filters and searches that few others use.
    #[serde(default)]
    pub browsers: f64,
    /// Requests in a second of bots that follow the links of layered navigation.
    #[serde(default)]
    pub facet: f64,
    /// Requests in a second of a bot that does so from 200 addresses.
    #[serde(default)]
    pub crawler: f64,
    /// Requests in a second of bots that search, fill carts and try passwords.
    #[serde(default)]
    pub abuse: f64,
    /// Requests in a second of a declared search engine.
    #[serde(default)]
    pub goodbot: f64,
}

impl Plan {
    /// Reads and checks it; what is wrong with it as text.
    pub fn read(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let seconds: f64 = plan.phases.iter().map(|phase| phase.seconds).sum();
        let too_long = !(seconds > 0.0 && seconds <= SECONDS_MAX);
        let wrong = |phase: &Phase| {
            let bots = [phase.facet, phase.crawler, phase.abuse, phase.goodbot];
            let rates = [phase.buyers, phase.browsers].into_iter().chain(bots);
            rates.into_iter().any(|rate| !(0.0..=RATE_MAX).contains(&rate))
                || !(0.0..phase.seconds).contains(&phase.settle_seconds)
                || !(0.0..=phase.seconds).contains(&phase.ramp_seconds)
                || phase.users > plan.users_max
        };
        let catalogue = &plan.catalogue;
        if plan.sources.is_empty() || plan.phases.is_empty() {
            Err("sources and phases must not be empty".to_owned())
        } else if too_long {
            Err(format!("the phases take {seconds} s; 0 to {SECONDS_MAX} s are possible"))
        } else if plan.users_max > USERS_MAX {
            Err(format!("users_max is at most {USERS_MAX}"))
        } else if [catalogue.products, catalogue.categories, catalogue.words].contains(&0) {
            Err("a catalogue without products, categories or words".to_owned())
        } else if let Some(phase) = plan.phases.iter().find(|phase| wrong(phase)) {
            Err(format!("phase {}: a rate, number or time is out of bounds", phase.name))
        } else {
            Ok(plan)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(phase: &str) -> String {
        format!(
            r#"{{"target": "127.0.0.1:80", "host": "shop.test", "sources": ["127.0.0.2"], "think_ms": 10, "patience_ms": 1000,
            "users_max": 100, "bot_connections_max": 4, "seed": 1, "catalogue": {{"products": 5, "categories": 2, "words": 3}},
            "warm": false, "phases": [{phase}]}}"#
        )
    }

    #[test]
    fn a_plan_is_read_and_its_bounds_hold() {
        let plan = Plan::read(&text(r#"{"name": "a", "seconds": 2, "users": 100}"#)).unwrap();
        assert_eq!((plan.phases[0].users, plan.phases[0].buyers), (100, 0.0));
        for wrong in [
            r#"{"name": "a", "seconds": 2, "users": 101}"#,
            r#"{"name": "a", "seconds": 2, "buyers": 1e9}"#,
            r#"{"name": "a", "seconds": 1e9}"#,
            r#"{"name": "a", "seconds": 2, "settle_seconds": 2}"#,
            r#"{"name": "a", "seconds": 2, "other": 2}"#,
            "",
        ] {
            assert!(Plan::read(&text(wrong)).is_err(), "{wrong}");
        }
    }
}
