//! The patterns of KEYS, SCAN and CONFIG GET: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant as
//! it stands.

/// Does the whole text match? Takes at most the product of both lengths: of several stars only the
/// last can be given more, since what matched before it is as good as any.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut at, mut place) = (0, 0);
    // Behind the last star, and what it has taken.
    let mut star = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, place));
                continue;
            }
            Some(_) => {
                let (one, next) = element(&pattern[at..], text[place], ignore_case);
                if one {
                    at += next;
                    place += 1;
                    continue;
                }
            }
            None => {}
        }
        let Some((behind, taken)) = star else { return false };
        star = Some((behind, taken + 1));
        (at, place) = (behind, taken + 1);
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Does the pattern's first element match a byte, and how long is the element?
fn element(pattern: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let same = |a: u8, b: u8| a == b || ignore_case && a.eq_ignore_ascii_case(&b);
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', rest @ ..] => {
            let (found, length) = class(rest, byte, ignore_case);
            (found, length + 1)
        }
        [b'\\', escaped, ..] => (same(*escaped, byte), 2),
        [own, ..] => (same(*own, byte), 1),
        [] => (false, 0),
    }
}

/// A class behind its `[`. One that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let lower = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                let (low, high) = (lower(*first.min(last)), lower(*first.max(last)));
                found |= (low..=high).contains(&lower(byte));
                at += 3;
            }
            [own, ..] => {
                found |= lower(*own) == lower(byte);
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_mean_what_they_mean_to_redis() {
        let cases: [(&str, &str, bool); 24] = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[\\]]", "]", true),
            ("[ab", "b", true),
            ("a\\", "a\\", true),
            ("**a**", "xxaxx", true),
            ("*a*b*c", "aabbcc", true),
            ("*a*b*c", "aabbccd", false),
            ("sess_*", "sess_x", true),
            ("[]a", "a", false),
        ];
        for (pattern, text, expected) in cases {
            let found = matches(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(found, expected, "{pattern} {text}");
        }
        assert!(matches(b"MAX*", b"maxmemory", true));
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(50) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 5_000], false));
    }
}
