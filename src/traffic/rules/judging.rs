//! What the rules say of a request: the first that decides, and what limits find before PHP is asked.

use std::sync::Arc;
use std::time::Duration;

use super::{Rule, Rules};
use crate::settings::{Action, Beyond, LimitRule};
use crate::traffic::asked::Asked;
use crate::traffic::matching::Set;
use crate::traffic::verdict::{Denial, Judged, No};

/// A limit's answer: how long to wait, where it is used up.
pub type Taken = Result<(), Duration>;

impl Rules {
    /// Judges a request. `take` takes from the account that this limit has for it, and is asked for limits on
    /// requests of this node alone.
    pub fn judge(&self, asked: &Asked<'_>, take: &dyn Fn(usize, &LimitRule) -> Taken) -> Judged {
        let mut judged = Judged::default();
        for place in self.candidates(asked).iter() {
            if self.late.has(place) {
                judged.before_php.add(place);
                judged.late.add(place);
                continue;
            }
            let Some(rule) = self.at(place).filter(|rule| rule.is_for(asked)) else { continue };
            rule.tally.match_one();
            judged.matched.add(place);
            let limit = rule.limit().filter(|limit| limit.php.is_some() || limit.fleet);
            if limit.is_some() {
                judged.before_php.add(place);
            }
            match rule.says(place, asked, take) {
                Said::Nothing => {}
                Said::Goes | Said::No(_) if rule.is_dry => rule.tally.decide_dry(),
                Said::Goes => {
                    rule.tally.decide();
                    break;
                }
                Said::No(no) => {
                    rule.tally.decide();
                    if matches!(no.denial, Denial::Stored(_)) {
                        judged.stored = Some(no);
                    } else {
                        judged.no = Some(no);
                    }
                    break;
                }
            }
        }
        for kind in asked.known_kinds() {
            self.kinds.count(kind);
        }
        judged
    }

    /// Of the limits to ask before PHP those that are for this client, now that it can be known who that is.
    pub fn before_php(&self, judged: &Judged, asked: &Asked<'_>) -> Set {
        let is_other = |place: &usize| !self.at(*place).is_some_and(|rule| rule.is_for(asked));
        judged.before_php.without(judged.late.iter().filter(is_other).collect())
    }

    /// Counts what matched a limit that found out late who asks.
    pub fn match_late(&self, late: Set) {
        late.iter().filter_map(|place| self.at(place)).for_each(|rule| rule.tally.match_one());
    }

    /// Does one of these limits ask whether its session is one here?
    pub fn ask_for_strangers(&self, judged: &Judged) -> bool {
        !judged.late.and(self.with_strangers).is_empty()
    }

    /// A limit was found used up before PHP: counts that, and says what becomes of it.
    pub fn used_up(
        &self,
        place: usize,
        asked: &Asked<'_>,
        again: Duration,
        is_of_php: bool,
    ) -> Option<No> {
        let rule = self.at(place)?;
        let no = rule.beyond(asked, again, is_of_php)?;
        if rule.is_dry {
            rule.tally.decide_dry();
            return None;
        }
        rule.tally.decide();
        Some(no)
    }

    /// Would a limit that is used up turn the request away? Not where it counts alone, nor who goes on beyond it.
    pub fn binds(&self, place: usize, asked: &Asked<'_>) -> bool {
        let rule = self.at(place).filter(|rule| !rule.is_dry);
        rule.is_some_and(|rule| rule.beyond(asked, Duration::ZERO, false).is_some())
    }

    /// Counts PHP's time for the rules that matched.
    pub fn charge(&self, matched: Set, php: Duration) {
        for rule in matched.iter().filter_map(|place| self.at(place)) {
            rule.tally.charge(php);
        }
    }
}

/// What a rule that matches says.
enum Said {
    /// The next rule is asked.
    Nothing,
    /// It goes on, and no further rule is asked.
    Goes,
    No(No),
}

impl Rule {
    fn says(
        &self,
        place: usize,
        asked: &Asked<'_>,
        take: &dyn Fn(usize, &LimitRule) -> Taken,
    ) -> Said {
        match &self.own.action {
            Action::Allow => Said::Goes,
            Action::Refuse => Said::No(self.no(Denial::Refused)),
            Action::Stored => Said::No(self.no(Denial::Stored(None))),
            Action::Challenge if asked.needs_no_challenge() => Said::Nothing,
            Action::Challenge => Said::No(self.no(Denial::Challenge)),
            Action::Limit(limit) if limit.requests.is_some() && !limit.fleet => {
                let again = take(place, limit).err();
                let no = again.and_then(|again| self.beyond(asked, again, false));
                no.map_or(Said::Nothing, Said::No)
            }
            Action::Log | Action::Limit(_) => Said::Nothing,
        }
    }

    fn no(&self, denial: Denial) -> No {
        No { rule: Arc::clone(&self.name), denial, is_of_php: false }
    }

