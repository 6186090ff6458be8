//! A line of the access log: JSON with fixed keys, or the combined log format.
//!
//! Whatever a client sends, a line is one line, a JSON line is valid JSON, and no control
//! character reaches a terminal.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use http::Version;

use super::queue::Line;
use super::record::end_word;
use super::redact::redact;
use crate::settings::AccessFormat;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends the line and its line feed.
pub(super) fn write(out: &mut String, line: &Line, format: AccessFormat, shorten: bool) {
    let client = if shorten { shortened(line.client) } else { line.client.to_canonical() };
    match format {
        AccessFormat::Json => json(out, line, client),
        AccessFormat::Combined => combined(out, line, client),
    }
    out.push('\n');
}

fn json(out: &mut String, line: &Line, client: IpAddr) {
    put(out, format_args!("{{\"time\":\"{}\"", Date::of(line.time).rfc3339()));
    put(out, format_args!(",\"client\":\"{client}\",\"scheme\":\"{}\"", line.scheme.as_str()));
    json_text(out, "host", line.authority());
    json_text(out, "method", line.method());
    json_text(out, "target", &redact(line.target()));
    put(out, format_args!(",\"protocol\":\"{}\"", protocol(line.version)));
    put(out, format_args!(",\"status\":{},\"bytes\":{}", line.status.as_u16(), line.body_bytes));
    put(out, format_args!(",\"duration_seconds\":{}", seconds(line.duration)));
    match line.first_byte {
        Some(first_byte) => {
            put(out, format_args!(",\"first_byte_seconds\":{}", seconds(first_byte)));
        }
        None => out.push_str(",\"first_byte_seconds\":null"),
    }
    put(out, format_args!(",\"verdict\":\"{}\"", line.verdict.as_str()));
    match line.reason {
        Some(reason) => put(out, format_args!(",\"reason\":\"{}\"", reason.as_str())),
        None => out.push_str(",\"reason\":null"),
    }
    put(out, format_args!(",\"end\":\"{}\"", end_word(line.delivered)));
    json_text(out, "user_agent", line.user_agent());
    json_text(out, "referer", &redact(line.referer()));
    out.push('}');
}

fn combined(out: &mut String, line: &Line, client: IpAddr) {
    put(out, format_args!("{client} - - [{}] \"", Date::of(line.time).combined()));
    plain_text(out, line.method());
    out.push(' ');
    plain_text(out, &redact(line.target()));
    put(out, format_args!(" {}\" ", protocol(line.version)));
    put(out, format_args!("{} {} \"", line.status.as_u16(), line.body_bytes));
    plain_text_or_dash(out, &redact(line.referer()));
    out.push_str("\" \"");
    plain_text_or_dash(out, line.user_agent());
    out.push('"');
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
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

/// `,"key":"text"`, or null where it is empty. What is no UTF-8 becomes U+FFFD.
fn json_text(out: &mut String, key: &str, text: &[u8]) {
    if text.is_empty() {
        return put(out, format_args!(",\"{key}\":null"));
    }
    put(out, format_args!(",\"{key}\":\""));
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                // All control characters, DEL and C1 (which terminals obey) and the Unicode line
                // ends (which some readers take for the end of the line).
                '\u{2028}' | '\u{2029}' => {
                    put(out, format_args!("\\u{:04x}", u32::from(character)));
                }
                control if control.is_control() => {
                    put(out, format_args!("\\u{:04x}", u32::from(control)));
                }
                other => out.push(other),
            }
        }
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out.push('"');
}

/// As nginx writes it: quotes, backslashes and everything but printable ASCII as `\xHH`.
fn plain_text(out: &mut String, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => put(out, format_args!("\\x{byte:02X}")),
            printable => out.push(char::from(printable)),
        }
    }
}

fn plain_text_or_dash(out: &mut String, text: &[u8]) {
    if text.is_empty() {
        out.push('-');
    } else {
        plain_text(out, text);
    }
}

/// A point in time, in UTC.
struct Date {
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    http: String,
    milliseconds: u32,
}

impl Date {
    fn of(time: SystemTime) -> Self {
        // The year 9999 ends here; a clock that is set beyond it is no reason to stop.
        const LAST_SECOND: u64 = 253_402_300_799;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = since.min(Duration::from_secs(LAST_SECOND));
        let http = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
        Self { http, milliseconds: since.subsec_millis() }
    }

    fn part(&self, range: std::ops::Range<usize>) -> &str {
        self.http.get(range).unwrap_or_default()
    }

    fn rfc3339(&self) -> String {
        let month = MONTHS.iter().position(|month| *month == self.part(8..11)).unwrap_or(0) + 1;
        let (day, year, clock) = (self.part(5..7), self.part(12..16), self.part(17..25));
        format!("{year}-{month:02}-{day}T{clock}.{:03}Z", self.milliseconds)
    }

    fn combined(&self) -> String {
        let (day, month, year) = (self.part(5..7), self.part(8..11), self.part(12..16));
        format!("{day}/{month}/{year}:{} +0000", self.part(17..25))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::record::{Record, Verdict};
    use super::*;
    use crate::reason::Reason;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn written(record: &Record, format: AccessFormat, shorten: bool) -> String {
        let mut out = String::new();
        write(&mut out, &Line::new(record), format, shorten);
        out
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
        let line = written(&record, AccessFormat::Json, false);
        assert!(line.contains(r#""first_byte_seconds":2.500000,"verdict":"miss","reason":"cold""#));
    }

    #[test]
    fn combined_is_the_combined_log_format() {
        let mut record = record();
        record.referer = Some(Bytes::from("https://a.example/\"\\\x7f\u{e9}"));
        assert_eq!(
            written(&record, AccessFormat::Combined, false),
            "192.0.2.77 - - [14/Oct/2026:17:46:40 +0000] \"GET /p?a=1 HTTP/1.1\" 200 1500 \
             \"https://a.example/\\x22\\x5C\\x7F\\xC3\\xA9\" \"curl/8\"\n"
        );
        record.user_agent = None;
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
        record.target = Bytes::from("/p?SID=s3cr3t&a=1");
        record.referer = Some(Bytes::from("https://shop.example/q?PHPSESSID=s3cr3t"));
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
            record.time = time;
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
            record.target = target;
            record.authority = authority.clone();
            record.user_agent = Some(agent);
            record.referer = Some(referer);
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
            record.target = target;
            record.user_agent = Some(agent);
            record.referer = Some(referer);
            let line = written(&record, AccessFormat::Combined, false);
            let body = line.strip_suffix('\n').expect("a line");
            prop_assert!(body.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(body.matches('"').count(), 6);
        }
    }
}
