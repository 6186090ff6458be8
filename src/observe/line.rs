//! A line of the access log: JSON with fixed keys, or the combined log format.
//!
//! Whatever a client sends, a line is one line, a JSON line is valid JSON, and no control
//! character reaches a terminal.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use http::Version;

use super::record::{Record, end_word};
use super::redact::redact;
use crate::exchange::write_address;
use crate::settings::AccessFormat;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The longest texts that are logged; the rest is cut.
const METHOD_MAX_BYTES: usize = 32;
const AUTHORITY_MAX_BYTES: usize = 255;
const TARGET_MAX_BYTES: usize = 8_192;
const USER_AGENT_MAX_BYTES: usize = 1_024;
const REFERER_MAX_BYTES: usize = 2_048;

/// Formats lines. It remembers the second that it formatted last: most lines share it.
#[derive(Clone, Debug)]
pub(super) struct LineWriter {
    format: AccessFormat,
    shorten: bool,
    second: Option<u64>,
    /// `2026-10-14T17:46:40`, or `14/Oct/2026:17:46:40 +0000`.
    date: Vec<u8>,
}

impl LineWriter {
    /// `shorten`: addresses lose what tells one customer from the next.
    pub(super) fn new(format: AccessFormat, shorten: bool) -> Self {
        Self { format, shorten, second: None, date: Vec::new() }
    }

    /// Appends the line and its line feed.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        match self.format {
            AccessFormat::Json => self.json(out, record),
            AccessFormat::Combined => self.combined(out, record),
        }
        out.push(b'\n');
    }

    fn json(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        let milliseconds = self.date(out, record.time());
        out.push(b'.');
        digits::<3>(out, milliseconds);
        out.extend_from_slice(b"Z\",\"client\":\"");
        self.address(out, record.client);
        json_word(out, "\",\"scheme\":\"", record.scheme.as_str());
        out.push(b'"');
        json_text(out, ",\"host\":", cut(record.authority, AUTHORITY_MAX_BYTES));
        json_text(out, ",\"method\":", cut(record.method, METHOD_MAX_BYTES));
        json_text(out, ",\"target\":", &redact(cut(record.target, TARGET_MAX_BYTES)));
        json_word(out, ",\"protocol\":\"", protocol(record.version));
        json_word(out, "\",\"status\":", record.status.as_str());
        json_word(out, ",\"bytes\":", itoa::Buffer::new().format(record.body_bytes()));
        out.extend_from_slice(b",\"duration_seconds\":");
        seconds(out, record.duration);
        out.extend_from_slice(b",\"first_byte_seconds\":");
        match record.first_byte {
            Some(first_byte) => seconds(out, first_byte),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(queued) = record.queued {
            out.extend_from_slice(b",\"queued_seconds\":");
            seconds(out, queued);
        }
        if !record.class.is_empty() {
            json_word(out, ",\"class\":\"", record.class);
            out.push(b'"');
        }
        json_word(out, ",\"verdict\":\"", record.verdict.as_str());
        match record.reason {
            Some(reason) => {
                json_word(out, "\",\"reason\":\"", reason.as_str());
                out.push(b'"');
            }
            None => out.extend_from_slice(b"\",\"reason\":null"),
        }
        if let Some(rule) = record.rule {
            json_word(out, ",\"rule\":\"", rule);
            out.push(b'"');
        }
        json_word(out, ",\"end\":\"", end_word(record.delivered));
        out.push(b'"');
        json_text(out, ",\"user_agent\":", cut(record.user_agent, USER_AGENT_MAX_BYTES));
        json_text(out, ",\"referer\":", &redact(cut(record.referer, REFERER_MAX_BYTES)));
        out.push(b'}');
    }

    fn combined(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.address(out, record.client);
        out.extend_from_slice(b" - - [");
        self.date(out, record.time());
        out.extend_from_slice(b"] \"");
        plain_text(out, cut(record.method, METHOD_MAX_BYTES));
        out.push(b' ');
        plain_text(out, &redact(cut(record.target, TARGET_MAX_BYTES)));
        out.push(b' ');
        out.extend_from_slice(protocol(record.version).as_bytes());
        out.extend_from_slice(b"\" ");
        out.extend_from_slice(record.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(record.body_bytes()).as_bytes());
        out.extend_from_slice(b" \"");
        plain_text_or_dash(out, &redact(cut(record.referer, REFERER_MAX_BYTES)));
        out.extend_from_slice(b"\" \"");
        plain_text_or_dash(out, cut(record.user_agent, USER_AGENT_MAX_BYTES));
        out.push(b'"');
    }

    /// Appends the second, in UTC, and gives the milliseconds.
    fn date(&mut self, out: &mut Vec<u8>, time: SystemTime) -> u32 {
        // The year 9999 ends here; a clock that is set beyond it is no reason to stop.
        const LAST_SECOND: u64 = 253_402_300_799;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST_SECOND);
        if self.second != Some(second) {
            self.second = Some(second);
            self.date.clear();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let text = httpdate::fmt_http_date(time);
            match self.format {
                AccessFormat::Json => rfc3339(&mut self.date, &text),
                AccessFormat::Combined => combined_date(&mut self.date, &text),
            }
        }
        out.extend_from_slice(&self.date);
        since.subsec_millis()
    }

    fn address(&self, out: &mut Vec<u8>, client: IpAddr) {
        let client = if self.shorten { shortened(client) } else { client.to_canonical() };
        write_address(out, client);
    }
}

fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    &text[..text.len().min(bytes_max)]
}

/// A number with leading zeros.
fn digits<const N: usize>(out: &mut Vec<u8>, number: u32) {
    let (mut text, mut rest) = ([b'0'; N], number);
    for digit in text.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text);
}

fn seconds(out: &mut Vec<u8>, duration: Duration) {
    out.extend_from_slice(itoa::Buffer::new().format(duration.as_secs()).as_bytes());
    out.push(b'.');
    digits::<6>(out, duration.subsec_micros());
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// An address without what tells one customer from the next: /24 and /48.
fn shortened(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// A word of our own, which needs no escapes, behind what comes before it.
fn json_word(out: &mut Vec<u8>, before: &str, word: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(word.as_bytes());
}

/// The key, and the text or null where it is empty. What is no UTF-8 becomes U+FFFD.
fn json_text(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if text.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.push(b'"');
    // One pass without a branch, which the compiler makes into wide instructions, decides for
    // nearly all texts.
    let is_odd = |byte: u8| !(b' '..0x7f).contains(&byte) || byte == b'"' || byte == b'\\';
    if text.iter().fold(false, |found, &byte| found | is_odd(byte)) {
        escaped(out, text);
    } else {
        out.extend_from_slice(text);
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    let hex = |out: &mut Vec<u8>, character: char| {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "\\u{:04x}", u32::from(character));
    };
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                // All control characters, DEL and C1 (which terminals obey) and the Unicode line
                // ends (which some readers take for the end of the line).
                '\u{2028}' | '\u{2029}' => hex(out, character),
                control if control.is_control() => hex(out, control),
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// As nginx writes it: quotes, backslashes and everything but printable ASCII as `\xHH`.
fn plain_text(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            // Writing to a Vec cannot fail.
            b'"' | b'\\' | 0..0x20 | 0x7f.. => drop(write!(out, "\\x{byte:02X}")),
            printable => out.push(printable),
        }
    }
}

fn plain_text_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.push(b'-');
    } else {
        plain_text(out, text);
    }
}

/// A part of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn part(http_date: &str, range: std::ops::Range<usize>) -> &[u8] {
    http_date.as_bytes().get(range).unwrap_or_default()
}

fn rfc3339(out: &mut Vec<u8>, http_date: &str) {
    let name = part(http_date, 8..11);
    let month = MONTHS.iter().position(|month| month[..] == *name).unwrap_or(0) + 1;
    out.extend_from_slice(part(http_date, 12..16));
    out.push(b'-');
    digits::<2>(out, month as u32);
    out.push(b'-');
    out.extend_from_slice(part(http_date, 5..7));
    out.push(b'T');
    out.extend_from_slice(part(http_date, 17..25));
}

