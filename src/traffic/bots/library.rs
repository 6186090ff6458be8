//! The files themselves: read within bounds, looked at again, and the last good of each kept.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::catalogue::{Catalogue, List, Times};
use super::data::{Data, DataError, Published};
use crate::settings::KnownBots;

/// What Parvis has without any file.
const SHIPPED: &str = include_str!("../../../data/bots.toml");

/// The shipped data and all files.
#[derive(Debug, Default)]
pub(super) struct Library {
    shipped: Option<Data>,
    sources: Vec<Source>,
    /// What is wrong with all of them together.
    whole: Option<String>,
}

/// One file, and the last that was good of it.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// The bot whose ranges it has; `None`: it is a file of names.
    bot: Option<String>,
    /// As it was when it was last read.
    stamp: Option<Stamp>,
    good: Option<Content>,
    mistake: Option<String>,
}

/// By what a file that changed is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

#[derive(Debug)]
enum Content {
    Names(Data),
    Ranges(Published, SystemTime),
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMistake {
    /// Which; `None`: all of them together.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub text: String,
}

impl std::fmt::Display for FileMistake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(formatter, "{}: {}", path.display(), self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

impl Library {
    /// The shipped data alone.
    pub fn new() -> Self {
        let (shipped, whole) = match Data::parse(SHIPPED) {
            Ok(data) => (Some(data), None),
            Err(error) => (None, Some(format!("the data of this program: {error}"))),
        };
        Self { shipped, sources: Vec::new(), whole }
    }

    /// Reads the files of the settings; of those that were there before the last good ones stay.
    pub fn renew(&mut self, settings: &KnownBots) {
        let mut before = std::mem::take(&mut self.sources);
        let names = settings.files.iter().map(|path| (path, None));
        let ranges = settings.ranges.iter().map(|list| (&list.path, Some(&list.bot)));
        for (path, bot) in names.chain(ranges) {
            let same = |own: &Source| own.path == *path && own.bot.as_ref() == bot;
            let source = before.iter().position(same).map(|at| before.swap_remove(at));
            let mut source = source.unwrap_or_else(|| Source {
                path: path.clone(),
                bot: bot.cloned(),
                stamp: None,
                good: None,
                mistake: None,
            });
            source.read(settings.file_max_bytes);
            self.sources.push(source);
        }
    }

    /// Reads the files that changed since. Have some?
    pub fn look(&mut self, settings: &KnownBots) -> bool {
        let mut has_changed = false;
        for source in &mut self.sources {
            if stamp_of(&source.path).ok() != source.stamp {
                source.read(settings.file_max_bytes);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Puts together what is good. `None`: all of it together is not; what is in use is to stay.
    pub fn catalogue(&mut self, settings: &KnownBots, times: Times) -> Option<Catalogue> {
        let shipped = self.shipped.iter();
        let of_sources = self.sources.iter().filter_map(|source| match &source.good {
            Some(Content::Names(data)) => Some(data),
            _ => None,
        });
        let names: Vec<&Data> = shipped.chain(of_sources).collect();
        let lists = self.sources.iter().filter_map(|source| match (&source.bot, &source.good) {
            (Some(bot), Some(Content::Ranges(published, fetched))) => {
                Some(List { bot, published, fetched: *fetched })
            }
            _ => None,
        });
        let lists: Vec<_> = lists.collect();
        let built = Catalogue::new(&names, &lists, settings, times);
        let (catalogue, mistake) = match built {
            Ok(catalogue) => (Some(catalogue), None),
            Err(error) => (None, Some(error.to_string())),
        };
        tell(None, self.whole.as_ref(), mistake.as_ref());
        self.whole = mistake;
        if let Some(catalogue) = &catalogue {
            for source in &mut self.sources {
                source.check_bot(catalogue);
            }
        }
        catalogue
    }

    /// All that is wrong.
    pub fn mistakes(&self) -> Vec<FileMistake> {
        let of_sources = self.sources.iter().filter_map(|source| {
            let text = source.mistake.clone()?;
            Some(FileMistake { path: Some(source.path.clone()), text })
        });
        let whole = self.whole.iter().map(|text| FileMistake { path: None, text: text.clone() });
        of_sources.chain(whole).collect()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.sources.len()
    }
}

impl Source {
    fn read(&mut self, bytes_max: u64) {
        // Before it is read: what is written meanwhile is read again.
        self.stamp = stamp_of(&self.path).ok();
        let read =
            read_bounded(&self.path, bytes_max).and_then(|(text, modified)| match self.bot {
                None => Data::parse(&text).map(Content::Names),
                Some(_) => Published::parse(&text).map(|list| Content::Ranges(list, modified)),
            });
        match read {
            Ok(content) => {
                self.good = Some(content);
                self.set_mistake(None);
            }
            Err(error) => self.set_mistake(Some(error.to_string())),
        }
    }

    /// A list of ranges belongs to a bot that there is.
    fn check_bot(&mut self, catalogue: &Catalogue) {
        let Some(bot) = &self.bot else { return };
        let text = DataError::UnknownBot(bot.clone()).to_string();
        let is_unknown = !catalogue.has(bot);
        if is_unknown && self.mistake.is_none() {
            self.set_mistake(Some(text));
        } else if !is_unknown && self.mistake.as_ref() == Some(&text) {
            self.set_mistake(None);
        }
    }

    fn set_mistake(&mut self, mistake: Option<String>) {
        tell(Some(&self.path), self.mistake.as_ref(), mistake.as_ref());
        self.mistake = mistake;
    }
}

/// Says once what became wrong, and once that it is right again.
fn tell(path: Option<&Path>, before: Option<&String>, now: Option<&String>) {
    let file = path.map_or_else(|| "all".to_owned(), |path| path.display().to_string());
    match (before, now) {
        (before, Some(error)) if before != Some(error) => {
            tracing::error!(file, error, "data of bots are wrong; the last good ones stay in use");
        }
        (Some(_), None) => tracing::info!(file, "data of bots are right again"),
        _ => {}
    }
}

fn stamp_of(path: &Path) -> std::io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp { modified: metadata.modified()?, bytes: metadata.len() })
}

/// Reads a file that is one; and when it was written.
fn read_bounded(path: &Path, bytes_max: u64) -> Result<(String, SystemTime), DataError> {
    // To open a pipe would wait for somebody who writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(DataError::NoFile);
    }
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(DataError::NoFile);
    }
    let modified = metadata.modified()?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(DataError::TooLarge(bytes_max));
    }
    let text = String::from_utf8(bytes).map_err(|error| DataError::Format(error.to_string()))?;
    Ok((text, modified))
}
