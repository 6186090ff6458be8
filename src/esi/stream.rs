//! Joining a response while it is streamed.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Event, InOrder, Limits, Mistakes, Parser};
use crate::body::{Body, BodyError, BodySender, Closed, channel, produce};
use crate::fields::Fields;
use crate::settings;
use crate::store::Include;

/// A fragment failed, and its page with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fragment failed that the page does not do without")]
pub struct FragmentFailed;

/// Who is told of a streamed response besides its reader.
pub struct Listeners<N> {
    /// Told in the end what was wrong in the page.
    pub mistakes: N,
    /// Told once whether content leaves (true), or a fragment failed before any did (false); not
    /// told where the page itself broke before.
    pub begins: Option<oneshot::Sender<bool>>,
}

/// Bounds of a streamed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of its tags.
    pub parse: Limits,
    /// Fragments that are fetched at the same time.
    pub concurrency_max: usize,
    /// Bytes that may wait for the client, and bytes of the page that may wait for a fragment.
    pub buffer_max_bytes: usize,
}

impl From<&settings::Settings> for StreamLimits {
    fn from(settings: &settings::Settings) -> Self {
        Self {
            parse: Limits::from(&settings.esi),
            concurrency_max: settings.esi.concurrency_max,
            buffer_max_bytes: settings.encoding.buffer_max_bytes,
        }
    }
}

/// Joins a response as it arrives: what lies before an include leaves at once, and `fetch` is asked
/// for each fragment, for several at the same time, while the page is read on. What `fetch` gives is
/// to be in memory, its time bounded and its failure decided by the caller: on [`FragmentFailed`] the
/// content is broken off. An error of the page itself passes through. Nothing more is read or fetched
/// once the client has gone.
///
/// Needs a tokio runtime: the work is done by tasks of its own.
pub fn stream<F, R, N>(body: Body, limits: StreamLimits, fetch: F, listeners: Listeners<N>) -> Body
where
    F: FnMut(Include) -> R + Send + 'static,
    R: Future<Output = Result<Body, FragmentFailed>> + Send + 'static,
    N: FnOnce(Mistakes) + Send + 'static,
{
    let (sender, joined) = channel(limits.buffer_max_bytes, None);
    let joining = Joining {
        page: Some(body),
        trailers: Fields::new(),
        parser: Parser::new(limits.parse),
        fetch,
        fetches: InOrder::new(limits.concurrency_max),
        pieces: VecDeque::new(),
        waiting_bytes: 0,
        waiting_bytes_max: limits.buffer_max_bytes,
        begins: listeners.begins,
        sender,
    };
    produce(joining.run(listeners.mistakes));
    joined
}

/// Content as it leaves, where it is in memory in whole and names no fragment, and what was wrong in
/// it. `None`: it is to be streamed.
pub fn at_once(body: &Body, limits: Limits) -> Option<(Body, Mistakes)> {
    let mut parser = Parser::new(limits);
    let mut events = Vec::new();
    for piece in body.ready_parts()? {
        parser.feed(piece, &mut events);
    }
    parser.end(&mut events);
    if events.iter().any(|event| matches!(event, Event::Include(_))) {
        return None;
    }
    let literals = events.into_iter().filter_map(|event| match event {
        Event::Literal(bytes) => Some(bytes),
        Event::Include(_) => None,
    });
    Some((Body::of_pieces(literals), parser.mistakes()))
}

/// What leaves next.
enum Piece {
    Literal(Bytes),
    /// The next of the fetches.
    Fragment,
}

struct Joining<F> {
    /// What is still to be read.
    page: Option<Body>,
    /// What follows its content; those of fragments are dropped.
    trailers: Fields,
    parser: Parser,
    fetch: F,
    fetches: InOrder<Result<Body, FragmentFailed>>,
    pieces: VecDeque<Piece>,
    /// Bytes of the literals among them.
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    begins: Option<oneshot::Sender<bool>>,
    sender: BodySender,
}

/// Why joining ended early.
enum Stopped {
    Gone,
    Broken(BodyError),
}

