//! Joining a response while it is streamed.

use std::time::Duration;

use super::{Event, Limits, Parser};
use crate::body::{Body, BodyError, BodySender, Closed, channel};
use crate::settings;
use crate::store::Include;

/// Bounds of a streamed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of its tags.
    pub parse: Limits,
    /// For one fragment, content included; beyond it the page goes on without.
    pub fragment_timeout: Duration,
    /// Bytes of one fragment; a larger one is left out.
    pub fragment_max_bytes: u64,
    /// Bytes that may wait for the client.
    pub buffer_max_bytes: usize,
}

impl From<&settings::Settings> for StreamLimits {
    fn from(settings: &settings::Settings) -> Self {
        Self {
            parse: Limits::from(&settings.esi),
            fragment_timeout: settings.esi.timeout,
            fragment_max_bytes: settings.store.object_max_bytes,
            buffer_max_bytes: settings.encoding.buffer_max_bytes,
        }
    }
}

/// Joins a response as it arrives: what lies before an include leaves at once, then `fetch` is
/// asked for the fragment. A fragment that fails (`None`, an error, too slow, too large) leaves
/// nothing behind, for it is taken in whole before its first byte leaves; the page goes on. An
/// error of the page itself passes through. Nothing more is read or fetched once the client has
/// gone.
///
/// Needs a tokio runtime: the work is done by a task of its own.
pub fn stream<F, R>(body: Body, limits: StreamLimits, fetch: F) -> Body
where
    F: FnMut(Include) -> R + Send + 'static,
    R: Future<Output = Option<Body>> + Send + 'static,
{
    let (sender, joined) = channel(limits.buffer_max_bytes, None);
    tokio::spawn(run(body, limits, fetch, sender));
    joined
}

async fn run<F, R>(mut body: Body, limits: StreamLimits, mut fetch: F, mut sender: BodySender)
where
    F: FnMut(Include) -> R,
    R: Future<Output = Option<Body>>,
{
    let mut parser = Parser::new(limits.parse);
    let mut events = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = sender.closed() => return,
        };
        let ended = match piece {
            Some(Ok(piece)) => {
                parser.feed(&piece, &mut events);
                false
            }
            Some(Err(error)) => return sender.abort(error),
            None => {
                parser.end(&mut events);
                true
            }
        };
        for event in events.drain(..) {
            if send(event, limits, &mut fetch, &mut sender).await.is_err() {
                return;
            }
        }
        if ended {
            if parser.includes_dropped() > 0 {
                let dropped = parser.includes_dropped();
                tracing::warn!(dropped, "a page has more ESI includes than esi.includes_max");
            }
            return sender.finish();
        }
    }
}

async fn send<F, R>(
    event: Event,
    limits: StreamLimits,
    fetch: &mut F,
    sender: &mut BodySender,
) -> Result<(), Closed>
where
    F: FnMut(Include) -> R,
    R: Future<Output = Option<Body>>,
{
    let include = match event {
        Event::Literal(bytes) => return sender.send(bytes).await,
        Event::Include(include) => include,
    };
    let fragment = take_in(fetch(include), limits.fragment_max_bytes);
    let fragment = tokio::select! {
        fragment = tokio::time::timeout(limits.fragment_timeout, fragment) => fragment,
        () = sender.closed() => return Err(Closed),
    };
    let Ok(Some(Ok(mut fragment))) = fragment else {
        // What failed and why is known, and logged, by whoever fetched.
        tracing::debug!("a page goes on without one of its fragments");
        return Ok(());
    };
    while let Some(Ok(piece)) = fragment.next().await {
        sender.send(piece).await?;
    }
    Ok(())
}

/// The fragment in whole, in memory.
async fn take_in(
    fragment: impl Future<Output = Option<Body>>,
    max_bytes: u64,
) -> Option<Result<Body, BodyError>> {
    let fragment = fragment.await?;
    if fragment.ready_parts().is_some() && fragment.len().is_some_and(|bytes| bytes <= max_bytes) {
        return Some(Ok(fragment));
    }
    Some(fragment.collect(max_bytes).await.map(Body::from))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        parse: Limits { includes_max: 4, tag_max_bytes: 200 },
        fragment_timeout: Duration::from_millis(50),
        fragment_max_bytes: 100,
        buffer_max_bytes: 64,
    };

    async fn text(body: Body) -> Result<String, BodyError> {
        let bytes = body.collect(10_000).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `fetch` answers, by source.
    fn fragment(include: &Include) -> Option<Body> {
        match &include.source[..] {
            b"/parts" => Some(Body::parts(vec![Bytes::from("M"), Bytes::from("N")])),
            b"/large" => Some(Body::from(Bytes::from(vec![b'x'; 101]))),
            b"/broken" => {
                let (_, body) = channel(10, None);
                Some(body)
            }
            b"/arriving" => {
                let (mut sender, body) = channel(10, None);
                tokio::spawn(async move {
                    sender.send(Bytes::from("ar")).await.expect("open");
                    sender.send(Bytes::from("rived")).await.expect("open");
                    sender.finish();
                });
                Some(body)
            }
            _ => None,
        }
    }

    #[tokio::test]
    async fn fragments_stand_where_their_includes_stood_and_failing_ones_leave_nothing() {
        let page = "a<esi:include src='/parts'/>b<esi:include src='/large'/>c\
                    <esi:include src='/broken'/>d<esi:include src='/arriving'/>e";
        let pieces: Vec<Bytes> = page.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let joined = stream(Body::parts(pieces), LIMITS, |include| ready(fragment(&include)));
        assert_eq!(joined.len(), None);
        assert_eq!(text(joined).await.as_deref(), Ok("aMNbcdarrivede"));
    }

    #[tokio::test]
    async fn a_slow_fragment_is_left_out_after_its_time_and_what_is_before_it_leaves_at_once() {
        let page = Bytes::from("before<esi:include src='/slow'/>after");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut joined = stream(Body::from(page), LIMITS, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            pending()
        });
        assert_eq!(joined.next().await, Some(Ok(Bytes::from("before"))));
        let after = tokio::time::timeout(LIMITS.fragment_timeout * 20, joined.next()).await;
        assert_eq!(after, Ok(Some(Ok(Bytes::from("after")))));
        assert_eq!(joined.next().await, None);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_truncated_page_reaches_the_client_as_truncated() {
        let (mut sender, body) = channel(100, None);
        let joined = stream(body, LIMITS, |_| ready(None));
        sender.send(Bytes::from("a<esi:inc")).await.expect("open");
        drop(sender);
        assert_eq!(text(joined).await, Err(BodyError::Truncated));
    }

    #[tokio::test]
    async fn nothing_is_read_or_fetched_for_a_client_that_has_gone() {
        let (mut sender, body) = channel(1, None);
        let joined = stream(body, LIMITS, |_| pending());
        sender.send(Bytes::from("<esi:include src='/slow'/>")).await.expect("open");
        drop(joined);
        sender.closed().await;
        assert!(sender.is_closed());
    }
}
