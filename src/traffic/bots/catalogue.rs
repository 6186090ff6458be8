//! What all files together say, made ready to be asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::data::{Data, DataError, Entry, Kind, Published};
use super::names::Names;
use super::ranges::Ranges;
use crate::clock::Moment;
use crate::settings::KnownBots;

/// A bot that is known by its name.
#[derive(Debug)]
pub(super) struct Known {
    pub name: Box<str>,
    pub operator: Box<str>,
    pub kind: Kind,
    /// What its hosts' names end with.
    pub hosts: Vec<String>,
    /// Do those names lead back to its addresses?
    pub hosts_resolve: bool,
    ranges: Ranges,
    /// Until then who is in none of its ranges is an impostor; `None`: its ranges are not all.
    convicts_until: Option<Moment>,
}

/// What is known of an address without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is in the bot's ranges.
    Inside,
    /// It is in none, and these are all.
    Outside,
    /// The hosts' names can say it.
    AskHosts,
    /// Nobody can say.
    Nothing,
}

impl Known {
    /// Where the address is, which has IPv4 as IPv4.
    pub fn tells(&self, address: IpAddr, now: Moment) -> Told {
        if self.ranges.contains(address) {
            Told::Inside
        } else if !self.hosts.is_empty() {
            Told::AskHosts
        } else if self.convicts_until.is_some_and(|until| now < until) {
            Told::Outside
        } else {
            Told::Nothing
        }
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub wall: SystemTime,
    pub now: Moment,
}

impl Times {
    /// The moment at which what is from `date` has an age of `age_max`; `None`: it has passed.
    fn until(self, date: SystemTime, age_max: Duration) -> Option<Moment> {
        // What is from tomorrow is as new as what is from now.
        let age = self.wall.duration_since(date).unwrap_or_default();
        age_max.checked_sub(age).filter(|left| !left.is_zero()).map(|left| self.now.plus(left))
    }
}

/// A list of ranges for a bot, and when it was fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    pub bot: &'a str,
    pub published: &'a Published,
    pub fetched: SystemTime,
}

/// All bots, ready to be asked.
#[derive(Debug)]
pub(super) struct Catalogue {
    known: Vec<Arc<Known>>,
    names: Names,
    /// The day of the newest file.
    pub day: String,
}

/// A bot on its way into the catalogue.
struct Merged<'a> {
    entry: &'a Entry,
    date: SystemTime,
}

