//! Finds the end of a head in what has arrived, and holds its size within the limits.

use crate::listener::http1::Refused;
use crate::listener::limits::HeadLimits;

/// Looks at each byte once, however finely a head is split over reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    /// Where the line that is not complete yet begins.
    line_start: usize,
    /// Up to where there is no further line end.
    scanned: usize,
    /// Complete lines so far, the request line included.
    lines: usize,
}

impl Scanner {
    /// Looks at what has come since the last call; `input` begins with the head and only grows.
    /// The length of the head with its empty line, once that is there.
    pub fn advance(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refused> {
        // TLS or another protocol on a cleartext port is told at once, not after a timeout.
        if let Some(&first) = input.first()
            && first != b'\r'
            && !super::is_token_byte(first)
        {
            return Err(Refused::Method);
        }
        while let Some(offset) = memchr::memchr(b'\n', &input[self.scanned..]) {
            let line_feed = self.scanned + offset;
            let line = &input[self.line_start..line_feed];
            let Some((b'\r', line)) = line.split_last() else {
                return Err(Refused::BareLineEnd);
            };
            self.check_length(line.len(), limits)?;
            if line_feed + 1 > limits.head_max_bytes {
                return Err(Refused::HeadTooLong);
            }
            if line.is_empty() {
                // An empty request line is no end of a head.
                return if self.lines == 0 {
                    Err(Refused::RequestLine)
                } else {
                    Ok(Some(line_feed + 1))
                };
            }
            if self.lines > limits.fields_max {
                return Err(Refused::TooManyFields);
            }
            self.lines += 1;
            self.line_start = line_feed + 1;
            self.scanned = self.line_start;
        }
        self.scanned = input.len();
        self.check_rest(input, limits)?;
        Ok(None)
    }

    /// What has arrived of a line that is not complete.
    fn check_rest(&self, input: &[u8], limits: &HeadLimits) -> Result<(), Refused> {
        let rest = &input[self.line_start..];
        // The CR may be there already; it does not count.
        let length = rest.strip_suffix(b"\r").unwrap_or(rest).len();
        self.check_length(length, limits)?;
        if input.len() > limits.head_max_bytes {
            return Err(Refused::HeadTooLong);
        }
        Ok(())
    }

    fn check_length(&self, length: usize, limits: &HeadLimits) -> Result<(), Refused> {
        if self.lines == 0 {
            if length > limits.request_line_max_bytes {
                return Err(Refused::RequestLineTooLong);
            }
        } else if length > limits.field_max_bytes {
            return Err(Refused::FieldTooLong);
        }
        Ok(())
    }
}
