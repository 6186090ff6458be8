//! Finds the names of bots in a User-Agent, in one walk over it.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::data::{Agent, DataError};
use super::recent::{self, Stamp};

/// Bytes of a User-Agent that are looked at. Who says that it is a bot says so before.
const LOOKED_AT_MAX_BYTES: usize = 1 << 10;
/// Names of devices in one User-Agent that are told from bots.
const DEVICES_MAX: usize = 8;

/// The names of bots and of devices.
#[derive(Debug)]
pub(super) struct Names {
    automaton: AhoCorasick,
    patterns: Vec<Pattern>,
    stamp: Stamp,
}

/// What one text of the automaton is.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    /// The bot that it names, by its place; `None`: a device, in whose name that of a bot stands.
    bot: Option<usize>,
    begins_word: bool,
    ends_word: bool,
}

/// Where a device is named.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Names {
    /// The texts that bots are known by, in the order of the bots, and the names of devices.
    ///
    /// # Errors
    /// [`DataError::TooMany`]
    pub fn new<'a>(
        bots: impl IntoIterator<Item = &'a [String]>,
        devices: &'a [String],
        texts_max: usize,
    ) -> Result<Self, DataError> {
        let of_bots = bots.into_iter().enumerate();
        let of_bots =
            of_bots.flat_map(|(at, agents)| agents.iter().map(move |own| (own, Some(at))));
        let all: Vec<_> = of_bots.chain(devices.iter().map(|device| (device, None))).collect();
        if all.len() > texts_max {
            let text = format!("{} names are more than bots.agents_max, {texts_max}", all.len());
            return Err(DataError::TooMany(text));
        }
        let mut patterns = Vec::with_capacity(all.len());
        let mut texts = Vec::with_capacity(all.len());
        for (text, bot) in all {
            let Agent { text, begins_word, ends_word } = Agent::of(text);
            texts.push(text);
            patterns.push(Pattern { bot, begins_word, ends_word });
        }
        // A table for each byte at each place: twice as fast as the automaton that is smaller.
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(texts)
            .map_err(|error| DataError::TooMany(error.to_string()))?;
        Ok(Self { automaton, patterns, stamp: Stamp::new() })
    }

    /// The bot that a User-Agent names, by its place; of several the first one.
    pub fn find(&self, agent: &[u8]) -> Option<usize> {
        let agent = &agent[..agent.len().min(LOOKED_AT_MAX_BYTES)];
        recent::find(self.stamp, agent, |agent| self.walk(agent))
    }

    fn walk(&self, agent: &[u8]) -> Option<usize> {
        let (mut found, mut has_devices) = (None, false);
        for hit in self.automaton.find_overlapping_iter(agent) {
            let pattern = self.patterns[hit.pattern().as_usize()];
            if !pattern.is_whole(agent, hit.start(), hit.end()) {
                continue;
            }
            has_devices |= pattern.bot.is_none();
            found = first(found, pattern.bot);
        }
        // Rare enough to walk again.
        if has_devices && found.is_some() { self.find_besides_devices(agent) } else { found }
    }

    /// The same where devices are named, whose names are nobody's.
    fn find_besides_devices(&self, agent: &[u8]) -> Option<usize> {
        let mut devices = [Span::default(); DEVICES_MAX];
        let hits = || {
            self.automaton.find_overlapping_iter(agent).filter_map(|hit| {
                let pattern = self.patterns[hit.pattern().as_usize()];
                let span = Span { start: hit.start(), end: hit.end() };
                pattern.is_whole(agent, span.start, span.end).then_some((pattern.bot, span))
            })
        };
        let named = hits().filter(|(bot, _)| bot.is_none()).map(|(_, span)| span);
        for (place, span) in devices.iter_mut().zip(named) {
            *place = span;
        }
        let is_device = |span: Span| {
            devices.iter().any(|device| device.start <= span.start && span.end <= device.end)
        };
        let bots = hits().filter(|(_, span)| !is_device(*span)).filter_map(|(bot, _)| bot);
        bots.min()
    }
}

impl Pattern {
    fn is_whole(self, agent: &[u8], start: usize, end: usize) -> bool {
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| agent.get(at)).is_some_and(u8::is_ascii_alphabetic)
        };
        (!self.begins_word || !is_letter(start.checked_sub(1)))
            && (!self.ends_word || !is_letter(Some(end)))
    }
}

