//! The head of a response from a file, as a pure function.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::coding::Coding;
use super::conditions::{Selection, Validators};
use super::directory::{HTTP_DATE_SECONDS_MAX, Stamp};
use crate::fields::Fields;
use crate::origin::mime;
use crate::origin::web_root::{Area, FileClass, Lifetime};
use crate::settings;

/// What is sent of a file, and how it is described.
#[derive(Clone, Debug)]
pub(super) struct Representation {
    pub(super) content_type: &'static str,
    pub(super) coding: Option<Coding>,
    pub(super) length: u64,
    pub(super) validators: Validators,
}

impl Representation {
    /// The entity tag is nginx': time and length in hexadecimal, so that all servers of a shop
    /// agree on it; a coded neighbour's names its coding too, so that it is never taken for the
    /// file itself.
    pub(super) fn new(content_type: &'static str, coding: Option<Coding>, stamp: Stamp) -> Self {
        let (seconds, length) = (stamp.modified_seconds, stamp.length);
        let entity_tag = match coding {
            Some(coding) => format!("\"{seconds:x}-{length:x}-{}\"", coding.as_str()),
            None => format!("\"{seconds:x}-{length:x}\""),
        };
        let validators = Validators { entity_tag, modified_seconds: seconds };
        Self { content_type, coding, length, validators }
    }

    /// Status and fields, in nginx' order.
    pub(super) fn head(
        &self,
        selection: &Selection,
        class: FileClass,
        settings: &settings::Files,
        now: SystemTime,
    ) -> (StatusCode, Fields) {
        let mut fields = Fields::with_capacity(10);
        let status = match selection {
            Selection::Whole => {
                self.push_content(&mut fields, self.length);
                StatusCode::OK
            }
            Selection::Part(span) => {
                self.push_content(&mut fields, span.end - span.start);
                fields.push_static("Content-Range", self.content_range(span));
                StatusCode::PARTIAL_CONTENT
            }
            Selection::NotModified => StatusCode::NOT_MODIFIED,
            Selection::PreconditionFailed => return (StatusCode::PRECONDITION_FAILED, fields),
            Selection::Unsatisfiable => {
                fields.push_static("Content-Range", format!("bytes */{}", self.length));
                return (StatusCode::RANGE_NOT_SATISFIABLE, fields);
            }
        };
        let modified = httpdate::fmt_http_date(self.validators.modified());
        fields.push_static("Last-Modified", modified);
        if mime::is_compressible(self.content_type) {
            fields.push_static("Vary", "Accept-Encoding");
        }
        fields.push_static("ETag", self.validators.entity_tag.clone());
        push_lifetime(&mut fields, class.lifetime, settings, now);
        if matches!(class.area, Area::Static | Area::Media) {
            fields.push_static("X-Frame-Options", "SAMEORIGIN");
        }
        if status == StatusCode::OK {
            fields.push_static("Accept-Ranges", "bytes");
        }
        (status, fields)
    }

    fn push_content(&self, fields: &mut Fields, length: u64) {
        fields.push_static("Content-Type", self.content_type);
        fields.push_static("Content-Length", length.to_string());
        if let Some(coding) = self.coding {
            fields.push_static("Content-Encoding", coding.as_str());
        }
    }

    fn content_range(&self, span: &Range<u64>) -> String {
        format!("bytes {}-{}/{}", span.start, span.end - 1, self.length)
    }
}

fn push_lifetime(
    fields: &mut Fields,
    lifetime: Lifetime,
    settings: &settings::Files,
    now: SystemTime,
) {
    let (max_age, directive) = match lifetime {
        Lifetime::Unspecified => return,
        Lifetime::NoStore => return fields.push_static("Cache-Control", "no-store"),
        Lifetime::Immutable => (settings.static_max_age, ", immutable"),
        Lifetime::Static => (settings.static_max_age, ""),
        Lifetime::Media => (settings.media_max_age, ""),
    };
    if let Some(expires) = http_date(now, max_age) {
        fields.push_static("Expires", expires);
    }
    let seconds = max_age.as_secs();
    fields.push_static("Cache-Control", format!("public, max-age={seconds}{directive}"));
}

/// The date `after` from now, where an HTTP date can name it.
fn http_date(now: SystemTime, after: Duration) -> Option<String> {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_add(after)?;
    let is_nameable = since_1970.as_secs() <= HTTP_DATE_SECONDS_MAX;
    is_nameable.then(|| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_1970))
}
