//! Cache-Control and Surrogate-Control (RFC 9111 5.2, RFC 9110 5.6).

use std::time::Duration;

use crate::fields::Fields;

/// The greatest delta-seconds that counts (RFC 9111 1.2.2).
pub const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// The directives of a response, or of a request, that this cache obeys.
///
/// Of a lifetime that is given twice the first counts (RFC 9111 4.2.1); one that is no number is
/// zero, so that the response is stale.
#[expect(clippy::struct_excessive_bools, reason = "a directive is there or not, each by itself")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age`
    pub max_age: Option<Duration>,
    /// `s-maxage`
    pub s_maxage: Option<Duration>,
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`
    pub no_cache: Extent,
    /// `private`
    pub private: Extent,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand` (RFC 9111 5.2.2.3)
    pub must_understand: bool,
    /// `stale-while-revalidate` (RFC 5861 3)
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4)
    pub stale_if_error: Option<Duration>,
}

/// How much of a response a directive speaks of: `private` of all of it, `private="a, b"` of some
/// of its fields (RFC 9111 5.2.2.4 and 5.2.2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The directive is not there.
    #[default]
    Nothing,
    /// The fields that it names ([`CacheControl::named_fields`]).
    Fields,
    /// The whole response.
    Whole,
}

impl Extent {
    /// Is the directive there, in whichever form?
    pub fn is_there(self) -> bool {
        self != Self::Nothing
    }

    fn of(argument: &Argument<'_>) -> Self {
        match argument {
            Argument::Text(names) if !names.trim_ascii().is_empty() => Self::Fields,
            _ => Self::Whole,
        }
    }
}

impl CacheControl {
    /// The directives of all Cache-Control lines.
    pub fn of(fields: &Fields) -> Self {
        let mut control = Self::default();
        for line in fields.all("cache-control") {
            control.read(line);
        }
        control
    }

    /// The directives of all Surrogate-Control lines; `None` where there is none. A lifetime may be
    /// followed by `+` and the seconds for which stale is tolerated (Edge Architecture 1.0), which
    /// this cache decides by its own settings.
    pub fn of_surrogate(fields: &Fields) -> Option<Self> {
        let mut control = None;
        for line in fields.all("surrogate-control") {
            let control: &mut Self = control.get_or_insert_default();
            let mut rest = &line[..];
            while let Some(mut directive) = next_directive(&mut rest) {
                if let Argument::Text(text) = directive.argument
                    && let Some(plus) = memchr::memchr(b'+', text)
                {
                    directive.argument = Argument::Text(&text[..plus]);
                }
                control.take(&directive);
            }
        }
        control
    }

    fn read(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some(directive) = next_directive(&mut rest) {
            self.take(&directive);
        }
    }

    fn take(&mut self, directive: &Directive<'_>) {
        let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
        if is("max-age") {
            self.max_age.get_or_insert_with(|| directive.seconds());
        } else if is("s-maxage") {
            self.s_maxage.get_or_insert_with(|| directive.seconds());
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = self.no_cache.max(Extent::of(&directive.argument));
        } else if is("private") {
            self.private = self.private.max(Extent::of(&directive.argument));
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate.get_or_insert_with(|| directive.seconds());
        } else if is("stale-if-error") {
            self.stale_if_error.get_or_insert_with(|| directive.seconds());
        }
    }

    /// The fields which `no-cache` and `private` of the Cache-Control lines name: nobody but the
    /// client whose request fetched the response gets them.
    pub fn named_fields(fields: &Fields) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        for line in fields.all("cache-control") {
            let mut rest = &line[..];
            while let Some(directive) = next_directive(&mut rest) {
                let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
                if let Argument::Text(text) = directive.argument
                    && (is("no-cache") || is("private"))
                {
                    let elements = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                    names.extend(elements.map(<[u8]>::to_ascii_lowercase));
                }
            }
        }
        names.retain(|name| !name.is_empty());
        names
    }
}

