//! Asking whether what is stored is still right, and what a 304 changes of it (RFC 9111 4.3).

use crate::fields::representation::describes_bytes;
use crate::fields::{Field, Fields};

/// The conditions with which the origin is asked whether a response that had these fields is still
/// right (RFC 9111 4.3.1).
pub fn conditions(stored: &Fields) -> Fields {
    let mut conditions = Fields::new();
    let validators = [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")];
    for (validator, condition) in validators {
        if let Some(value) = stored.first(validator) {
            conditions.push_static(condition, value.clone());
        }
    }
    conditions
}

/// The fields of a stored response with those of a 304 in the places of their namesakes
/// (RFC 9111 3.2), but for those that describe the stored bytes.
pub fn overlaid(stored: &Fields, update: &Fields) -> Fields {
    const OF_THE_BYTES: [&str; 4] = ["accept-ranges", "content-encoding", "content-range", "etag"];
    let is_update =
        |field: &Field| !describes_bytes(field) && !OF_THE_BYTES.iter().any(|name| field.is(name));
    let mut fields = stored.clone();
    fields.retain(|old| {
        !update.iter().any(|new| is_update(new) && new.name.eq_ignore_ascii_case(&old.name))
    });
    fields.extend(update.iter().filter(|field| is_update(field)).cloned());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_validator_becomes_its_condition() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let stored = Fields::from([("Last-Modified", date), ("A", "1"), ("ETag", "W/\"x\"")]);
        let expected = Fields::from([("If-None-Match", "W/\"x\""), ("If-Modified-Since", date)]);
        assert_eq!(conditions(&stored), expected);
        assert_eq!(conditions(&Fields::from([("A", "1")])), Fields::new());
    }

    #[test]
    fn a_304_brings_fields_up_to_date_and_leaves_those_of_the_bytes() {
        let stored = Fields::from([
            ("A", "1"),
            ("a", "2"),
            ("B", "3"),
            ("ETag", "\"x\""),
            ("Content-Length", "9"),
        ]);
        let update =
            Fields::from([("a", "4"), ("etag", "\"y\""), ("Content-Length", "0"), ("C", "5")]);
        let expected = Fields::from([
            ("B", "3"),
            ("ETag", "\"x\""),
            ("Content-Length", "9"),
            ("a", "4"),
            ("C", "5"),
        ]);
        assert_eq!(overlaid(&stored, &update), expected);
    }
}