impl Catalogue {
    /// Puts the files together. A later file's bots stand before those of earlier ones, and take the
    /// place of one of the same name; a list of ranges takes the place of its bot's own.
    ///
    /// # Errors
    /// [`DataError::TooMany`]. A list for a bot that there is not is left out.
    pub fn new(
        files: &[&Data],
        lists: &[List<'_>],
        settings: &KnownBots,
        times: Times,
    ) -> Result<Self, DataError> {
        let (merged, devices) = merge(files);
        let mut count = 0;
        let known: Vec<_> = merged
            .iter()
            .map(|bot| {
                let lists = lists.iter().filter(|list| list.bot == bot.entry.name);
                let known = known(bot, lists, settings.ranges_age_max, times, &mut count);
                Arc::new(known)
            })
            .collect();
        if count > settings.ranges_max {
            let most = settings.ranges_max;
            let text = format!("{count} ranges are more than bots.ranges_max, {most}");
            return Err(DataError::TooMany(text));
        }
        let agents = merged.iter().map(|bot| bot.entry.agents.as_slice());
        let names = Names::new(agents, &devices, settings.agents_max)?;
        let newest = files.iter().max_by_key(|file| file.date);
        let day = newest.map(|file| file.day.clone()).unwrap_or_default();
        Ok(Self { known, names, day })
    }

    /// The bot that a User-Agent names.
    pub fn named(&self, agent: &[u8]) -> Option<&Arc<Known>> {
        self.names.find(agent).and_then(|at| self.known.get(at))
    }

    /// Is there a bot of this name?
    pub fn has(&self, name: &str) -> bool {
        self.known.iter().any(|known| *known.name == *name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

/// The bots and devices that count, in order.
fn merge<'a>(files: &[&'a Data]) -> (Vec<Merged<'a>>, Vec<String>) {
    let begin = files.iter().rposition(|file| file.replaces).unwrap_or(0);
    let files = &files[begin..];
    let mut newest: HashMap<&str, Merged<'a>> = HashMap::new();
    for file in files {
        for entry in &file.bots {
            newest.insert(&entry.name, Merged { entry, date: file.date });
        }
    }
    // Where a bot stands first, seen from the last file, is its place unless an earlier file has it.
    let earliest: HashMap<&str, usize> = files
        .iter()
        .enumerate()
        .rev()
        .flat_map(|(at, file)| file.bots.iter().map(move |bot| (bot.name.as_str(), at)))
        .collect();
    let mut merged = Vec::with_capacity(newest.len());
    for (at, file) in files.iter().enumerate().rev() {
        for bot in &file.bots {
            let is_its_place = earliest.get(bot.name.as_str()) == Some(&at);
            if let Some(bot) = is_its_place.then(|| newest.remove(bot.name.as_str())).flatten() {
                merged.push(bot);
            }
        }
    }
    let devices = files.iter().flat_map(|file| file.devices.iter().cloned()).collect();
    (merged, devices)
}

fn known<'a>(
    bot: &Merged<'_>,
    lists: impl Iterator<Item = &'a List<'a>>,
    age_max: Duration,
    times: Times,
    count: &mut usize,
) -> Known {
    let entry = bot.entry;
    let lists: Vec<_> = lists.collect();
    let (ranges, convicts_until): (Vec<_>, _) = if lists.is_empty() {
        let until = if entry.ranges_whole { times.until(bot.date, age_max) } else { None };
        (entry.ranges.iter().collect(), until)
    } else {
        // All of them together are whole until the first one is too old.
        let until = lists.iter().map(|list| times.until(list.fetched, age_max)).min().flatten();
        (lists.iter().flat_map(|list| &list.published.ranges).collect(), until)
    };
    *count += ranges.len();
    let ranges: Ranges = ranges.into_iter().collect();
    Known {
        name: entry.name.as_str().into(),
        operator: entry.operator.as_str().into(),
        kind: entry.kind,
        hosts: entry.hosts.clone(),
        hosts_resolve: entry.hosts_resolve,
        // Without any range there is nothing to be outside of.
        convicts_until: convicts_until.filter(|_| !ranges.is_empty()),
        ranges,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A bot that its hosts' names prove.
    pub fn known(name: &str, hosts: &[&str]) -> Arc<Known> {
        Arc::new(Known {
            name: name.into(),
            operator: "".into(),
            kind: Kind::Other,
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            hosts_resolve: true,
            ranges: Ranges::default(),
            convicts_until: None,
        })
    }

    fn data(text: &str) -> Data {
        Data::parse(text).expect("right")
    }

    const DAY: Duration = Duration::from_hours(24);

    fn times(days_after: u32, of: &Data) -> Times {
        Times { wall: of.date + days_after * DAY, now: Moment::from_milliseconds(7) }
    }

    fn names(catalogue: &Catalogue) -> Vec<&str> {
        catalogue.known.iter().map(|known| &*known.name).collect()
    }

    const FIRST: &str = "date = \"2026-01-01\"\ndevices = [\"cubot\"]\n\
        [[bot]]\nname = \"a\"\nkind = \"seo\"\nagents = [\"abot\"]\n\
        [[bot]]\nname = \"b\"\nkind = \"seo\"\nagents = [\"bbot\"]\n\
        ranges = [\"192.0.2.0/24\"]\nranges_whole = true\n\
        [[bot]]\nname = \"any\"\nkind = \"other\"\nagents = [\"bot\"]\n";

    #[test]
    fn a_later_file_adds_and_replaces() {
        let settings = KnownBots::default();
        let first = data(FIRST);
        let later = data(
            "date = \"2026-02-01\"\n\
             [[bot]]\nname = \"c\"\nkind = \"ai\"\nagents = [\"cbot\"]\n\
             [[bot]]\nname = \"a\"\nkind = \"ai\"\nagents = []\n",
        );
        let times = times(0, &first);
        let built = Catalogue::new(&[&first, &later], &[], &settings, times).expect("few");
        assert_eq!(names(&built), ["c", "a", "b", "any"], "what is new stands in front");
        assert_eq!(built.day, "2026-02-01");
        assert_eq!(built.named(b"Cbot").map(|known| known.kind), Some(Kind::Ai));
        assert_eq!(built.named(b"Abot").map(|known| &*known.name), Some("any"), "it has no agents");
        assert!(built.named(b"CUBOT").is_none());
        let later = Data { replaces: true, ..later };
        let built = Catalogue::new(&[&first, &later], &[], &settings, times).expect("few");
        assert_eq!(names(&built), ["c", "a"]);
        assert!(built.named(b"CUBOT xbot").is_none());
        assert_eq!(built.len(), 2);
    }

    #[test]
    fn ranges_prove_always_and_convict_while_they_are_new() {
        let settings = KnownBots { ranges_age_max: 10 * DAY, ..KnownBots::default() };
        let file = data(FIRST);
        let (inside, outside) = ([192, 0, 2, 1].into(), [203, 0, 113, 1].into());
        let told = |days, now: u64, address| {
            let built = Catalogue::new(&[&file], &[], &settings, times(days, &file)).expect("few");
            built.named(b"bbot").expect("known").tells(address, Moment::from_milliseconds(now))
        };
        assert_eq!(told(9, 7, inside), Told::Inside);
        assert_eq!(told(9, 7, outside), Told::Outside);
        let later = 7 + u64::try_from(DAY.as_millis()).expect("short");
        assert_eq!(told(9, later, outside), Told::Nothing, "the list grows old while it is used");
        assert_eq!(told(11, 7, outside), Told::Nothing);
        assert_eq!(told(11, 7, inside), Told::Inside);
    }

    #[test]
    fn an_operators_list_takes_the_place_of_the_shipped_ranges() {
        let settings = KnownBots { ranges_age_max: 10 * DAY, ..KnownBots::default() };
        let file = data(FIRST);
        let parse = |range: &str| {
            Published::parse(&format!("{{\"prefixes\": [{{\"ipv4Prefix\": \"{range}\"}}]}}"))
                .expect("right")
        };
        let (one, other) = (parse("198.51.100.0/25"), parse("198.51.100.128/25"));
        let list =
            |published, days: u32| List { bot: "b", published, fetched: file.date + days * DAY };
        let told = |lists: &[List<'_>], address: [u8; 4]| {
            let built = Catalogue::new(&[&file], lists, &settings, times(30, &file)).expect("few");
            built.named(b"bbot").expect("known").tells(address.into(), Moment::from_milliseconds(7))
        };
        let lists = [list(&one, 25), list(&other, 29)];
        assert_eq!(told(&lists, [198, 51, 100, 1]), Told::Inside);
        assert_eq!(told(&lists, [198, 51, 100, 200]), Told::Inside);
        assert_eq!(told(&lists, [192, 0, 2, 1]), Told::Outside);
        let lists = [list(&one, 5), list(&other, 29)];
        assert_eq!(told(&lists, [192, 0, 2, 1]), Told::Nothing, "one of them is too old");
    }

    #[test]
    fn more_ranges_than_the_bound_are_refused() {
        let settings = KnownBots { ranges_max: 0, ..KnownBots::default() };
        let file = data(FIRST);
        let error = Catalogue::new(&[&file], &[], &settings, times(0, &file)).expect_err("one");
        assert!(error.to_string().contains("bots.ranges_max"), "{error}");
    }
}