/// Reads one header line; what is not understood is skipped.
pub fn parse(line: &[u8]) -> CacheControl {
    let mut control = CacheControl::default();
    control.read(line);
    control
}

struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

enum Argument<'a> {
    None,
    /// A token, or what stands between quotes; a number needs no escapes.
    Text(&'a [u8]),
    /// Something that is neither.
    Malformed,
}

impl Directive<'_> {
    fn seconds(&self) -> Duration {
        match self.argument {
            Argument::Text(text) => delta_seconds(text).unwrap_or(Duration::ZERO),
            Argument::None | Argument::Malformed => Duration::ZERO,
        }
    }
}

/// Digits alone, and the greatest number where there are too many.
fn delta_seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(DELTA_SECONDS_MAX)
    });
    Some(Duration::from_secs(seconds))
}

/// Takes the next directive off `rest`; `None` at the end.
fn next_directive<'a>(rest: &mut &'a [u8]) -> Option<Directive<'a>> {
    let start = rest.iter().position(|&byte| byte != b',' && !is_blank(byte))?;
    let text = &rest[start..];
    let name_end = text
        .iter()
        .position(|&byte| matches!(byte, b'=' | b',') || is_blank(byte))
        .unwrap_or(text.len());
    let (name, after) = text.split_at(name_end);
    let Some(value) = after.strip_prefix(b"=") else {
        // White space before `=` makes the argument malformed (no white space is allowed there).
        let (tail, next) = split_at_comma(after);
        *rest = next;
        let blank = tail.trim_ascii().is_empty();
        let argument = if blank { Argument::None } else { Argument::Malformed };
        return Some(Directive { name, argument });
    };
    let (argument, next) = value.strip_prefix(b"\"").map_or_else(|| token(value), quoted);
    *rest = next;
    Some(Directive { name, argument })
}

/// Reads an argument without quotes: it, and what comes after the directive.
fn token(text: &[u8]) -> (Argument<'_>, &[u8]) {
    let (token, next) = split_at_comma(text);
    let token = token.trim_ascii_end();
    let proper = !token.is_empty() && !token.iter().any(|&byte| is_blank(byte));
    (if proper { Argument::Text(token) } else { Argument::Malformed }, next)
}

/// Reads on behind an opening quote: the argument, and what comes after the directive.
fn quoted(text: &[u8]) -> (Argument<'_>, &[u8]) {
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (tail, next) = split_at_comma(&text[at + 1..]);
                let proper = tail.trim_ascii().is_empty();
                let argument =
                    if proper { Argument::Text(&text[..at]) } else { Argument::Malformed };
                return (argument, next);
            }
            _ => {}
        }
    }
    // The quote is never closed: what follows cannot be told from the string, but `no-store` in
    // it must not be lost, so it is read as directives.
    let (_, next) = split_at_comma(text);
    (Argument::Malformed, next)
}