fn combined_date(out: &mut Vec<u8>, http_date: &str) {
    let parts: [&[u8]; 8] = [
        part(http_date, 5..7),
        b"/",
        part(http_date, 8..11),
        b"/",
        part(http_date, 12..16),
        b":",
        part(http_date, 17..25),
        b" +0000",
    ];
    out.extend(parts.concat());
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::record::{Record, Verdict};
    use super::*;
    use crate::reason::Reason;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn written(record: &Record<'_>, format: AccessFormat, shorten: bool) -> String {
        let mut out = Vec::new();
        LineWriter::new(format, shorten).write(&mut out, record);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn json_has_its_fixed_keys_in_their_order() {
        let mut record = record();
        assert_eq!(
            written(&record, AccessFormat::Json, false),
            concat!(
                r#"{"time":"2026-10-14T17:46:40.123Z","client":"192.0.2.77","scheme":"https","#,
                r#""host":"shop.example","method":"GET","target":"/p?a=1","protocol":"HTTP/1.1","#,
                r#""status":200,"bytes":1500,"duration_seconds":0.001234,"#,
                r#""first_byte_seconds":null,"verdict":"hit","reason":null,"end":"whole","#,
                r#""user_agent":"curl/8","referer":null}"#,
                "\n"
            )
        );
        record.first_byte = Some(Duration::from_millis(2_500));
        record.verdict = Verdict::Miss;
        record.reason = Some(Reason::Cold);
        record.class = "pages";
        let line = written(&record, AccessFormat::Json, false);
        assert!(line.contains(
            r#""first_byte_seconds":2.500000,"class":"pages","verdict":"miss","reason":"cold""#
        ));
    }

    #[test]
    fn combined_is_the_combined_log_format() {
        let mut record = record();
        record.referer = "https://a.example/\"\\\x7f\u{e9}".as_bytes();
        assert_eq!(
            written(&record, AccessFormat::Combined, false),
            "192.0.2.77 - - [14/Oct/2026:17:46:40 +0000] \"GET /p?a=1 HTTP/1.1\" 200 1500 \
             \"https://a.example/\\x22\\x5C\\x7F\\xC3\\xA9\" \"curl/8\"\n"
        );
        record.user_agent = b"";
        assert!(written(&record, AccessFormat::Combined, false).ends_with("\" \"-\"\n"));
    }

    #[test]
    fn addresses_are_shortened_to_24_and_48_bits() {
        for (address, want) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ] {
            let mut record = record();
            record.client = address.parse().expect("valid");
            for format in [AccessFormat::Json, AccessFormat::Combined] {
                let line = written(&record, format, true);
                assert!(line.contains(want), "{line}");
            }
        }
    }

    #[test]
    fn session_ids_do_not_reach_the_log_in_target_or_referer() {
        let mut record = record();
        record.target = b"/p?SID=s3cr3t&a=1";
        record.referer = b"https://shop.example/q?PHPSESSID=s3cr3t";
        for format in [AccessFormat::Json, AccessFormat::Combined] {
            let line = written(&record, format, false);
            assert!(!line.contains("s3cr3t") && line.contains("/p?SID=&a=1"), "{line}");
        }
    }

    #[test]
    fn impossible_clocks_do_no_harm() {
        let mut record = record();
        for (time, want) in [
            (SystemTime::UNIX_EPOCH - Duration::from_secs(5), "1970-01-01T00:00:00.000Z"),
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40), "9999-12-31T23:59:59.000Z"),
        ] {
            record.ended = time;
            record.duration = Duration::ZERO;
            assert!(written(&record, AccessFormat::Json, false).contains(want));
        }
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        let text = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}".prop_map(String::into_bytes),
            "[\u{0}-\u{a0}\u{2028}\u{2029}\"\\\\]{0,20}".prop_map(String::into_bytes),
        ];
        text.prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_valid_json(
            target in bytes(), authority in bytes(), agent in bytes(), referer in bytes()
        ) {
            let mut record = record();
            record.target = &target;
            record.authority = &authority;
            record.user_agent = &agent;
            record.referer = &referer;
            let line = written(&record, AccessFormat::Json, false);
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
            let line_ends = line.contains(['\u{2028}', '\u{2029}']);
            prop_assert!(!line_ends);
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let host = value["host"].as_str().unwrap_or_default();
            prop_assert_eq!(host, String::from_utf8_lossy(&authority));
            prop_assert_eq!(value.as_object().map(serde_json::Map::len), Some(16));
        }

        #[test]
        fn any_bytes_give_one_combined_line_of_printable_ascii(
            target in bytes(), agent in bytes(), referer in bytes()
        ) {
            let mut record = record();
            record.target = &target;
            record.user_agent = &agent;
            record.referer = &referer;
            let line = written(&record, AccessFormat::Combined, false);
            let body = line.strip_suffix('\n').expect("a line");
            prop_assert!(body.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(body.matches('"').count(), 6);
        }
    }
}
