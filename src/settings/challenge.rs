//! `[challenge]`: the puzzle that browsers solve before a rule lets them in.

use std::time::Duration;

use super::reader::Reader;
use super::syntax::Syntax;

const MINUTE: Duration = Duration::from_mins(1);
const MONTH: Duration = Duration::from_hours(30 * 24);

/// `[challenge]`
#[derive(Clone, Debug, PartialEq)]
pub struct Challenge {
    /// Zero bits at the beginning of a hash: each more doubles the work.
    pub difficulty: u8,
    /// For how long a solved puzzle counts, from when it was given.
    pub valid: Duration,
    /// Leading bits of an IPv4 address that must stay the same.
    pub ipv4_prefix: u8,
    /// Those of an IPv6 address.
    pub ipv6_prefix: u8,
    /// Where those for whom it does not work reach the shop, as a URL; empty: the page does not say.
    pub contact: String,
}

impl Default for Challenge {
    fn default() -> Self {
        Self {
            difficulty: 18,
            valid: Duration::from_hours(24),
            ipv4_prefix: 24,
            ipv6_prefix: 48,
            contact: String::new(),
        }
    }
}

/// Somebody who can help.
const CONTACT: Syntax<String> = Syntax {
    allowed: "mailto:ADDRESS, tel:NUMBER or https://..., or nothing",
    parse: |text| {
        let is_known = ["mailto:", "tel:", "https://"]
            .iter()
            .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        let is_url = is_known && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_url || text.is_empty() { Ok(text.to_owned()) } else { Err("no such URL".to_owned()) }
    },
};

pub(super) fn read(reader: &mut Reader, challenge: &mut Challenge) {
    reader.number("challenge.difficulty", &mut challenge.difficulty, 1..=24);
    reader.duration("challenge.valid", &mut challenge.valid, MINUTE..=MONTH);
    reader.number("challenge.ipv4_prefix", &mut challenge.ipv4_prefix, 8..=32);
    reader.number("challenge.ipv6_prefix", &mut challenge.ipv6_prefix, 16..=64);
    reader.text("challenge.contact", &mut challenge.contact, &CONTACT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_a_url_that_a_visitor_can_open() {
        for right in ["", "mailto:help@shop.test", "tel:+4930123", "https://help.shop.test/"] {
            assert!((CONTACT.parse)(right).is_ok(), "{right}");
        }
        for wrong in
            ["mailto:", "javascript:alert(1)", "http://shop.test", "help@shop.test", "tel:0 1"]
        {
            assert!((CONTACT.parse)(wrong).is_err(), "{wrong}");
        }
    }
}