fn split_at_comma(text: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b',', text).unwrap_or(text.len());
    text.split_at(at)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn max_age(line: &str) -> Option<u64> {
        parse(line.as_bytes()).max_age.map(|time| time.as_secs())
    }

    #[test]
    fn magentos_lines_are_read() {
        let page = parse(b"max-age=86400, public, s-maxage=3600");
        assert_eq!(page.max_age, Some(Duration::from_hours(24)));
        assert_eq!(page.s_maxage, Some(Duration::from_hours(1)));
        assert!(page.public);
        let private = parse(b"max-age=0, must-revalidate, no-cache, no-store");
        assert!(private.no_store && private.must_revalidate);
        assert_eq!(private.no_cache, Extent::Whole);
        assert_eq!(private.max_age, Some(Duration::ZERO));
    }

    #[test]
    fn lines_are_one_list_and_names_have_no_case() {
        let fields =
            Fields::from([("Cache-Control", "MAX-AGE=5"), ("cache-control", ",, Private ,")]);
        let control = CacheControl::of(&fields);
        assert_eq!(control.max_age, Some(Duration::from_secs(5)));
        assert_eq!(control.private, Extent::Whole);
    }

    #[test]
    fn quoted_strings_are_no_directives() {
        let control = parse(br#"x="no-store, \"private", max-age="7", no-cache="set-cookie, a""#);
        assert!(!control.no_store && !control.private.is_there());
        assert_eq!(control.no_cache, Extent::Fields);
        assert_eq!(control.max_age, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_directive_behind_a_quote_that_is_never_closed_still_counts() {
        assert!(parse(br#"x="y, no-store"#).no_store);
        assert_eq!(parse(br#"private="y, no-store"#).private, Extent::Whole);
    }

    #[test]
    fn of_a_lifetime_given_twice_the_first_counts() {
        assert_eq!(max_age("max-age=1, max-age=2"), Some(1));
        assert_eq!(max_age("max-age=x, max-age=2"), Some(0));
    }

    #[test]
    fn a_lifetime_that_is_no_number_is_zero() {
        for text in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age=1s",
            "max-age= 1",
            "max-age =1",
            "max-age=\"1",
            "max-age=\"1\"2",
            "max-age=+5",
            "max-age=1 2",
            "max-age=0x9",
        ] {
            assert_eq!(max_age(text), Some(0), "{text}");
        }
    }

    #[test]
    fn a_lifetime_that_is_too_large_is_the_greatest() {
        assert_eq!(max_age("max-age=2147483648"), Some(DELTA_SECONDS_MAX));
        assert_eq!(max_age("max-age=99999999999999999999999999"), Some(DELTA_SECONDS_MAX));
        assert_eq!(max_age("max-age=0005"), Some(5));
    }

    #[test]
    fn surrogate_control_may_add_a_stale_time() {
        let fields = Fields::from([("Surrogate-Control", "max-age=3600+600, content=\"ESI/1.0\"")]);
        let surrogate = CacheControl::of_surrogate(&fields).expect("a line");
        assert_eq!(surrogate.max_age, Some(Duration::from_hours(1)));
        assert_eq!(CacheControl::of_surrogate(&Fields::new()), None);
        assert_eq!(max_age("max-age=3600+600"), Some(0));
    }

    #[test]
    fn a_directive_that_names_fields_speaks_of_them_alone() {
        let control = |line: &str| parse(line.as_bytes());
        assert_eq!(control("private=\"a\"").private, Extent::Fields);
        assert_eq!(control("no-cache=set-cookie").no_cache, Extent::Fields);
        assert_eq!(control("private=\"a\", private").private, Extent::Whole);
        assert_eq!(control("no-cache=\"\"").no_cache, Extent::Whole);
        assert_eq!(control("no-cache= a").no_cache, Extent::Whole);
        let fields = Fields::from([
            ("Cache-Control", "private=\"Set-Cookie, X-A\", x=\"b\""),
            ("cache-control", "no-cache=c, max-age=1"),
        ]);
        assert_eq!(CacheControl::named_fields(&fields), [&b"set-cookie"[..], b"x-a", b"c"]);
    }

    #[test]
    fn the_times_for_which_stale_is_tolerated_are_read() {
        let control = parse(b"stale-while-revalidate=30, stale-if-error=\"60\", must-understand");
        assert_eq!(control.stale_while_revalidate, Some(Duration::from_secs(30)));
        assert_eq!(control.stale_if_error, Some(Duration::from_mins(1)));
        assert!(control.must_understand);
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        assert_eq!(parse(b"no-storex, xprivate, max-agex=1, s-maxage2=3"), CacheControl::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..64)) {
            parse(&line);
        }

        #[test]
        fn no_store_is_found_in_every_list_of_tokens(
            before in prop::collection::vec("[a-z]{1,5}(=[a-z0-9]{1,3})?", 0..4),
            after in prop::collection::vec("[a-z]{1,5}(=\"[a-z,]{0,3}\")?", 0..4),
        ) {
            let mut all = before;
            all.push("no-store".to_owned());
            all.extend(after);
            prop_assert!(parse(all.join(" , ").as_bytes()).no_store);
        }
    }
}
