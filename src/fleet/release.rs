//! The release of the shop, read from `fleet.release_file` while the process lives: a deployment
//! changes it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::link::Link;

/// Between two looks at the file.
const EVERY: Duration = Duration::from_secs(5);

/// Bytes that name a release.
const RELEASE_MAX_BYTES: u64 = 128;

pub(super) async fn run(link: Arc<Link>) {
    if link.settings.release_file.as_os_str().is_empty() {
        return;
    }
    let mut is_said = false;
    loop {
        let file = link.settings.release_file.clone();
        // It may stand on a file system that hangs; then the release stays what it was.
        let look = move || (read(&file), std::fs::File::open(&file).err());
        let (release, error) = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        if release.is_empty() && !is_said {
            let file = link.settings.release_file.display();
            let error = error.map_or_else(|| "it is empty".to_owned(), |error| error.to_string());
            tracing::warn!(
                "fleet.release_file = {file} names no release: {error}; this node gives and takes pages as \
                 one of no release"
            );
        }
        is_said = release.is_empty();
        if **link.release.load() != release {
            tracing::info!(release, "the release of the shop");
            link.release.store(Arc::new(release));
        }
        link.is_release_read.store(true, Ordering::Release);
        tokio::time::sleep(EVERY).await;
    }
}

/// The first line, without control characters; empty where there is no file. Blocks.
pub fn read(file: &Path) -> String {
    let mut text = Vec::new();
    let opened = std::fs::File::open(file);
    if let Ok(file) = opened {
        // What cannot be read names no release.
        let _ = file.take(RELEASE_MAX_BYTES).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().filter(|letter| !letter.is_control()).collect()
}