impl From<Closed> for Stopped {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

impl<F, R> Joining<F>
where
    F: FnMut(Include) -> R,
    R: Future<Output = Result<Body, FragmentFailed>> + Send + 'static,
{
    async fn run(mut self, note: impl FnOnce(Mistakes)) {
        let end = self.join().await;
        note(self.parser.mistakes());
        match end {
            Ok(()) => self.sender.finish_with(self.trailers),
            Err(Stopped::Gone) => {}
            Err(Stopped::Broken(error)) => self.sender.abort(error),
        }
    }

    async fn join(&mut self) -> Result<(), Stopped> {
        loop {
            match self.pieces.pop_front() {
                Some(Piece::Literal(bytes)) => {
                    self.waiting_bytes -= bytes.len();
                    self.send(bytes).await?;
                }
                Some(Piece::Fragment) => {
                    let mut fragment = self.fragment().await?;
                    while let Some(piece) = fragment.next().await {
                        self.send(piece.map_err(Stopped::Broken)?).await?;
                    }
                }
                None if self.page.is_none() => {
                    self.tell(true);
                    return Ok(());
                }
                None => {
                    let piece = tokio::select! {
                        piece = next(&mut self.page) => piece,
                        () = self.sender.closed() => return Err(Stopped::Gone),
                    };
                    self.take(piece)?;
                }
            }
        }
    }

    /// Waits for the fragment whose turn it is; meanwhile the page is read on, to find further ones.
    async fn fragment(&mut self) -> Result<Body, Stopped> {
        loop {
            let reads_on = self.page.is_some() && self.waiting_bytes < self.waiting_bytes_max;
            let piece = tokio::select! {
                fragment = self.fetches.next() => {
                    if let Some(Ok(fragment)) = fragment {
                        return Ok(fragment);
                    }
                    self.tell(false);
                    return Err(Stopped::Broken(BodyError::Truncated));
                }
                piece = next(&mut self.page), if reads_on => piece,
                () = self.sender.closed() => return Err(Stopped::Gone),
            };
            self.take(piece)?;
        }
    }

    /// Looks through a piece of the page.
    fn take(&mut self, piece: Option<Result<Bytes, BodyError>>) -> Result<(), Stopped> {
        let mut events = Vec::new();
        match piece {
            Some(Ok(piece)) => self.parser.feed(&piece, &mut events),
            Some(Err(error)) => return Err(Stopped::Broken(error)),
            None => {
                if let Some(mut page) = self.page.take() {
                    self.trailers = page.take_trailers_for_other_bytes();
                }
                self.parser.end(&mut events);
            }
        }
        for event in events {
            self.pieces.push_back(match event {
                Event::Literal(bytes) => {
                    self.waiting_bytes += bytes.len();
                    Piece::Literal(bytes)
                }
                Event::Include(include) => {
                    self.fetches.push((self.fetch)(include));
                    Piece::Fragment
                }
            });
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), Closed> {
        self.tell(true);
        self.sender.send(piece).await
    }

    fn tell(&mut self, leaves: bool) {
        if let Some(begins) = self.begins.take() {
            // Whoever asked may have gone.
            let _ = begins.send(leaves);
        }
    }
}

async fn next(page: &mut Option<Body>) -> Option<Result<Bytes, BodyError>> {
    match page {
        Some(page) => page.next().await,
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        parse: Limits { includes_max: 4, tag_max_bytes: 200, remove_max_bytes: 100 },
        concurrency_max: 2,
        buffer_max_bytes: 64,
    };

    async fn text(body: Body) -> Result<String, BodyError> {
        let bytes = body.collect(10_000).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `fetch` answers, by source.
    async fn fragment(include: Include) -> Result<Body, FragmentFailed> {
        match &include.source[..] {
            b"/parts" => Ok(Body::parts(vec![Bytes::from("M"), Bytes::from("N")])),
            b"/failing" => Err(FragmentFailed),
            b"/slow" => pending().await,
            _ => Ok(Body::empty()),
        }
    }

    fn nothing() -> Listeners<fn(Mistakes)> {
        Listeners { mistakes: |_| (), begins: None }
    }

    #[tokio::test]
    async fn fragments_stand_where_their_includes_stood() {
        let page = "a<esi:include src='/parts'/>b<esi:include src='/none'/>c\
                    <esi:include src='/parts'/>d<esi:include src='/parts'/>e";
        let pieces: Vec<Bytes> = page.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let joined = stream(Body::parts(pieces), LIMITS, fragment, nothing());
        assert_eq!(joined.len(), None);
        assert_eq!(text(joined).await.as_deref(), Ok("aMNbcMNdMNe"));
    }

    #[tokio::test]
    async fn content_without_fragments_that_is_there_in_whole_leaves_at_once() {
        let limits = LIMITS.parse;
        let pieces = vec![Bytes::from("a<es"), Bytes::from("i:vars>b<!--esi c-->d")];
        let (body, mistakes) = at_once(&Body::parts(pieces), limits).expect("it is there");
        assert_eq!((body.len(), mistakes.count), (Some(5), 1));
        assert_eq!(text(body).await.as_deref(), Ok("ab cd"));
        let include = Body::from(Bytes::from("a<esi:include src='/parts'/>"));
        assert!(at_once(&include, limits).is_none(), "a fragment is to be fetched");
        let (_sender, arriving) = channel(1, Some(1));
        assert!(at_once(&arriving, limits).is_none(), "it is still arriving");
    }

    #[tokio::test]
    async fn what_is_before_a_slow_fragment_leaves_at_once_and_those_behind_it_are_fetched() {
        let (mut sender, body) = channel(100, None);
        let (asked, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, gate) = (Arc::clone(&asked), Arc::clone(&released));
        let mut joined = stream(
            body,
            LIMITS,
            move |include| {
                let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
                async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    drop(gate.acquire().await);
                    Ok(Body::from(include.source))
                }
            },
            nothing(),
        );
        sender.send(Bytes::from("before<esi:include src='/a'/>")).await.expect("open");
        assert_eq!(joined.next().await, Some(Ok(Bytes::from("before"))));
        sender.send(Bytes::from("<esi:include src='/b'/>")).await.expect("open");
        sender.send(Bytes::from("<esi:include src='/c'/>after")).await.expect("open");
        sender.finish();
        while asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2, "no more at once than the bound");
        released.add_permits(1);
        assert_eq!(text(joined).await.as_deref(), Ok("/a/b/cafter"));
    }

    #[tokio::test]
    async fn the_page_is_broken_off_at_a_fragment_it_does_not_do_without() {
        let page = Bytes::from("before<esi:include src='/failing'/>after");
        let mut joined = stream(Body::from(page), LIMITS, fragment, nothing());
        assert_eq!(joined.next().await, Some(Ok(Bytes::from("before"))));
        assert_eq!(joined.next().await, Some(Err(BodyError::Truncated)));
    }

    #[tokio::test]
    async fn a_page_that_waits_for_a_fragment_is_read_no_further_than_the_bound() {
        let (mut sender, body) = channel(1, None);
        let mut joined = stream(body, LIMITS, fragment, nothing());
        sender.send(Bytes::from("<esi:include src='/slow'/>")).await.expect("open");
        let feed = async {
            let mut sent = 0;
            loop {
                sender.send(Bytes::from(vec![b'x'; 16])).await.expect("open");
                sent += 1;
                assert!(sent <= 6, "the page is read without end");
            }
        };
        let stalled = tokio::time::timeout(std::time::Duration::from_millis(50), feed).await;
        assert!(stalled.is_err());
        let waiting = std::future::poll_fn(|context| {
            std::task::Poll::Ready(joined.poll_next(context).is_pending())
        });
        assert!(waiting.await);
    }

    #[tokio::test]
    async fn it_is_told_whether_a_fragment_failed_before_anything_left() {
        for (page, expected) in [
            ("before<esi:include src='/failing'/>", Some(true)),
            ("<esi:include src='/none'/><esi:include src='/parts'/>", Some(true)),
            ("<esi:include src='/none'/>", Some(true)),
            ("<esi:include src='/none'/><esi:include src='/failing'/>", Some(false)),
        ] {
            let (told, begins) = oneshot::channel();
            let listeners = Listeners { begins: Some(told), ..nothing() };
            drop(text(stream(Body::from(Bytes::from(page)), LIMITS, fragment, listeners)).await);
            assert_eq!(begins.await.ok(), expected, "{page}");
        }
        let (told, begins) = oneshot::channel();
        let (_, broken) = channel(1, None);
        let listeners = Listeners { begins: Some(told), ..nothing() };
        drop(text(stream(broken, LIMITS, fragment, listeners)).await);
        assert!(begins.await.is_err(), "the page itself broke");
    }

    #[tokio::test]
    async fn what_was_wrong_is_told_in_the_end() {
        let (told, mistakes) = tokio::sync::oneshot::channel();
        let page = Bytes::from("<esi:include/><esi:vars>");
        let listeners =
            Listeners { mistakes: |mistakes| told.send(mistakes).expect("open"), begins: None };
        let joined = stream(Body::from(page), LIMITS, fragment, listeners);
        assert_eq!(text(joined).await.as_deref(), Ok(""));
        assert_eq!(mistakes.await.expect("told").count, 2);
    }

    #[tokio::test]
    async fn a_truncated_page_reaches_the_client_as_truncated() {
        let (mut sender, body) = channel(100, None);
        let joined = stream(body, LIMITS, fragment, nothing());
        sender.send(Bytes::from("a<esi:inc")).await.expect("open");
        drop(sender);
        assert_eq!(text(joined).await, Err(BodyError::Truncated));
    }

    #[tokio::test]
    async fn nothing_is_read_or_fetched_for_a_client_that_has_gone() {
        let (mut sender, body) = channel(1, None);
        let joined = stream(body, LIMITS, fragment, nothing());
        sender.send(Bytes::from("<esi:include src='/slow'/>")).await.expect("open");
        drop(joined);
        sender.closed().await;
        assert!(sender.is_closed());
    }
}
