//! What a visitor keeps: the place in the line, and the way in.

use std::sync::Arc;
use std::time::Duration;

use super::line::Ticket;
use crate::fields::Fields;
use crate::policy;
use crate::tokens::{Purpose, Signer};

/// The cookie with a place in the line.
pub const PLACE: &str = "parvis_place";

/// The cookie of who was admitted.
pub const ADMITTED: &str = "parvis_admitted";

/// How far the clock of another node may be ahead.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// A browser keeps a place for so long, whatever the line is like.
const PLACE_SECONDS: u64 = 24 * 60 * 60;

/// Epoch, number, and a time in seconds of Unix.
const TICKET_BYTES: usize = 24;

/// The way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub ticket: Ticket,
    /// When it was given, in seconds of Unix.
    pub at_unix: u64,
    /// Has its visitor shown that cookies come back? Who has not keeps the way for a short while alone.
    pub is_proven: bool,
}

/// Reads and writes both cookies.
pub(super) struct Cookies {
    signer: Arc<Signer>,
    /// In the form in which cookies are looked for.
    place: [String; 1],
    admitted: [String; 1],
}

impl Cookies {
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer, place: [PLACE.to_owned()], admitted: [ADMITTED.to_owned()] }
    }

    /// The place in the line that a visitor brings.
    pub fn place_in(&self, fields: &Fields, now_unix: u64) -> Option<Ticket> {
        let token = policy::session_of(fields, &self.place)?;
        let payload = self.signer.open(Purpose::WaitingPlace, &token)?;
        let (ticket, at_unix) = ticket_of(payload.get(..TICKET_BYTES)?)?;
        let is_whole = payload.len() == TICKET_BYTES;
        (is_whole && age(at_unix, now_unix)? <= PLACE_SECONDS).then_some(ticket)
    }

    /// The way in that a visitor brings, however old.
    pub fn way_in(&self, fields: &Fields) -> Option<Way> {
        let token = policy::session_of(fields, &self.admitted)?;
        let payload = self.signer.open(Purpose::Admitted, &token)?;
        let (ticket, at_unix) = ticket_of(payload.get(..TICKET_BYTES)?)?;
        match payload.get(TICKET_BYTES..)? {
            [is_proven @ (0 | 1)] => Some(Way { ticket, at_unix, is_proven: *is_proven == 1 }),
            _ => None,
        }
    }

    /// A value of Set-Cookie with a place.
    pub fn give_place(&self, ticket: Ticket, now_unix: u64) -> String {
        let token = self.signer.sign(Purpose::WaitingPlace, &payload(ticket, now_unix));
        cookie(PLACE, &token, PLACE_SECONDS)
    }

    /// A value of Set-Cookie with the way in, which a browser keeps for so long.
    pub fn give_way(&self, way: Way, kept: Duration) -> String {
        let mut payload = payload(way.ticket, way.at_unix);
        payload.push(u8::from(way.is_proven));
        cookie(ADMITTED, &self.signer.sign(Purpose::Admitted, &payload), kept.as_secs())
    }
}

/// Seconds since then; a time ahead of what clocks may differ by was never given.
pub(super) fn age(at_unix: u64, now_unix: u64) -> Option<u64> {
    (at_unix <= now_unix.saturating_add(CLOCK_SKEW_SECONDS))
        .then(|| now_unix.saturating_sub(at_unix))
}

fn cookie(name: &str, token: &str, seconds: u64) -> String {
    format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax")
}

fn payload(ticket: Ticket, at_unix: u64) -> Vec<u8> {
    [ticket.epoch, ticket.number, at_unix].into_iter().flat_map(u64::to_be_bytes).collect()
}

fn ticket_of(bytes: &[u8]) -> Option<(Ticket, u64)> {
    let mut numbers =
        bytes.chunks_exact(8).map(|bytes| bytes.try_into().map(u64::from_be_bytes).ok());
    let [epoch, number, at_unix] = [numbers.next()??, numbers.next()??, numbers.next()??];
    Some((Ticket { epoch, number }, at_unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = Ticket { epoch: 7, number: 12 };

    fn cookies(secret: &[u8]) -> Cookies {
        Cookies::new(Arc::new(Signer::new(secret)))
    }

    /// What a browser sends that was given this.
    fn brought(set_cookie: &str) -> Fields {
        let pair = set_cookie.split(';').next().unwrap_or_default();
        [("Cookie", pair)].into()
    }

    #[test]
    fn a_place_is_kept_on_each_node_with_the_secret() {
        let set_cookie = cookies(b"secret").give_place(TICKET, 1_000);
        assert!(set_cookie.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"));
        let fields = brought(&set_cookie);
        assert_eq!(cookies(b"secret").place_in(&fields, 1_000), Some(TICKET));
        assert_eq!(cookies(b"secret").place_in(&fields, 1_000 - 60), Some(TICKET));
        assert_eq!(cookies(b"secret").place_in(&fields, 1_000 - 61), None);
        assert_eq!(cookies(b"secret").place_in(&fields, 1_000 + PLACE_SECONDS + 1), None);
        assert_eq!(cookies(b"another").place_in(&fields, 1_000), None);
    }

    #[test]
    fn a_place_is_no_way_in_and_a_way_in_is_no_place() {
        let own = cookies(b"secret");
        let way = Way { ticket: TICKET, at_unix: 1_000, is_proven: true };
        let given = own.give_way(way, Duration::from_mins(10));
        assert!(given.contains("; Max-Age=600;"));
        assert_eq!(own.way_in(&brought(&given)), Some(way));
        let as_place = brought(&given.replace(ADMITTED, PLACE));
        assert_eq!(own.place_in(&as_place, 1_000), None);
        let place = own.give_place(TICKET, 1_000).replace(PLACE, ADMITTED);
        assert_eq!(own.way_in(&brought(&place)), None);
        assert_eq!(own.way_in(&Fields::new()), None);
    }

    #[test]
    fn no_changed_letter_opens_the_way() {
        let own = cookies(b"secret");
        let way = Way { ticket: TICKET, at_unix: 1_000, is_proven: true };
        let given = own.give_way(way, Duration::from_mins(10));
        let token = given.split(';').next().unwrap_or_default();
        for at in ADMITTED.len() + 1..token.len() {
            let mut forged = token.to_owned().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("letters");
            assert_eq!(own.way_in(&brought(&forged)), None, "{at}");
        }
    }
}
