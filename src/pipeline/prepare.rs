//! What the origin sent, made ready for storing.

use bytes::Bytes;

use super::answer::takes_esi;
use super::visit::Visit;
use crate::delivery::{self, Coding, DecodeLimits};
use crate::esi;
use crate::exchange::StoredHead;
use crate::fill::SharedHead;
use crate::origin::OriginResponse;
use crate::settings::{PolicyKind, Settings};
use crate::store::StoredBody;

/// What the origin sent, after the attempt to take off its coding.
pub(super) enum Decoded {
    /// In identity, or in the coding in which it is to be stored.
    Ready(OriginResponse),
    /// Untouched: its content is not coded as it says. It is for one client alone.
    Undecodable(OriginResponse),
}

/// Takes off the origin's coding before a response is stored: by the Magento policy pages are
/// searched for includes and compressed by us. By the generic one what comes coded is stored as it
/// came, unless it is to be searched.
pub(super) async fn decoded(visit: &Visit, response: OriginResponse) -> Decoded {
    let settings = &visit.rules.settings;
    let stays = settings.site.policy == PolicyKind::Generic
        && !takes_esi(visit, response.status, &response.fields);
    if stays {
        return Decoded::Ready(response);
    }
    take_off_coding(response, DecodeLimits::of(settings)).await
}

/// Takes off the origin's coding of what is searched for includes on its way to one client. It
/// may be of any size there, for nothing of it is kept.
pub(super) async fn decoded_for_one(visit: &Visit, response: OriginResponse) -> Decoded {
    let limits = DecodeLimits::of(&visit.rules.settings);
    take_off_coding(response, DecodeLimits { bytes_max: u64::MAX, ..limits }).await
}

async fn take_off_coding(mut response: OriginResponse, limits: DecodeLimits) -> Decoded {
    let coding = delivery::content_coding(&response.fields);
    if coding == Coding::Identity {
        // `identity` has no place in this field (RFC 9110 8.4.1).
        response.fields.remove("Content-Encoding");
        return Decoded::Ready(response);
    }
    let OriginResponse { status, mut fields, body, provenance } = response;
    match delivery::decode(body, coding, limits).await {
        delivery::Decoded::Identity(body) => {
            delivery::forget_coding(&mut fields);
            Decoded::Ready(OriginResponse { status, fields, body, provenance })
        }
        delivery::Decoded::Coded(body) => {
            tracing::warn!("a response is not coded as it says; it is passed on and not stored");
            Decoded::Undecodable(OriginResponse { status, fields, body, provenance })
        }
    }
}

/// Content up to this size that is not compressed is made ready on the spot: to look through it
/// takes less than to change threads.
const PREPARED_INLINE_MAX_BYTES: usize = 16 << 10;

/// Head and content as they are stored. Compressing a page takes milliseconds, which belong to
/// none of the threads that serve requests.
pub(super) async fn prepared(
    settings: &Settings,
    head: &SharedHead,
    content: Bytes,
) -> Option<(StoredHead, StoredBody)> {
    let mut fields = head.fields.clone();
    let encoding = &settings.encoding;
    let compressible = delivery::compressible(head.status, &fields);
    let gzip_level = (compressible && encoding.gzip).then_some(encoding.gzip_level);
    let brotli_level = (compressible && encoding.brotli).then_some(encoding.brotli_level);
    let zstd_level = (compressible && encoding.zstd).then_some(encoding.zstd_level);
    let min_bytes = encoding.min_bytes;
    let (takes_esi, limits) = (head.takes_esi, esi::Limits::from(&settings.esi));
    let is_cheap = gzip_level.is_none() && brotli_level.is_none() && zstd_level.is_none();
    let is_cheap = is_cheap && content.len() <= PREPARED_INLINE_MAX_BYTES;
    let prepare = move || {
        let mut body = if takes_esi {
            esi::split(&content, limits, gzip_level, min_bytes).body
        } else {
            esi::whole(&content, gzip_level, min_bytes)
        };
        if let Some(level) = brotli_level {
            body.add_brotli(level, min_bytes);
        }
        if let Some(level) = zstd_level {
            body.add_zstd(level, min_bytes);
        }
        delivery::prepare(&mut fields, &body);
        (StoredHead::new(fields), body)
    };
    if is_cheap {
        // The next request may come at once: it finds the response stored.
        return Some(prepare());
    }
    tokio::task::spawn_blocking(prepare).await.ok()
}
