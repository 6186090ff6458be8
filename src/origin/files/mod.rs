//! Static and media files from the web root.
//!
//! All work that may block runs on threads of its own, in three groups: one looks whether a page's
//! path is a file, one reads static files, one reads media. A file system that hangs below
//! `media/` costs media files a 504 and nothing else.

mod coding;
mod conditions;
mod content;
mod directory;
mod head;
mod lane;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};

use self::coding::Coding;
use self::conditions::{Conditions, Selection};
use self::content::{Budget, PIECE_BYTES, Source, send_rest};
use self::directory::{Directory, Opened};
use self::head::Representation;
use self::lane::Lane;
use crate::body::{Body, channel};
use crate::clock::Clock;
use crate::fields::Fields;
use crate::origin::web_root::{Area, FileClass, Lifetime, SafePath};
use crate::origin::{OriginRequest, OriginResponse, Provenance, mime};
use crate::reason::Reason;
use crate::settings;

/// Files of one web root.
#[derive(Debug)]
pub struct Files {
    directory: Arc<Directory>,
    pages: Arc<Lane>,
    statics: Arc<Lane>,
    media: Arc<Lane>,
    budget: Budget,
    settings: settings::Files,
    clock: Clock,
    counts: Counts,
}

/// What came of looking for a file.
#[derive(Debug)]
pub enum Served {
    /// There is one; this is the answer, which may also be 304, 405, 412 or 416.
    Response(OriginResponse),
    /// There is none, or none that may be shown.
    Missing,
}

/// Why a file that may be there was not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system took longer than `files.deadline`.
    #[error("the file system did not answer in time")]
    TimedOut,
    /// Too many steps wait for a thread.
    #[error("{queue_max} steps of file work wait already")]
    Busy {
        /// `files.queue_max`
        queue_max: usize,
    },
    /// Slow clients hold all of the memory for files.
    #[error("{memory_max_bytes} bytes of files are on their way already")]
    NoMemory {
        /// `files.memory_max_bytes`
        memory_max_bytes: usize,
    },
    /// The file became another while it was read.
    #[error("the file changed while it was read")]
    Changed,
    /// The file system failed.
    #[error("the file system failed: {source}")]
    Failed {
        /// What the system said.
        source: io::Error,
    },
    /// The threads have ended, or the step did not survive.
    #[error("the step of file work was lost")]
    Stopped,
    /// No threads, at the start.
    #[error("no threads for file work: {source}")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
    /// The root cannot be opened, at the start.
    #[error("{root} cannot be opened as a directory: {source}")]
    Root {
        /// `origin.root`
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy { .. } | Self::NoMemory { .. } | Self::Changed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Failed { .. } | Self::Stopped | Self::Threads { .. } | Self::Root { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The word for header, log and metric.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut => Reason::OriginTimeout,
            Self::Busy { .. } | Self::NoMemory { .. } => Reason::OriginBusy,
            Self::Changed
            | Self::Failed { .. }
            | Self::Stopped
            | Self::Threads { .. }
            | Self::Root { .. } => Reason::OriginLost,
        }
    }
}

/// How often the file system or a bound stood in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Requests for files that ended in 504.
    pub timed_out: u64,
    /// Requests for files that a bound refused.
    pub refused: u64,
    /// Pages that went to PHP without knowing whether a file has their name.
    pub pages_unknown: u64,
}

#[derive(Debug, Default)]
struct Counts {
    timed_out: AtomicU64,
    refused: AtomicU64,
    pages_unknown: AtomicU64,
}

/// A request, as the step on a lane needs it.
struct Wanted {
    path: SafePath,
    method: Method,
    codings: Vec<Coding>,
    conditions: Conditions,
}

/// What that step found.
enum Found {
    Missing,
    MethodNotAllowed,
    File {
        representation: Representation,
        selection: Selection,
        /// The content, with its first piece where there was room for it.
        content: Option<(Source, Option<Bytes>)>,
    },
}

impl Files {
    /// Opens the root once, to see that it can be, and starts the threads. `links` are the
    /// directories outside the root to which its links may lead.
    pub fn new(
        settings: &settings::Files,
        root: PathBuf,
        links: Vec<PathBuf>,
        clock: Clock,
    ) -> Result<Self, FileError> {
        let directory = Directory::new(root.clone(), links);
        directory.check().map_err(|source| FileError::Root { root, source })?;
        let lane = |name, deadline| {
            Lane::start(name, settings.threads, settings.queue_max, deadline).map(Arc::new)
        };
        Ok(Self {
            directory: Arc::new(directory),
            pages: lane("files-pages", settings.page_deadline)?,
            statics: lane("files-static", settings.deadline)?,
            media: lane("files-media", settings.deadline)?,
            budget: Budget::new(settings.memory_max_bytes),
            settings: settings.clone(),
            clock,
            counts: Counts::default(),
        })
    }

    /// Answers from a file.
    pub async fn serve(
        &self,
        request: &OriginRequest,
        path: &SafePath,
        class: FileClass,
    ) -> Result<Served, FileError> {
        let lane = match class.area {
            Area::Media => &self.media,
            Area::Page | Area::Errors | Area::Static => &self.statics,
        };
        let served = match self.find(lane, request, path).await {
            Ok(found) => self.answer(lane, found, class).await,
            Err(error) => Err(error),
        };
        served.inspect_err(|error| self.count(error))
    }

