//! Who may come in, as Redis has it.

use bytes::BytesMut;
use subtle::ConstantTimeEq as _;

use crate::resp::{Request, write};
use crate::settings::Settings;

/// The users and the password that clients log in with.
#[derive(Clone)]
pub(super) struct Door {
    password: String,
    user: String,
    /// What the settings ask for holds at any socket; the password of the Redis behind at those alone
    /// that everybody on this machine reaches.
    at_unix: bool,
}

impl Door {
    pub(super) fn new(settings: &Settings) -> Self {
        let own = &settings.sessions.password;
        if !own.is_empty() {
            return Self { password: own.clone(), user: String::new(), at_unix: true };
        }
        let redis = settings.sessions_redis().unwrap_or_default();
        let (user, password) = (redis.user().to_owned(), redis.password().to_owned());
        Self { password, user, at_unix: false }
    }

    /// May a client do nothing before it has logged in?
    pub(super) fn is_closed(&self, is_unix: bool) -> bool {
        !self.password.is_empty() && (self.at_unix || !is_unix)
    }

    /// Looks at user and password; writes why not.
    pub(super) fn admits(&self, user: Option<&[u8]>, password: &[u8], out: &mut BytesMut) -> bool {
        let known = |user: &[u8]| {
            user == b"default" || !self.user.is_empty() && user == self.user.as_bytes()
        };
        if self.password.is_empty() {
            // As a user without a password, for whom any is right.
            if user.is_some_and(known) {
                return true;
            }
            write::error(out, if user.is_some() { WRONG } else { NO_PASSWORD });
            return false;
        }
        let is_right = bool::from(self.password.as_bytes().ct_eq(password));
        if is_right && user.is_none_or(known) {
            return true;
        }
        write::error(out, WRONG);
        false
    }
}

const WRONG: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &[u8] = b"ERR AUTH <password> called without any password configured for the \
    default user. Are you sure your configuration is correct?";

/// User and password of `AUTH [user] password`; `None`: there are too many or too few.
pub(super) fn login(request: &Request) -> Option<(Option<&[u8]>, &[u8])> {
    match (request.len(), request.arg(1), request.arg(2)) {
        (2, Some(password), _) => Some((None, password)),
        (3, Some(user), Some(password)) => Some((Some(user), password)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(given: &[(&str, &str)]) -> Door {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Door::new(&Settings::load(None, given).expect("valid"))
    }

    fn answer(door: &Door, user: Option<&str>, password: &str) -> String {
        let mut out = BytesMut::new();
        let is_admitted = door.admits(user.map(str::as_bytes), password.as_bytes(), &mut out);
        assert_eq!(is_admitted, out.is_empty());
        String::from_utf8_lossy(out.get(1..).unwrap_or_default()).chars().take(9).collect()
    }

    #[test]
    fn without_any_password_the_door_is_open_and_auth_is_answered_as_redis_does() {
        let door = door(&[("PARVIS__REDIS__URL", "redis://h")]);
        assert!(!door.is_closed(false) && !door.is_closed(true));
        assert_eq!(answer(&door, None, "x"), "ERR AUTH ");
        assert_eq!(answer(&door, Some("default"), "x"), "");
        assert_eq!(answer(&door, Some("other"), "x"), "WRONGPASS");
    }

    #[test]
    fn the_password_of_the_redis_behind_goes_on_and_is_wanted_where_no_mode_guards() {
        let door = door(&[("PARVIS__REDIS__URL", "redis://shop:secret@h")]);
        assert!(door.is_closed(false) && !door.is_closed(true));
        assert_eq!(answer(&door, None, "secret"), "");
        assert_eq!(answer(&door, Some("shop"), "secret"), "");
        assert_eq!(answer(&door, Some("root"), "secret"), "WRONGPASS");
        assert_eq!(answer(&door, None, "Secret"), "WRONGPASS");
    }

    #[test]
    fn a_password_of_the_sessions_own_is_wanted_everywhere_and_beats_that_of_the_redis() {
        let door = door(&[
            ("PARVIS__REDIS__URL", "redis://:secret@h"),
            ("PARVIS__SESSIONS__PASSWORD", "own"),
        ]);
        assert!(door.is_closed(false) && door.is_closed(true));
        assert_eq!(answer(&door, None, "own"), "");
        assert_eq!(answer(&door, None, "secret"), "WRONGPASS");
    }
}