fn first(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn names(bots: &[&[&str]], devices: &[&str]) -> Names {
        let bots: Vec<_> = bots.iter().map(|agents| texts(agents)).collect();
        Names::new(bots.iter().map(Vec::as_slice), &texts(devices), 100).expect("few")
    }

    #[test]
    fn the_first_bot_that_is_named_counts() {
        let names = names(&[&["googlebot-image"], &["googlebot", "google-x"], &["bot>"]], &[]);
        assert_eq!(names.find(b"Googlebot-Image/1.0"), Some(0));
        assert_eq!(names.find(b"Mozilla/5.0 (compatible; GoogleBot/2.1)"), Some(1));
        assert_eq!(names.find(b"GOOGLE-X and googlebot-image"), Some(0));
        assert_eq!(names.find(b"NewBot/1"), Some(2));
        assert_eq!(names.find(b"bottle; botnet"), None, "a word's end was asked for");
        assert_eq!(names.find(b""), None);
    }

    #[test]
    fn a_word_has_no_letters_around() {
        let names = names(&[&["<yeti>"]], &[]);
        for named in ["Yeti/1.1", "(yeti)", "1yeti2", "x yeti"] {
            assert_eq!(names.find(named.as_bytes()), Some(0), "{named}");
        }
        for other in ["xyeti", "yetis", "ayetib"] {
            assert_eq!(names.find(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_device_whose_name_has_a_bots_in_it_is_none() {
        let names = names(&[&["bot>"], &["crawl"]], &["cubot", "bot maker"]);
        assert_eq!(names.find(b"Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) Chrome/90"), None);
        assert_eq!(names.find(b"CUBOT and a bot"), Some(0), "this one is named beside");
        assert_eq!(names.find(b"CUBOT crawler"), Some(1));
        assert_eq!(names.find(b"a bot maker"), None, "the device's name ends behind the bot's");
    }

    #[test]
    fn what_is_far_behind_is_not_looked_at() {
        let names = names(&[&["bot>"]], &[]);
        let mut agent = vec![b'x'; LOOKED_AT_MAX_BYTES - 3];
        agent.extend_from_slice(b"bot");
        assert_eq!(names.find(&agent), Some(0));
        agent.insert(0, b'x');
        assert_eq!(names.find(&agent), None);
    }

    #[test]
    fn too_many_names_are_refused() {
        let bots = [texts(&["one", "two"])];
        let built = |most| Names::new(bots.iter().map(Vec::as_slice), &texts(&["three"]), most);
        assert!(built(3).is_ok());
        assert!(matches!(built(2), Err(DataError::TooMany(_))));
        assert_eq!(Names::new([], &[], 0).expect("none").find(b"bot"), None);
    }

    /// The same by the plainest means.
    fn naive(bots: &[Vec<String>], devices: &[String], agent: &str) -> Option<usize> {
        let agent = agent.to_ascii_lowercase();
        let spans = |text: &String| -> Vec<(usize, usize)> {
            let Agent { text, begins_word, ends_word } = Agent::of(text);
            let is_letter = |at: Option<usize>| {
                at.and_then(|at| agent.as_bytes().get(at)).is_some_and(u8::is_ascii_alphabetic)
            };
            (0..agent.len())
                .filter(|start| agent[*start..].starts_with(text))
                .map(|start| (start, start + text.len()))
                .filter(|(start, end)| {
                    (!begins_word || !is_letter(start.checked_sub(1)))
                        && (!ends_word || !is_letter(Some(*end)))
                })
                .collect()
        };
        let devices: Vec<_> = devices.iter().flat_map(spans).collect();
        let is_device = |span: &(usize, usize)| {
            devices.iter().any(|device| device.0 <= span.0 && span.1 <= device.1)
        };
        bots.iter().position(|agents| agents.iter().flat_map(spans).any(|span| !is_device(&span)))
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_looking_for_each_name_finds(
            bots in prop::collection::vec(prop::collection::vec("<?[ab]{2,3}>?", 0..3), 0..4),
            devices in prop::collection::vec("<?[ab ]{2,4}>?", 0..2),
            agent in "[abAB ]{0,12}",
        ) {
            let names = Names::new(bots.iter().map(Vec::as_slice), &devices, 100).expect("few");
            // More devices than are told apart are in no User-Agent.
            let count = devices.iter().map(|device| agent.to_ascii_lowercase().matches(device.trim_matches(['<', '>'])).count());
            prop_assume!(count.sum::<usize>() * 2 < DEVICES_MAX);
            prop_assert_eq!(names.find(agent.as_bytes()), naive(&bots, &devices, &agent));
        }
    }
}
