//! Reading answers: heads by httparse, bodies counted and thrown away.

/// Header fields that are read; a shop sends some twenty.
const FIELDS_MAX: usize = 128;

/// How the cache says that it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// From the cache, fresh.
    Hit,
    /// From the cache, past its lifetime.
    Stale,
    /// Fetched, since it was not stored or not fresh.
    Fill,
    /// Fetched, since it is nobody else's.
    Pass,
    /// It says nothing: a file, or an answer of the server's own.
    Unsaid,
}

impl Verdict {
    /// As the results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Fill => "fill",
            Self::Pass => "pass",
            Self::Unsaid => "unsaid",
        }
    }

    /// From Cache-Status (RFC 9211), or X-Cache with one word as nginx' $`upstream_cache_status`.
    fn read(name: &str, value: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("cache-status") {
            return Some(if value.contains("; hit") {
                if value.contains("ttl=-") { Self::Stale } else { Self::Hit }
            } else if value.contains("fwd=uri-miss")
                || value.contains("fwd=miss")
                || value.contains("fwd=stale")
            {
                Self::Fill
            } else if value.contains("fwd=") {
                Self::Pass
            } else {
                Self::Unsaid
            });
        }
        if !name.eq_ignore_ascii_case("x-cache") {
            return None;
        }
        Some(match value {
            "HIT" | "REVALIDATED" => Self::Hit,
            "STALE" | "UPDATING" => Self::Stale,
            "MISS" | "EXPIRED" => Self::Fill,
            "PASS" | "BYPASS" => Self::Pass,
            _ => Self::Unsaid,
        })
    }
}

/// A cookie that the answer sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value; empty where it is deleted.
    pub value: String,
}

/// What is kept of a head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// How the cache answered.
    pub verdict: Verdict,
    /// What is set.
    pub cookies: Vec<Cookie>,
    /// Whose session PHP worked for (`X-Load-For`).
    pub session: Option<String>,
    /// The path that PHP rendered (`X-Load-Path`).
    pub path: Option<String>,
    /// Milliseconds for which PHP worked (`X-Load-Ms`).
    pub php_ms: u32,
    /// How the body ends.
    pub body: Body,
    /// Whether the connection ends with it.
    pub closes: bool,
}

/// What of a body is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection ends.
    UntilClose,
}

/// What is wrong with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads a head; None where it is not whole yet. Also how many bytes it has.
pub fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| Malformed)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let mut head = Head {
        status,
        verdict: Verdict::Unsaid,
        cookies: Vec::new(),
        session: None,
        path: None,
        php_ms: 0,
        body: if matches!(status, 204 | 304) { Body::Length(0) } else { Body::UntilClose },
        closes: false,
    };
    for field in response.headers {
        let Ok(value) = std::str::from_utf8(field.value) else { continue };
        take(&mut head, field.name, value)?;
    }
    head.closes |= head.body == Body::UntilClose;
    Ok(Some((head, length)))
}

fn take(head: &mut Head, name: &str, value: &str) -> Result<(), Malformed> {
    if let Some(verdict) = Verdict::read(name, value) {
        head.verdict = verdict;
    } else if name.eq_ignore_ascii_case("set-cookie") {
        let pair = value.split(';').next().unwrap_or("");
        if let Some((name, value)) = pair.split_once('=') {
            let value = if value == "deleted" { "" } else { value };
            head.cookies.push(Cookie { name: name.to_owned(), value: value.to_owned() });
        }
    } else if name.eq_ignore_ascii_case("content-length") {
        if head.body == Body::UntilClose {
            head.body = Body::Length(value.parse().map_err(|_| Malformed)?);
        }
    } else if name.eq_ignore_ascii_case("transfer-encoding") {
        head.body = Body::Chunked(Chunks::default());
    } else if name.eq_ignore_ascii_case("connection") {
        head.closes = value.eq_ignore_ascii_case("close");
    } else if name.eq_ignore_ascii_case("x-load-for") {
        head.session = Some(value.to_owned());
    } else if name.eq_ignore_ascii_case("x-load-path") {
        head.path = Some(value.to_owned());
    } else if name.eq_ignore_ascii_case("x-load-ms") {
        head.php_ms = value.parse().map_err(|_| Malformed)?;
    }
    Ok(())
}

impl Body {
    /// Takes more bytes of it. Whether that was all.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        match self {
            Self::Length(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Malformed)?;
                Ok(*left == 0)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::UntilClose => Ok(false),
        }
    }
}

