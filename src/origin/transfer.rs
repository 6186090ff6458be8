//! One exchange on one connection: the request goes out while the reply comes in.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::OriginError;
use super::connection::Connection;
use super::decoder::{Decoder, Fault, Step};
use super::fastcgi::record;
use super::gate::Place;
use super::head::ResponseHead;
use super::pool::Pool;
use crate::body::{Body, BodyError, BodySender, Spooled};
use crate::exchange::{Interim, Tunnel};
use crate::fields::Fields;

/// Bytes that one read or write asks for.
const BLOCK_BYTES: usize = 64 << 10;

/// A request, ready to be sent as often as it takes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// All that comes before the content.
    pub head: Bytes,
    /// The content.
    pub body: Spooled,
    /// How the content is framed.
    pub wrapping: Wrapping,
    /// May it be sent again when it is not known what became of it?
    pub repeatable: bool,
    /// Where interim responses go.
    pub interim: Interim,
}

/// How a request's content is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// As it is; the head says its length.
    Plain,
    /// In STDIN records, an empty one at the end.
    Stdin,
}

/// The waits of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// For the head of the reply, from the beginning of the exchange.
    pub first_byte: Duration,
    /// For each read and write.
    pub between_bytes: Duration,
}

/// An exchange that has begun.
pub(super) struct Exchange {
    reader: ReadHalf<Connection>,
    writing: Writing,
    input: BytesMut,
    decoder: Decoder,
    waits: Waits,
    interim: Interim,
    answered: bool,
}

type WriteResult = Result<WriteHalf<Connection>, WriteFault>;

enum Writing {
    Active(Pin<Box<dyn Future<Output = WriteResult> + Send>>),
    Sent(WriteHalf<Connection>),
    /// The origin did not take it all; what it answers may still be good.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteFault {
    TimedOut,
    Failed,
}

/// How relaying the content ended.
enum Relayed {
    Whole { reusable: bool, trailers: Fields },
    Broken(BodyError),
    Unwanted,
}

impl Exchange {
    /// Begins an exchange.
    pub(super) fn new(
        connection: Connection,
        message: Message,
        decoder: Decoder,
        waits: Waits,
    ) -> Self {
        let (reader, writer) = tokio::io::split(connection);
        let interim = message.interim.clone();
        let writing = Box::pin(write_message(writer, message, waits.between_bytes));
        Self {
            reader,
            writing: Writing::Active(writing),
            input: BytesMut::new(),
            decoder,
            waits,
            interim,
            answered: false,
        }
    }

    /// Did a byte come back?
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Reads up to the end of the reply's head. `busy` makes the error for an application that
    /// says it is overloaded.
    pub(super) async fn head(
        &mut self,
        busy: impl Fn() -> OriginError,
    ) -> Result<ResponseHead, OriginError> {
        let wait = self.waits.first_byte;
        let head = async {
            loop {
                let step = match self.decoder.next(&mut self.input) {
                    Ok(Step::More) => self.read().await?,
                    step => step,
                };
                match step {
                    Ok(Step::More) => {}
                    Ok(Step::Head(head)) => return Ok(head),
                    Ok(Step::Interim { status, fields }) => self.interim.send(status, &fields),
                    Ok(Step::Content(_) | Step::Trailers(_) | Step::End { .. }) => {
                        return Err(OriginError::Malformed { what: "the reply has no head" });
                    }
                    Err(Fault::Malformed(what)) => return Err(OriginError::Malformed { what }),
                    Err(Fault::Overloaded) => return Err(busy()),
                    Err(Fault::Cut) => {
                        return Err(OriginError::Lost { source: closed_early() });
                    }
                }
            }
        };
        match timeout(wait, head).await {
            Ok(result) => result,
            Err(_) => Err(OriginError::TimedOut { stage: "waiting for the first byte" }),
        }
    }

    /// Moves the content to `sender` until its end, then gives the connection back.
    ///
    /// When nobody reads any more the connection is closed, which is how the origin learns of it;
    /// but a reply that only lacks its end is read to there, so that the worker's place stays
    /// taken while the worker works.
    pub(super) async fn relay(
        mut self,
        mut sender: BodySender,
        place: Place,
        pool: std::sync::Arc<Pool>,
    ) {
        match self.relay_content(&mut sender).await {
            Relayed::Whole { reusable, trailers } => {
                if reusable {
                    self.give_back(&pool);
                }
                drop(place);
                sender.finish_with(trailers);
            }
            Relayed::Broken(error) => {
                drop((self, place));
                sender.abort(error);
            }
            Relayed::Unwanted => {}
        }
    }

    async fn relay_content(&mut self, sender: &mut BodySender) -> Relayed {
        let mut trailers = Fields::new();
        loop {
            match self.next_step(sender).await {
                Ok(Step::More | Step::Head(_) | Step::Interim { .. }) => {}
                Ok(Step::Trailers(fields)) => trailers = fields,
                Ok(Step::End { reusable }) => return Relayed::Whole { reusable, trailers },
                Ok(Step::Content(piece)) => {
                    if sender.send(piece).await.is_err() {
                        return Relayed::Unwanted;
                    }
                }
                Err(Interrupted::NobodyReads) if self.decoder.content_is_whole() => {
                    return self.drain().await;
                }
                Err(Interrupted::NobodyReads) => return Relayed::Unwanted,
                Err(Interrupted::Broken(error)) => return Relayed::Broken(error),
            }
        }
    }