    /// What becomes of a request beyond the limit; `None`: it goes on, since it has passed a challenge.
    pub fn beyond(&self, asked: &Asked<'_>, again: Duration, is_of_php: bool) -> Option<No> {
        let denial = match self.limit()?.beyond {
            Beyond::Wait => Denial::Wait(again),
            Beyond::Challenge if asked.needs_no_challenge() => return None,
            Beyond::Challenge if asked.can_be_challenged() => Denial::Challenge,
            // A script has nobody whom it could show a puzzle.
            Beyond::Stored | Beyond::Challenge => Denial::Stored(Some(again)),
        };
        Some(No { is_of_php, ..self.no(denial) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;
    use crate::settings::{self, Networks, Per, Rate, Traffic, TrafficRule, WhoKind};
    use crate::traffic::asked::Declared;
    use crate::traffic::asked::tests::{Someone, client, request};

    fn rule(name: &str, action: Action) -> TrafficRule {
        TrafficRule { name: name.to_owned(), action, ..TrafficRule::default() }
    }

    fn rules(rules: Vec<TrafficRule>) -> Rules {
        Rules::new(&Traffic { rules, ..Traffic::default() }, None)
    }

    fn limit(beyond: Beyond) -> Action {
        let requests = Some(Rate { amount: 1, each: Duration::from_secs(1) });
        Action::Limit(LimitRule { requests, beyond, ..LimitRule::default() })
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// The verdict on a request of someone at 192.0.2.1.
    fn judged(rules: &Rules, method: &str, target: &str, who: &Someone, taken: Taken) -> Judged {
        let fields = Fields::from([("User-Agent", "x"), ("Accept", "text/html")]);
        let request = request(method, target, fields);
        rules.judge(&Asked::new(&request, &client("192.0.2.1"), who), &|_, _| taken)
    }

    fn denial(judged: &Judged) -> Option<(&str, Denial)> {
        judged.no().or(judged.stored.as_ref()).map(|no| (&*no.rule, no.denial))
    }

    const AGAIN: Duration = Duration::from_secs(7);

    #[test]
    fn the_first_rule_that_decides_counts() {
        let rules = rules(vec![
            TrafficRule { paths: texts(&["/open"]), ..rule("log", Action::Log) },
            TrafficRule { paths: texts(&["/open"]), ..rule("open", Action::Allow) },
            rule("shut", Action::Refuse),
        ]);
        let who = Someone::default();
        assert_eq!(denial(&judged(&rules, "GET", "/open/x", &who, Ok(()))), None);
        let shut = judged(&rules, "GET", "/other", &who, Ok(()));
        assert_eq!(denial(&shut), Some(("shut", Denial::Refused)));
        assert_eq!(shut.no().map(No::reason), Some(crate::reason::Reason::RuleRefused));
        let figures: Vec<_> = rules.iter().map(Rule::figures).collect();
        assert_eq!(figures.iter().map(|one| one.matched).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(figures.iter().map(|one| one.decided).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(who.looks.get(), 0, "no rule asks who it is");
    }

    #[test]
    fn all_conditions_of_a_rule_have_to_hold() {
        let all = TrafficRule {
            from: ["192.0.2.0/24".parse::<ipnet::IpNet>().expect("a network")]
                .into_iter()
                .collect::<Networks>(),
            who: vec![WhoKind::Browser],
            methods: texts(&["GET"]),
            hosts: texts(&["shop.example"]),
            paths: texts(&["/x"]),
            query: texts(&["color"]),
            query_besides: texts(&["color"]),
            facets_min: Some(2),
            query_length_min: Some(10),
            headers: vec![settings::HeaderMatch {
                name: "user-agent".to_owned(),
                wants: settings::HeaderWants::Present,
            }],
            ..rule("all", Action::Refuse)
        };
        let right = ("GET", "/x?color=1&size=2");
        let rules = rules(vec![all]);
        let who = Someone::default();
        assert!(judged(&rules, right.0, right.1, &who, Ok(())).no().is_some());
        for (method, target, condition) in [
            ("POST", right.1, "methods"),
            ("GET", "/y?color=1&size=2", "paths"),
            ("GET", "/x?colour=1&size=2", "query"),
            ("GET", "/x?color=1&color=2", "query"),
            ("GET", "/x?color=&s=", "query_length_min"),
            ("GET", "/x?color=&size=2", "facets_min"),
            ("GET", "/x", "query"),
        ] {
            assert!(judged(&rules, method, target, &who, Ok(())).no().is_none(), "{target}");
            let request = request(method, target, Fields::from([("User-Agent", "x")]));
            let client = client("192.0.2.1");
            let asked = Asked::new(&request, &client, &who);
            assert_eq!(rules.misses(0, &asked), Some(condition), "{target}");
        }
        let bot = Someone { declared: Declared::Unverified, ..Someone::default() };
        assert!(judged(&rules, right.0, right.1, &bot, Ok(())).no().is_none());
        let request = request(right.0, right.1, Fields::new());
        let asked = Asked::new(&request, &client("198.51.100.1"), &who);
        assert_eq!(rules.misses(0, &asked), Some("from"));
    }

    #[test]
    fn a_limit_that_is_not_used_up_leaves_it_to_the_next_rule() {
        let rules = rules(vec![rule("limit", limit(Beyond::Wait)), rule("shut", Action::Refuse)]);
        let who = Someone::default();
        let within = judged(&rules, "GET", "/", &who, Ok(()));
        assert_eq!(denial(&within), Some(("shut", Denial::Refused)));
        let beyond = judged(&rules, "GET", "/", &who, Err(AGAIN));
        assert_eq!(denial(&beyond), Some(("limit", Denial::Wait(AGAIN))));
    }

    #[test]
    fn who_has_passed_or_is_verified_is_not_challenged() {
        let rules = rules(vec![
            rule("limit", limit(Beyond::Challenge)),
            rule("challenge", Action::Challenge),
        ]);
        let someone = Someone::default();
        let of = |who: &Someone, taken| {
            denial(&judged(&rules, "GET", "/", who, taken))
                .map(|(rule, denial)| (rule.to_owned(), denial))
        };
        assert_eq!(of(&someone, Err(AGAIN)), Some(("limit".to_owned(), Denial::Challenge)));
        assert_eq!(of(&someone, Ok(())), Some(("challenge".to_owned(), Denial::Challenge)));
        let passed = Someone { has_passed: true, ..Someone::default() };
        let verified = Someone { declared: Declared::Verified, ..Someone::default() };
        for who in [&passed, &verified] {
            assert_eq!(of(who, Err(AGAIN)), None);
        }
        let script = request("GET", "/", Fields::from([("Accept", "application/json")]));
        let judged =
            rules.judge(&Asked::new(&script, &client("192.0.2.1"), &someone), &|_, _| Err(AGAIN));
        let stored = Denial::Stored(Some(AGAIN));
        assert_eq!(denial(&judged), Some(("limit", stored)), "it cannot be shown one");
    }

    #[test]
    fn a_dry_rule_counts_and_decides_nothing() {
        let dry = TrafficRule { dry_run: true, ..rule("dry", Action::Refuse) };
        let counted = rules(vec![dry.clone(), rule("open", Action::Allow)]);
        let who = Someone::default();
        assert_eq!(denial(&judged(&counted, "GET", "/", &who, Ok(()))), None);
        let figures: Vec<_> = counted.iter().map(Rule::figures).collect();
        assert_eq!((figures[0].matched, figures[0].decided, figures[0].dry_run), (1, 0, 1));
        assert_eq!(figures[1].decided, 1);
        let all_dry =
            Traffic { dry_run: true, rules: vec![rule("a", Action::Refuse)], ..Traffic::default() };
        let all_dry = Rules::new(&all_dry, None);
        assert_eq!(denial(&judged(&all_dry, "GET", "/", &who, Ok(()))), None);
        assert_eq!(all_dry.iter().next().map(|rule| rule.figures().dry_run), Some(1));
    }

    #[test]
    fn limits_of_php_and_of_the_fleet_are_for_later() {
        let php = LimitRule {
            php: Some(Rate { amount: 100, each: Duration::from_secs(1) }),
            ..LimitRule::default()
        };
        let fleet = LimitRule {
            requests: Some(Rate { amount: 1, each: Duration::from_secs(1) }),
            fleet: true,
            per: Per::Session,
            ..LimitRule::default()
        };
        let rules = rules(vec![
            rule("php", Action::Limit(php)),
            rule("fleet", Action::Limit(fleet)),
            rule("open", Action::Allow),
            rule("never", Action::Refuse),
        ]);
        let who = Someone::default();
        // Whatever an account would say: it is not asked.
        let judged = judged(&rules, "POST", "/", &who, Err(AGAIN));
        assert_eq!(denial(&judged), None);
        assert_eq!(judged.before_php.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(judged.matched.iter().collect::<Vec<_>>(), [0, 1, 2]);
        rules.charge(judged.matched, Duration::from_millis(30));
        assert_eq!(rules.iter().next().map(|rule| rule.figures().php_milliseconds), Some(30));
        let request = request("POST", "/", Fields::new());
        let client = client("192.0.2.1");
        let asked = Asked::new(&request, &client, &who);
        let no = rules.used_up(0, &asked, AGAIN, true).expect("used up");
        assert_eq!((no.denial, no.reason()), (Denial::Wait(AGAIN), crate::reason::Reason::RulePhp));
    }

    #[test]
    fn counts_go_on_over_a_reload_by_name() {
        let first = rules(vec![rule("a", Action::Allow), rule("b", Action::Log)]);
        judged(&first, "GET", "/", &Someone::default(), Ok(()));
        let traffic = Traffic {
            rules: vec![rule("b", Action::Log), rule("a", Action::Allow)],
            ..Traffic::default()
        };
        let second = Rules::new(&traffic, Some(&first));
        judged(&second, "GET", "/", &Someone::default(), Ok(()));
        let matched: Vec<_> = second.iter().map(|rule| rule.figures().matched).collect();
        assert_eq!(matched, [1, 2]);
    }
}
