//! `room`: the waiting room.

use http::Method;
use serde::Deserialize;

use super::arguments::RoomOrder;
use super::client::{Server, ServerError};
use super::printable::printable;

/// The answer to `/room`.
#[derive(Deserialize)]
struct Room {
    on: bool,
    by: Vec<String>,
    by_hand: Option<bool>,
    alone: bool,
    waiting: u64,
    inside: u64,
    visitors_max: u64,
    admitted_per_minute: u64,
    wait_seconds: Option<u64>,
}

/// Switches it, or says how it stands.
pub(super) fn room(
    server: &Server,
    order: RoomOrder,
    wants_json: bool,
) -> Result<String, ServerError> {
    let (method, body) = match order {
        RoomOrder::On => (Method::POST, "{\"on\":true}"),
        RoomOrder::Off => (Method::POST, "{\"on\":false}"),
        RoomOrder::Auto => (Method::POST, "{\"on\":null}"),
        RoomOrder::Clear => (Method::POST, "{\"clear\":true}"),
        RoomOrder::Status => (Method::GET, ""),
    };
    server.told((method, "/room", body), wants_json, said)
}

fn said(room: &Room) -> String {
    let mut lines = vec![match (room.on, room.by_hand) {
        (true, _) => format!("The waiting room is on, by {}.", printable(&room.by.join(" and "))),
        (false, Some(false)) => {
            "The waiting room is off, by command; `parvis room auto` leaves it to the settings."
                .to_owned()
        }
        (false, _) => "The waiting room is off.".to_owned(),
    }];
    if room.alone {
        lines.push("Redis is away: this server keeps a line of its own.".to_owned());
    }
    let most = match room.visitors_max {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    lines.push(format!("waiting              {}", room.waiting));
    lines.push(format!("inside               {}{most}", room.inside));
    lines.push(format!("let in per minute    {}", room.admitted_per_minute));
    if let Some(seconds) = room.wait_seconds.filter(|_| room.on) {
        lines.push(format!("who comes now waits  {} min {} s", seconds / 60, seconds % 60));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_waits_and_why() {
        let room = Room {
            on: true,
            by: vec!["command".to_owned(), "load".to_owned()],
            by_hand: Some(true),
            alone: false,
            waiting: 1_200,
            inside: 499,
            visitors_max: 500,
            admitted_per_minute: 600,
            wait_seconds: Some(120),
        };
        let text = said(&room);
        assert!(text.starts_with("The waiting room is on, by command and load.\n"), "{text}");
        assert!(text.contains("inside               499 of 500\n"), "{text}");
        assert!(text.ends_with("who comes now waits  2 min 0 s\n"), "{text}");
        let off = Room { on: false, by: Vec::new(), by_hand: Some(false), ..room };
        assert!(said(&off).contains("off, by command") && !said(&off).contains("comes now"));
    }
}