/// Where in a chunked body (RFC 9112, 7.1) the last byte was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// In the line of a chunk's size: the size so far, and whether its digits are over.
    Size(u64, bool),
    /// In content: bytes that are left of it.
    Content(u64),
    /// In the line end after content.
    After,
    /// In the trailer section: bytes of its line so far.
    Trailer(usize),
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size(0, false)
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            let here = std::mem::take(self);
            if let Self::Content(left) = here {
                let taken = left.min((bytes.len() - at) as u64);
                *self = if left == taken { Self::After } else { Self::Content(left - taken) };
                at += taken as usize;
                continue;
            }
            at += 1;
            *self = match (here, byte) {
                (Self::Size(0, _), b'\n') => Self::Trailer(0),
                (Self::Size(size, _), b'\n') => Self::Content(size),
                (Self::Size(size, true), _) | (Self::Size(size, false), b';' | b'\r' | b' ') => {
                    Self::Size(size, true)
                }
                (Self::Size(size, false), digit) => {
                    let digit = (digit as char).to_digit(16).ok_or(Malformed)?;
                    let size = size.checked_mul(16).and_then(|size| size.checked_add(digit.into()));
                    Self::Size(size.ok_or(Malformed)?, false)
                }
                (Self::After, b'\n') => Self::Size(0, false),
                (Self::After, b'\r') => Self::After,
                (Self::Trailer(0), b'\n') => {
                    return if at == bytes.len() { Ok(true) } else { Err(Malformed) };
                }
                (Self::Trailer(_), b'\n') => Self::Trailer(0),
                (Self::Trailer(length), b'\r') => Self::Trailer(length),
                (Self::Trailer(length), _) => Self::Trailer(length + 1),
                _ => return Err(Malformed),
            };
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_who_answered_and_what_follows() {
        let text =
            b"HTTP/1.1 200 OK\r\nCache-Status: parvis; hit; ttl=86399\r\nContent-Length: 5\r\n\
            Set-Cookie: PHPSESSID=abc; path=/\r\nX-Load-Ms: 120\r\n\r\nhello";
        let (head, length) = read_head(text).unwrap().unwrap();
        assert_eq!(
            (head.status, head.verdict, head.php_ms, head.closes),
            (200, Verdict::Hit, 120, false)
        );
        assert_eq!(head.cookies, [Cookie { name: "PHPSESSID".into(), value: "abc".into() }]);
        assert_eq!(&text[length..], b"hello");
        assert!(read_head(&text[..40]).unwrap().is_none());
        assert!(read_head(b"HTTP/9 what\r\n\r\n").is_err());
    }

    #[test]
    fn verdicts_of_all_servers_are_known() {
        let of = |name, value| Verdict::read(name, value).unwrap();
        assert_eq!(of("Cache-Status", "parvis; hit; ttl=-3"), Verdict::Stale);
        assert_eq!(
            of("Cache-Status", "parvis; fwd=uri-miss; stored; ttl=86400; detail=cold"),
            Verdict::Fill
        );
        assert_eq!(of("Cache-Status", "parvis; fwd=bypass; detail=bypass-path"), Verdict::Pass);
        assert_eq!(of("Cache-Status", "parvis; fwd=method"), Verdict::Pass);
        assert_eq!(of("X-Cache", "UPDATING"), Verdict::Stale);
        assert_eq!(of("X-Cache", "BYPASS"), Verdict::Pass);
        assert!(Verdict::read("Date", "HIT").is_none());
    }

    #[test]
    fn chunks_end_alike_however_they_are_split() {
        let text = b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n";
        for split in 0..text.len() {
            let mut body = Body::Chunked(Chunks::default());
            assert_eq!(body.take(&text[..split]), Ok(false), "{split}");
            assert_eq!(body.take(&text[split..]), Ok(true), "{split}");
        }
        assert!(Body::Chunked(Chunks::default()).take(b"zz\r\n").is_err());
        assert!(Body::Chunked(Chunks::default()).take(b"ffffffffffffffffff\r\n").is_err());
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let mut body = Body::Length(5);
        assert_eq!(body.take(b"hel"), Ok(false));
        assert_eq!(body.take(b"lo"), Ok(true));
        assert_eq!(Body::Length(1).take(b"lo"), Err(Malformed));
    }
}
