//! A reply of a FastCGI application: records to head, content, errors and end.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::errors::ErrorText;
use super::record::{Ending, Event, Records};
use crate::fields::{Fields, Names};
use crate::origin::decoder::{Fault, Step};
use crate::origin::head::{
    Content, LineEnd, ResponseHead, content_length, head_end, read_fields, read_status,
    remove_hop_by_hop,
};

/// Fields by which a script speaks to its web server alone, as nginx hides them.
const TO_THE_SERVER: Names = Names::new(&[
    "status",
    "x-accel-buffering",
    "x-accel-charset",
    "x-accel-expires",
    "x-accel-limit-rate",
    "x-accel-redirect",
]);

/// A reply that is being read.
#[derive(Debug)]
pub(in crate::origin) struct Reply {
    records: Records,
    errors: ErrorText,
    head_request: bool,
    head_max_bytes: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The head is not complete.
    Head { gathered: BytesMut, searched: usize },
    /// The head has been handed out; `rest` is the content which came in one piece with its end.
    Content { rest: Bytes, remaining_bytes: Option<u64> },
    /// `END_REQUEST` came.
    Ended,
}

impl Reply {
    /// A reply to a HEAD request has no content whatever the script writes.
    pub(in crate::origin) fn new(
        head_request: bool,
        head_max_bytes: usize,
        errors: ErrorText,
    ) -> Self {
        let phase = Phase::Head { gathered: BytesMut::new(), searched: 0 };
        Self { records: Records::default(), errors, head_request, head_max_bytes, phase }
    }

    /// Takes the next step's bytes off `input`.
    pub(in crate::origin) fn next(&mut self, input: &mut BytesMut) -> Result<Step, Fault> {
        loop {
            if let Phase::Content { rest, .. } = &mut self.phase
                && !rest.is_empty()
            {
                let rest = std::mem::take(rest);
                if let Some(step) = self.content(rest) {
                    return Ok(step);
                }
            }
            if matches!(self.phase, Phase::Ended) {
                return Ok(Step::End { reusable: input.is_empty() });
            }
            let step = match self.records.next(input)? {
                None => return Ok(Step::More),
                Some(Event::Stderr(text)) => {
                    self.errors.push(&text);
                    None
                }
                Some(Event::Stdout(piece)) => self.stdout(piece)?,
                Some(Event::End(ending)) => Some(self.end(ending, input)?),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Is all content out, so that only `END_REQUEST` is missing?
    pub(in crate::origin) fn content_is_whole(&self) -> bool {
        match &self.phase {
            Phase::Head { .. } => false,
            Phase::Content { remaining_bytes, .. } => *remaining_bytes == Some(0),
            Phase::Ended => true,
        }
    }

    fn stdout(&mut self, piece: Bytes) -> Result<Option<Step>, Fault> {
        let Phase::Head { gathered, searched } = &mut self.phase else {
            return Ok(self.content(piece));
        };
        // Nearly always the head comes in one piece, which is then none that needs to be copied.
        let is_first = gathered.is_empty();
        if !is_first {
            gathered.extend_from_slice(&piece);
        }
        let known: &[u8] = if is_first { &piece } else { gathered };
        let end = head_end(known, searched, LineEnd::CgiTolerant);
        if end.unwrap_or(known.len()) > self.head_max_bytes {
            return Err(Fault::Malformed("the head is larger than origin.head_max"));
        }
        let Some(end) = end else {
            if is_first {
                gathered.extend_from_slice(&piece);
            }
            return Ok(None);
        };
        let mut rest = if is_first { piece } else { std::mem::take(gathered).freeze() };
        let head = read_head(&rest.split_to(end), self.head_request)?;
        self.phase = Phase::Content { rest, remaining_bytes: head.content.length() };
        Ok(Some(Step::Head(head)))
    }

    /// Cuts what exceeds the announced length.
    fn content(&mut self, mut piece: Bytes) -> Option<Step> {
        if let Phase::Content { remaining_bytes: Some(remaining), .. } = &mut self.phase {
            let allowed = usize::try_from(*remaining).unwrap_or(usize::MAX);
            piece.truncate(allowed);
            *remaining -= piece.len() as u64;
        }
        (!piece.is_empty()).then_some(Step::Content(piece))
    }

    fn end(&mut self, ending: Ending, input: &BytesMut) -> Result<Step, Fault> {
        match ending {
            Ending::Complete => {}
            Ending::Failed => return Err(Fault::Cut),
            Ending::Overloaded => return Err(Fault::Overloaded),
            Ending::CannotMultiplex => {
                return Err(Fault::Malformed("the application ended with CANT_MPX_CONN"));
            }
            Ending::UnknownRole => {
                return Err(Fault::Malformed("the application ended with UNKNOWN_ROLE"));
            }
        }
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Head { .. } => Err(Fault::Malformed("the reply ended before its head")),
            Phase::Content { remaining_bytes: Some(1..), .. } => Err(Fault::Cut),
            // Whatever follows the end, padding included, would be read as the next reply's.
            _ => Ok(Step::End { reusable: self.records.is_between_records() && input.is_empty() }),
        }
    }
}

/// Reads a CGI head (RFC 3875 6.2, 6.3).
fn read_head(head: &Bytes, head_request: bool) -> Result<ResponseHead, Fault> {
    let mut fields = read_fields(head, head, LineEnd::CgiTolerant)?;
    if fields.is_empty() {
        return Err(Fault::Malformed("the head is empty"));
    }
    let status = status(&fields)?;
    let length = content_length(&fields)?;
    let unbuffered =
        fields.first("x-accel-buffering").is_some_and(|value| value.eq_ignore_ascii_case(b"no"));
    fields.retain(|field| !TO_THE_SERVER.have(&field.name));
    remove_hop_by_hop(&mut fields);
    if status == StatusCode::NO_CONTENT {
        fields.remove("content-length");
    }
    let content = Content::of(head_request, status, length);
    Ok(ResponseHead { status, fields, content, unbuffered })
}

/// `Status`, or 302 with `Location`, or 200. A local path in `Location` goes to the client like any
/// other: we never redirect internally.
fn status(fields: &Fields) -> Result<StatusCode, Fault> {
    let mut lines = fields.all("status");
    let Some(value) = lines.next() else {
        let redirects = fields.contains("location");
        return Ok(if redirects { StatusCode::FOUND } else { StatusCode::OK });
    };
    if lines.next().is_some() {
        return Err(Fault::Malformed("Status is repeated"));
    }
    let digits = value.split(|&byte| byte == b' ').next().unwrap_or_default();
    let status = read_status(digits)?;
    if status.is_informational() {
        return Err(Fault::Malformed("the status is informational"));
    }
    Ok(status)
}
