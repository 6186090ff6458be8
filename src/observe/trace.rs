//! Messages for the admin, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::ObserveError;

/// Changes the level while the server runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Sets the level; a wrong one leaves the old in force.
    pub fn set(&self, level: &str) -> Result<(), ObserveError> {
        let filter = filter(level)?;
        self.0.reload(filter).map_err(|error| ObserveError::Level {
            level: level.to_owned(),
            what: error.to_string(),
        })
    }
}

/// Sends messages of at least `level` (`log.level`) to stderr; once in a process.
pub fn start_tracing(level: &str) -> Result<LevelHandle, ObserveError> {
    let (layer, handle) = reload::Layer::new(filter(level)?);
    let messages =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(layer)
        .with(messages)
        .try_init()
        .map_err(|_| ObserveError::AlreadyTracing)?;
    Ok(LevelHandle(handle))
}

fn filter(level: &str) -> Result<EnvFilter, ObserveError> {
    let wrong = |what: String| ObserveError::Level { level: level.to_owned(), what };
    // A bare word that is no level would be taken for a module's name and silence everything else.
    for part in level.split(',').map(str::trim) {
        if part.is_empty() || (!part.contains('=') && part.parse::<LevelFilter>().is_err()) {
            return Err(wrong(format!("{part:?} is no level")));
        }
    }
    EnvFilter::try_new(level).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_level_is_an_error_that_names_what_is_allowed() {
        for level in ["off", "info", "WARN", "info,parvis::origin=debug"] {
            filter(level).expect(level);
        }
        for level in ["", "inof", "info,parvis::origin", "parvis=loud"] {
            let error = filter(level).expect_err(level).to_string();
            assert!(error.contains(level) && error.contains("allowed are off"), "{error}");
        }
    }

    #[test]
    fn the_level_changes_at_run_time_and_a_wrong_one_changes_nothing() {
        let (layer, handle) = reload::Layer::new(filter("info").expect("valid"));
        let handle = LevelHandle(handle);
        let _subscriber = tracing_subscriber::registry().with(layer);
        handle.set("debug").expect("valid");
        handle.set("loud").expect_err("wrong");
        let now = handle.0.with_current(ToString::to_string).expect("alive");
        assert_eq!(now, "debug");
    }
}
