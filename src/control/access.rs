//! Who may purge, and who may take this server out.
//!
//! The control listener is reached directly: the peer of the connection is judged, and forwarding
//! headers are never believed here. They rather show that a proxy on an allowed address (often
//! this machine) carries somebody else's request.

use subtle::ConstantTimeEq;

use super::ControlError;
use crate::exchange::Request;
use crate::fields::Fields;
use crate::settings::Settings;

const FORWARDING: [&str; 4] = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"];

const TOKEN_WANTED: &str = "control.token is set: send it once, as Authorization: Bearer TOKEN";

/// The right to purge; only the checks of this module grant it.
#[derive(Debug)]
pub(super) struct PurgeRight(());

/// May it drain or restart this server? By the token where `control.token` is set, else from this machine alone: `purge.allow` may name
/// other servers, which have no business here.
pub(super) fn for_steering(settings: &Settings, request: &Request) -> Result<(), ControlError> {
    if settings.control.token.is_empty() {
        not_of_others(request).map_err(ControlError::Forbidden)?;
        if !request.connection.peer.address().is_loopback() {
            return Err(ControlError::Forbidden(
                "without control.token this is allowed from this machine alone",
            ));
        }
    } else {
        by_token(settings, token(&request.fields).ok_or(ControlError::Token(TOKEN_WANTED))?)?;
    }
    Ok(())
}

/// For the JSON API: by the token where `control.token` is set, else by `purge.allow`.
pub(super) fn for_json(settings: &Settings, request: &Request) -> Result<PurgeRight, ControlError> {
    if settings.control.token.is_empty() {
        return by_network(settings, request).map_err(ControlError::Forbidden);
    }
    let given = token(&request.fields).ok_or(ControlError::Token(TOKEN_WANTED))?;
    by_token(settings, given)
}

/// For Magento's PURGE, which cannot carry a token: by `purge.allow` as on a public listener, or
/// by the token.
pub(super) fn for_magento(
    settings: &Settings,
    request: &Request,
) -> Result<PurgeRight, ControlError> {
    match token(&request.fields) {
        Some(given) if !settings.control.token.is_empty() => by_token(settings, given),
        _ => by_network(settings, request).map_err(ControlError::PurgeNotAllowed),
    }
}

fn by_network(settings: &Settings, request: &Request) -> Result<PurgeRight, &'static str> {
    not_of_others(request)?;
    if !settings.purge.allow.contains(request.connection.peer.address()) {
        return Err("your address is not in purge.allow");
    }
    Ok(PurgeRight(()))
}

/// Is it the peer itself who asks?
fn not_of_others(request: &Request) -> Result<(), &'static str> {
    if FORWARDING.iter().any(|name| request.fields.contains(name)) {
        return Err(
            "the request came through a proxy, so its address says nothing about who sent it",
        );
    }
    // A page that an admin looks at can reach this machine by a name of its own ("DNS rebinding"),
    // and browsers then send what it asks for with its origin.
    if request.fields.contains("Origin") {
        return Err("the request comes from a page in a browser; only control.token allows that");
    }
    Ok(())
}

/// Compares in a time that depends on the lengths alone.
fn by_token(settings: &Settings, given: &[u8]) -> Result<PurgeRight, ControlError> {
    if settings.control.token.as_bytes().ct_eq(given).into() {
        Ok(PurgeRight(()))
    } else {
        Err(ControlError::Token("the token is wrong"))
    }
}

/// The bearer token (RFC 6750 2.1). Several Authorization lines have none.
fn token(fields: &Fields) -> Option<&[u8]> {
    let mut lines = fields.all("Authorization");
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let (scheme, token) = line.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
