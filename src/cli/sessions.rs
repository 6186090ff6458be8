//! `sessions`: which paths hold locks, and what waits, as a table.

use std::fmt::Write;

use http::Method;

use super::client::{Server, ServerError};
use super::printable::printable;
use crate::sessions::figures::SessionFigures;

/// Rows of the table; `--json` has all.
const ROWS_MAX: usize = 30;

/// The sessions as the server sees them: as JSON, or as a table.
pub(super) fn sessions(server: &Server, json: bool) -> Result<String, ServerError> {
    server.told((Method::GET, "/sessions", ""), json, table)
}

fn table(figures: &SessionFigures) -> String {
    let mut text = String::new();
    let shown = figures.holders.iter().take(ROWS_MAX);
    let width = shown.clone().map(|holder| holder.path.chars().count()).max().unwrap_or_default();
    let width = width.max("LOCK HELD BY".len());
    if width > 0 && !figures.holders.is_empty() {
        let _ = writeln!(text, "{:<width$}  SESSIONS  LONGEST", "LOCK HELD BY");
    }
    for holder in shown {
        let path = printable(&holder.path);
        let (seconds, tenths) = (holder.longest_ms / 1_000, holder.longest_ms % 1_000 / 100);
        let _ = writeln!(text, "{path:<width$}  {:>8}  {seconds}.{tenths} s", holder.sessions);
    }
    let more = figures.holders.len().saturating_sub(ROWS_MAX);
    if more > 0 {
        let _ = writeln!(text, "and {more} more paths; --json has all.");
    }
    let (locks, queue) = (&figures.locks, &figures.queue);
    let _ = writeln!(
        text,
        "Clients: {}, over {} connections; {} commands, {} failed.",
        figures.clients, figures.connections, figures.commands, figures.failed
    );
    let _ = writeln!(
        text,
        "Locks: {} held, {} waiting tries. Since the start {} were taken, {} tries had to wait, {} of them \
         got the plain answer, {} locks were freed for who had gone.",
        locks.held, locks.waiting, locks.taken, locks.waited, locks.unanswered, locks.freed
    );
    let _ = writeln!(
        text,
        "Before PHP: {} requests wait. Since the start {} had to, {} were refused.",
        queue.waiting, queue.waited, queue.refused
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::figures::{Holder, LockFigures};

    #[test]
    fn the_table_names_paths_and_numbers_alone() {
        let holder = |path: &str, sessions, longest_ms| Holder {
            path: path.to_owned(),
            sessions,
            longest_ms,
        };
        let mut figures = SessionFigures {
            clients: 12,
            locks: LockFigures { held: 3, waiting: 2, ..LockFigures::default() },
            holders: vec![
                holder("GET /checkout/cart/", 2, 1_460),
                holder("POST /a\u{1b}[2J", 1, 90),
            ],
            ..SessionFigures::default()
        };
        let text = table(&figures);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "LOCK HELD BY         SESSIONS  LONGEST");
        assert_eq!(lines[1], "GET /checkout/cart/         2  1.4 s");
        assert!(lines[2].starts_with("POST /a?[2J  ") && lines[2].ends_with("0.0 s"), "{text}");
        assert!(lines[3].starts_with("Clients: 12, over"), "{text}");
        assert!(lines[4].contains("3 held, 2 waiting tries"), "{text}");
        figures.holders = (0..50).map(|at| holder(&format!("GET /{at}"), 1, 0)).collect();
        assert!(table(&figures).contains("and 20 more paths"));
        figures.holders.clear();
        assert!(table(&figures).starts_with("Clients:"));
    }
}