    async fn next_step(&mut self, sender: &mut BodySender) -> Result<Step, Interrupted> {
        match self.decoder.next(&mut self.input) {
            Ok(Step::More) => {}
            step => return Ok(step?),
        }
        let wait = self.waits.between_bytes;
        tokio::select! {
            biased;
            read = timeout(wait, self.read()) => match read {
                Ok(Ok(step)) => Ok(step?),
                Ok(Err(_)) => Err(Interrupted::Broken(BodyError::Truncated)),
                Err(_) => Err(Interrupted::Broken(BodyError::TimedOut)),
            },
            () = sender.closed() => Err(Interrupted::NobodyReads),
        }
    }

    /// Reads to the end of a reply whose content is out already.
    async fn drain(&mut self) -> Relayed {
        let wait = self.waits.between_bytes;
        let end = async {
            loop {
                let step = match self.decoder.next(&mut self.input) {
                    Ok(Step::More) => self.read().await.ok()?,
                    step => step,
                };
                match step {
                    Ok(Step::End { reusable }) => return Some(reusable),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        match timeout(wait, end).await {
            Ok(Some(reusable)) => Relayed::Whole { reusable, trailers: Fields::new() },
            Ok(None) | Err(_) => Relayed::Unwanted,
        }
    }

    /// Reads once, or says what the connection's end makes of the reply; writes on meanwhile.
    async fn read(&mut self) -> Result<Result<Step, Fault>, OriginError> {
        self.input.reserve(BLOCK_BYTES / 4);
        loop {
            tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.input) => {
                    return match read {
                        Ok(0) => Ok(self.decoder.end_of_input()),
                        Ok(_) => {
                            self.answered = true;
                            Ok(Ok(Step::More))
                        }
                        Err(source) => Err(OriginError::Lost { source }),
                    };
                }
                written = self.writing.progress(), if self.writing.is_active() => {
                    match written {
                        Ok(writer) => self.writing = Writing::Sent(writer),
                        Err(WriteFault::TimedOut) if !self.answered => {
                            return Err(OriginError::TimedOut { stage: "sending the request" });
                        }
                        Err(_) => self.writing = Writing::Failed,
                    }
                }
            }
        }
    }

    /// The connection after a 101, once the request is out. `None`: it was lost meanwhile.
    pub(super) async fn into_tunnel(mut self, protocol: Bytes) -> Option<Tunnel> {
        let writer = match self.writing {
            Writing::Active(writing) => {
                timeout(self.waits.between_bytes, writing).await.ok()?.ok()?
            }
            Writing::Sent(writer) => writer,
            Writing::Failed => return None,
        };
        let ahead = self.input.split().freeze();
        Some(Tunnel { io: Box::new(self.reader.unsplit(writer)), ahead, protocol })
    }

    /// Gives the connection back, unless the request is not out in whole.
    fn give_back(self, pool: &std::sync::Arc<Pool>) {
        if let Writing::Sent(writer) = self.writing
            && self.input.is_empty()
        {
            pool.put(self.reader.unsplit(writer));
        }
    }
}

enum Interrupted {
    NobodyReads,
    Broken(BodyError),
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self::Broken(match fault {
            Fault::Malformed(_) => BodyError::Malformed,
            Fault::Cut | Fault::Overloaded => BodyError::Truncated,
        })
    }
}

impl Writing {
    fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }

    async fn progress(&mut self) -> WriteResult {
        match self {
            Self::Active(writing) => writing.await,
            Self::Sent(_) | Self::Failed => std::future::pending().await,
        }
    }
}

fn closed_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the end of the head")
}

async fn write_message(
    mut writer: WriteHalf<Connection>,
    message: Message,
    wait: Duration,
) -> WriteResult {
    let mut out = message.head.to_vec();
    let mut body = Body::from(message.body);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| WriteFault::Failed)?;
        match message.wrapping {
            Wrapping::Plain => out.extend_from_slice(&piece),
            Wrapping::Stdin => record::write_stdin(&mut out, &piece),
        }
        if out.len() >= BLOCK_BYTES {
            write(&mut writer, &out, wait).await?;
            out.clear();
        }
    }
    if message.wrapping == Wrapping::Stdin {
        record::write_stdin_end(&mut out);
    }
    write(&mut writer, &out, wait).await?;
    Ok(writer)
}

/// Writes all of `bytes`; each write on its own has to come forward within `wait`.
async fn write(
    writer: &mut WriteHalf<Connection>,
    mut bytes: &[u8],
    wait: Duration,
) -> Result<(), WriteFault> {
    while !bytes.is_empty() {
        match timeout(wait, writer.write(bytes)).await {
            Ok(Ok(0) | Err(_)) => return Err(WriteFault::Failed),
            Ok(Ok(written)) => bytes = &bytes[written..],
            Err(_) => return Err(WriteFault::TimedOut),
        }
    }
    Ok(())
}
