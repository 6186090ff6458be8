//! What holds the house together: levels, lengths, and the example configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod documents;
mod lengths;
mod modules;
mod settings;

use std::path::{Path, PathBuf};

/// A source file.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module of `src/` it belongs to.
    fn module(&self) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let relative = self.path.strip_prefix(root).expect("under src");
        let first = relative
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Its lines without comments, numbered from 1.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Every Rust file under a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push(Source { path, text });
            }
        }
    }
    found
}