    /// Answers a page from a file of its name. Whatever stands in the way of knowing counts as
    /// [`Served::Missing`], so that PHP makes the page; so does a method that no file answers.
    pub async fn serve_page(
        &self,
        request: &OriginRequest,
        path: &SafePath,
    ) -> Result<Served, FileError> {
        if !is_readable(&request.method) {
            return Ok(Served::Missing);
        }
        let found = match self.find(&self.pages, request, path).await {
            Ok(found) => found,
            Err(error) => {
                self.counts.pages_unknown.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "whether a page is a file is unknown; PHP makes it");
                return Ok(Served::Missing);
            }
        };
        let class = FileClass { area: Area::Page, lifetime: Lifetime::Unspecified };
        // Long reads are not for the threads that pages wait for.
        let served = self.answer(&self.statics, found, class).await;
        served.inspect_err(|error| self.count(error))
    }

    /// How often the file system or a bound stood in the way.
    pub fn counts(&self) -> FileCounts {
        FileCounts {
            timed_out: self.counts.timed_out.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            pages_unknown: self.counts.pages_unknown.load(Ordering::Relaxed),
        }
    }

    /// One step on a lane: open, compare, and read what is small.
    async fn find(
        &self,
        lane: &Lane,
        request: &OriginRequest,
        path: &SafePath,
    ) -> Result<Found, FileError> {
        let precompressed = self.settings.precompressed && is_readable(&request.method);
        let codings = coding::accepted(&request.fields).filter(|_| precompressed);
        let wanted = Wanted {
            path: path.clone(),
            method: request.method.clone(),
            codings: codings.collect(),
            conditions: Conditions::from_request(&request.method, &request.fields),
        };
        let (directory, budget) = (Arc::clone(&self.directory), self.budget.clone());
        lane.run(move || wanted.find(&directory, &budget)).await?
    }

    async fn answer(
        &self,
        lane: &Arc<Lane>,
        found: Found,
        class: FileClass,
    ) -> Result<Served, FileError> {
        let (representation, selection, content) = match found {
            Found::Missing => return Ok(Served::Missing),
            Found::MethodNotAllowed => return Ok(Served::Response(method_not_allowed())),
            Found::File { representation, selection, content } => {
                (representation, selection, content)
            }
        };
        let body = match content {
            Some((source, first)) => self.body(lane, source, first).await?,
            None => Body::empty(),
        };
        let now = self.clock.wall();
        let (status, fields) = representation.head(&selection, class, &self.settings, now);
        Ok(Served::Response(OriginResponse { status, fields, body, provenance: Provenance::Disk }))
    }

    /// The first piece is read before the head leaves, so that a file that cannot be read has a
    /// status that says so.
    async fn body(
        &self,
        lane: &Arc<Lane>,
        source: Source,
        first: Option<Bytes>,
    ) -> Result<Body, FileError> {
        let (source, first) = match first {
            Some(first) => (source, first),
            None => source.next(lane, &self.budget).await?,
        };
        let remaining = source.remaining();
        if remaining == 0 {
            return Ok(Body::from(first));
        }
        let length = remaining + first.len() as u64;
        let (mut sender, body) = channel(PIECE_BYTES, Some(length));
        let (lane, budget) = (Arc::clone(lane), self.budget.clone());
        tokio::spawn(async move {
            if sender.send(first).await.is_ok() {
                send_rest(source, lane, budget, sender).await;
            }
        });
        Ok(body)
    }

    fn count(&self, error: &FileError) {
        let counter = match error {
            FileError::TimedOut => &self.counts.timed_out,
            FileError::Busy { .. } | FileError::NoMemory { .. } => &self.counts.refused,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wanted {
    /// May block.
    fn find(self, directory: &Directory, budget: &Budget) -> Result<Found, FileError> {
        let opened = directory.open(&self.path);
        let Some(opened) = opened.map_err(|source| FileError::Failed { source })? else {
            return Ok(Found::Missing);
        };
        if !is_readable(&self.method) {
            return Ok(Found::MethodNotAllowed);
        }
        let content_type = mime::content_type(self.path.extension());
        let (opened, coding) = if mime::is_compressible(content_type) {
            self.best_neighbour(directory, opened)
        } else {
            (opened, None)
        };
        let representation = Representation::new(content_type, coding, opened.stamp);
        let length = representation.length;
        let selection = self.conditions.select(&representation.validators, length);
        let span = match &selection {
            Selection::Whole => 0..length,
            Selection::Part(span) => span.clone(),
            _ => 0..0,
        };
        if self.method == Method::HEAD || span.is_empty() {
            return Ok(Found::File { representation, selection, content: None });
        }
        let mut source = Source::new(opened, span);
        let bytes = source.first_piece_bytes();
        let room = budget.take_now(bytes);
        let first = room.map(|room| source.read(bytes, room)).transpose()?;
        Ok(Found::File { representation, selection, content: Some((source, first)) })
    }

    /// The neighbour in the best coding. One that is older than the file is left over from
    /// another version of it, and one that cannot be opened is not missed.
    fn best_neighbour(&self, directory: &Directory, opened: Opened) -> (Opened, Option<Coding>) {
        for coding in &self.codings {
            let neighbour = directory.open(&self.path.neighbour(coding.suffix()));
            if let Ok(Some(neighbour)) = neighbour
                && neighbour.stamp.modified_seconds >= opened.stamp.modified_seconds
            {
                return (neighbour, Some(*coding));
            }
        }
        (opened, None)
    }
}

fn is_readable(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn method_not_allowed() -> OriginResponse {
    OriginResponse {
        status: StatusCode::METHOD_NOT_ALLOWED,
        fields: Fields::from([("Allow", "GET, HEAD")]),
        body: Body::empty(),
        provenance: Provenance::Disk,
    }
}
