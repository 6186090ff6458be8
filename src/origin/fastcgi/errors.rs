//! STDERR of a FastCGI application on its way to our log: bounded per request and per second.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};

/// Bytes of one request's STDERR that are logged.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Messages a second; a script that warns on each request must not become a flood.
const MESSAGES_PER_SECOND_MAX: u32 = 20;

/// The log of one application.
#[derive(Debug)]
pub(in crate::origin) struct ErrorLog {
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: Moment,
    messages: u32,
    suppressed: u64,
}

impl ErrorLog {
    /// A log with no messages yet.
    pub(in crate::origin) fn new(clock: Clock) -> Arc<Self> {
        let window = Window { start: clock.now(), ..Window::default() };
        Arc::new(Self { clock, window: Mutex::new(window) })
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
    text: Vec<u8>,
    bytes: u64,
}

impl ErrorText {
    /// Text for that log.
    pub(in crate::origin) fn new(log: &Arc<ErrorLog>) -> Self {
        Self { log: Some(Arc::clone(log)), text: Vec::new(), bytes: 0 }
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = TEXT_BYTES_MAX - self.text.len();
        self.text.extend_from_slice(&piece[..room.min(piece.len())]);
        self.bytes += piece.len() as u64;
    }

    /// One line: bytes that would end a line or steer a terminal are escaped.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(self.text.trim_ascii());
        text.chars().flat_map(escape).collect()
    }
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
            tracing::warn!(cut_bytes, suppressed, "PHP wrote to STDERR: {}", self.line());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_flood_of_messages_is_counted_and_not_written() {
        let clock = Clock::manual();
        let log = ErrorLog::new(clock.clone());
        let written = (0..100).filter(|_| log.admit().is_some()).count();
        assert_eq!(written, MESSAGES_PER_SECOND_MAX as usize);
        clock.advance(Duration::from_secs(1));
        assert_eq!(log.admit(), Some(80));
        assert_eq!(log.admit(), Some(0));
    }
}
