//! STDERR of a FastCGI application on its way to our log: bounded per request and per second.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::record::read_param;
use crate::clock::{Clock, Moment};
use crate::exchange::split_target;

/// Bytes of one request's STDERR that are logged.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Messages a second; a script that warns on each request must not become a flood.
const MESSAGES_PER_SECOND_MAX: u32 = 20;

/// The log of one application.
#[derive(Debug)]
pub(in crate::origin) struct ErrorLog {
    clock: Clock,
    window: Mutex<Window>,
    /// The path that is asked for to see how the application is; empty: none.
    probe: String,
}

#[derive(Debug, Default)]
struct Window {
    start: Moment,
    messages: u32,
    suppressed: u64,
}

impl ErrorLog {
    /// A log with no messages yet, of an application that is asked for that path to see how it is.
    pub(in crate::origin) fn new(clock: Clock, probe: &str) -> Arc<Self> {
        let window = Window { start: clock.now(), ..Window::default() };
        Arc::new(Self { clock, window: Mutex::new(window), probe: probe.to_owned() })
    }

    /// May a message go out now? Says how many before it did not.
    fn admit(&self) -> Option<u64> {
        let now = self.clock.now();
        let mut window = self.window.lock();
        if now.since(window.start).as_secs() >= 1 {
            window.start = now;
            window.messages = 0;
        }
        if window.messages >= MESSAGES_PER_SECOND_MAX {
            window.suppressed += 1;
            return None;
        }
        window.messages += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// STDERR of one request; it is logged when the request's reply is dropped.
#[derive(Debug, Default)]
pub(in crate::origin) struct ErrorText {
    log: Option<Arc<ErrorLog>>,
    /// The request as it was sent. It is read only where there is something to tell.
    request: Bytes,
    text: Vec<u8>,
    bytes: u64,
}

/// Whose text it is.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// The file as PHP was told it.
    script: String,
    /// The path that was asked for.
    path: String,
    /// Where that is the path of the probe.
    note: Option<&'static str>,
}

impl ErrorText {
    /// Text for that log, of a request whose head and parameters these are.
    pub(in crate::origin) fn new(log: &Arc<ErrorLog>, request: &Bytes) -> Self {
        Self { log: Some(Arc::clone(log)), request: request.clone(), text: Vec::new(), bytes: 0 }
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = TEXT_BYTES_MAX - self.text.len();
        self.text.extend_from_slice(&piece[..room.min(piece.len())]);
        self.bytes += piece.len() as u64;
    }

    fn line(&self) -> String {
        line(self.text.trim_ascii())
    }

    fn asked(&self, probe: &str) -> Asked {
        let param = |name| read_param(&self.request, name).unwrap_or_default();
        let path = split_target(param("REQUEST_URI")).0;
        let is_probe = !probe.is_empty() && path == probe.as_bytes();
        Asked {
            script: line(param("SCRIPT_FILENAME")),
            path: line(path),
            note: is_probe.then_some("health.probe asks for this path"),
        }
    }
}

/// One line: bytes that would end a line or steer a terminal are escaped.
fn line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().flat_map(escape).collect()
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

impl Drop for ErrorText {
    fn drop(&mut self) {
        let Some(log) = self.log.take().filter(|_| self.bytes > 0) else {
            return;
        };
        if let Some(suppressed) = log.admit() {
            let cut_bytes = self.bytes - self.text.len() as u64;
            let Asked { script, path, note } = self.asked(&log.probe);
            let text = self.line();
            tracing::warn!(
                script,
                path,
                note,
                cut_bytes,
                suppressed,
                "PHP wrote to STDERR: {text}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::fastcgi::record::{write_begin, write_params};
    use std::time::Duration;

    #[test]
    fn a_long_text_is_cut_and_its_control_characters_are_escaped() {
        let mut text = ErrorText::default();
        text.push(b"a\nb\x1b[0m");
        assert_eq!(text.line(), "a\\nb\\u{1b}[0m");
        text.push(&[b'x'; 9_000]);
        assert_eq!(text.text.len(), TEXT_BYTES_MAX);
        assert_eq!(text.bytes, 9_007);
    }

    #[test]
    fn a_text_is_told_with_its_script_and_path_and_whether_that_is_the_probes() {
        let log = ErrorLog::new(Clock::manual(), "/check.php");
        let asked = |target: &str| {
            let mut request = Vec::new();
            write_begin(&mut request, false);
            let padding = "x".repeat(300);
            let params = [
                ("PHP_VALUE", &*padding),
                ("SCRIPT_FILENAME", "/shop/\n.php"),
                ("REQUEST_URI", target),
                ("HTTP_REQUEST_URI", "/other"),
            ];
            write_params(&mut request, &params);
            ErrorText::new(&log, &request.into()).asked(&log.probe)
        };
        let (script, path) = ("/shop/\\n.php".to_owned(), "/a".to_owned());
        assert_eq!(asked("/a?token=1"), Asked { script: script.clone(), path, note: None });
        let (path, note) = ("/check.php".to_owned(), Some("health.probe asks for this path"));
        assert_eq!(asked("/check.php"), Asked { script, path, note });
        let nothing = Asked { script: String::new(), path: String::new(), note: None };
        assert_eq!(ErrorText::default().asked(""), nothing);
    }

    #[test]
    fn a_flood_of_messages_is_counted_and_not_written() {
        let clock = Clock::manual();
        let log = ErrorLog::new(clock.clone(), "");
        let written = (0..100).filter(|_| log.admit().is_some()).count();
        assert_eq!(written, MESSAGES_PER_SECOND_MAX as usize);
        clock.advance(Duration::from_secs(1));
        assert_eq!(log.admit(), Some(80));
        assert_eq!(log.admit(), Some(0));
    }
}
