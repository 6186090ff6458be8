//! Names of fields as PHP makes variables of them (`php_register_variable_ex`).

/// A variable's name: the array first, then the index within it, and within that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    parts: Vec<Vec<u8>>,
}

impl Name {
    /// What PHP makes of a field's name; `None`: nothing. Blanks in front are left out, dots and blanks become `_`, a NUL
    /// ends the name, and what follows an index is ignored.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let blanks = name.iter().take_while(|byte| **byte == b' ').count();
        let name = &name[blanks..];
        let open = name.iter().position(|byte| *byte == b'[').unwrap_or(name.len());
        let (first, mut rest) = name.split_at(open);
        let underscored = |byte: &u8| if b" .".contains(byte) { b'_' } else { *byte };
        let mut parts = vec![first.iter().map(underscored).collect::<Vec<u8>>()];
        if first.is_empty() {
            return None;
        }
        while let [b'[', within @ ..] = rest {
            let Some(close) = within.iter().position(|byte| *byte == b']') else {
                if let [only] = &mut parts[..] {
                    // An index that does not end is none: all of it is the name.
                    only.push(b'_');
                    only.extend(within.iter().map(|byte| match byte {
                        b'[' => b'_',
                        byte => underscored(byte),
                    }));
                }
                break;
            };
            parts.push(within[..close].to_vec());
            rest = &within[close + 1..];
        }
        Some(Self { parts })
    }

    /// The name's parts, the outermost first; at least one.
    pub(super) fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_php_makes_of_them() {
        for (name, parts) in [
            ("username", &["username"][..]),
            ("login[username]", &["login", "username"]),
            ("  login[username]", &["login", "username"]),
            ("login[username]junk", &["login", "username"]),
            ("login[username]\0[x]", &["login", "username"]),
            ("login[username][x", &["login", "username"]),
            ("login[username][]", &["login", "username", ""]),
            ("login[ username]", &["login", " username"]),
            ("user.na me", &["user_na_me"]),
            ("login[username", &["login_username"]),
            ("login[user.na[me", &["login_user_na_me"]),
            ("a.b[c.d]", &["a_b", "c.d"]),
        ] {
            let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
            assert_eq!(Name::of(name.as_bytes()), Some(Name { parts }), "{name}");
        }
        for nothing in ["", " ", "[username]", "\0x"] {
            assert_eq!(Name::of(nothing.as_bytes()), None, "{nothing:?}");
        }
    }
}
