//! `restart`, `drain` and `maintenance`.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::arguments::MaintenanceOrder;
use super::client::{Server, ServerError};
use super::printable::printable;
use crate::clock::Clock;

/// Between two looks at how far a drain is.
const LOOK: Duration = Duration::from_millis(500);
/// What a server may take beyond what it said, to write out its log.
const MARGIN: Duration = Duration::from_secs(10);

/// A line of the answer to `POST /restart`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Progress { step: String },
    Done { process: u32 },
    Failed { error: String },
}

/// The answers to `/drain`.
#[derive(Deserialize, PartialEq)]
struct Departure {
    phase: String,
    connections: u64,
    seconds_max: f64,
}

/// Has a new process take over, and says each step.
pub(super) fn restart(server: &Server, say: &mut dyn FnMut(&str)) -> Result<String, ServerError> {
    let mut serving = None;
    server.follow(Method::POST, "/restart", &mut |line| {
        match serde_json::from_slice(line).map_err(|error| server.foreign(&error))? {
            Step::Progress { step } => say(&format!("{}\n", printable(&step))),
            Step::Done { process } => serving = Some(process),
            Step::Failed { error } => {
                let (endpoint, reason) = (server.endpoint.clone(), printable(&error));
                return Err(ServerError::Failed { endpoint, reason });
            }
        }
        Ok(())
    })?;
    match serving {
        Some(process) => Ok(format!("Restarted: process {process} serves.\n")),
        None => Err(server.foreign(&"it does not say what came of it")),
    }
}

/// Tells the server to drain, and says how far it is until it has gone.
pub(super) fn drain(server: &Server, say: &mut dyn FnMut(&str)) -> Result<String, ServerError> {
    let clock = Clock::system();
    let began = clock.now();
    let ask = |method| {
        let answer = server.ask(method, "/drain", Bytes::new())?;
        serde_json::from_slice::<Departure>(&answer).map_err(|error| server.foreign(&error))
    };
    let told = ask(Method::POST)?;
    let at_most = Duration::try_from_secs_f64(told.seconds_max).unwrap_or(Duration::MAX);
    let at_most = at_most.saturating_add(MARGIN);
    say(&format!("Told to end, within {} s.\n", told.seconds_max));
    let mut seen = None;
    let mut left = false;
    loop {
        std::thread::sleep(LOOK);
        match ask(Method::GET) {
            // Another process has taken its place meanwhile.
            Ok(now) if left && now.phase == "serving" => break,
            Ok(now) => {
                left |= now.phase != "serving";
                if seen.as_ref() != Some(&now) {
                    let connections = now.connections;
                    let what = match now.phase.as_str() {
                        "draining" => "Not ready, and serving on",
                        "stopping" => "Accepts no more",
                        _ => "Serving",
                    };
                    say(&format!("{what}; connections open: {connections}.\n"));
                    seen = Some(now);
                }
            }
            Err(ServerError::Unreachable { .. } | ServerError::Broken { .. }) => break,
            Err(error) => return Err(error),
        }
        let after = clock.now().since(began);
        if after > at_most {
            return Err(ServerError::StillThere { endpoint: server.endpoint.clone(), after });
        }
    }
    Ok("It has ended.\n".to_owned())
}

/// The answer to `/maintenance`.
#[derive(Deserialize)]
struct Maintenance {
    on: bool,
    by: Vec<String>,
}

/// Switches maintenance, or says whether it is on.
pub(super) fn maintenance(
    server: &Server,
    order: MaintenanceOrder,
    json: bool,
) -> Result<String, ServerError> {
    let (method, body) = match order {
        MaintenanceOrder::On => (Method::POST, "{\"on\":true}"),
        MaintenanceOrder::Off => (Method::POST, "{\"on\":false}"),
        MaintenanceOrder::Status => (Method::GET, ""),
    };
    server.told((method, "/maintenance", body), json, |state: &Maintenance| {
        if state.on {
            format!("Maintenance is on, by {}.\n", printable(&state.by.join(" and ")))
        } else {
            "Maintenance is off.\n".to_owned()
        }
    })
}
