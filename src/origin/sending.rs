//! A request on its way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use super::connection::Connection;
use super::fastcgi::record;
use super::transfer::{Message, Wrapping};
use crate::body::Body;

/// Bytes that are gathered for one write.
const BLOCK_BYTES: usize = 64 << 10;

/// What is still to be sent of a request.
pub(super) struct Sending {
    /// What is gathered, and how much of it is out.
    block: Vec<u8>,
    written: usize,
    is_gathered: bool,
    /// What is not gathered yet; `None` after its end.
    body: Option<Body>,
    wrapping: Wrapping,
    /// For each write, and the one that is under way.
    wait: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Why the origin did not get the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteFault {
    TimedOut,
    Failed,
}

impl Sending {
    /// All of `message`; each write has to come forward within `wait`.
    pub(super) fn new(message: Message, wait: Duration) -> Self {
        Self {
            block: message.head.to_vec(),
            written: 0,
            is_gathered: false,
            body: Some(Body::from(message.body)),
            wrapping: message.wrapping,
            wait,
            pause: None,
        }
    }

    /// Sends as much as the origin takes; ready when all is out, or will never be.
    pub(super) fn poll(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFault>> {
        loop {
            if !self.is_gathered {
                ready!(self.poll_gather(context))?;
                self.is_gathered = true;
                self.written = connection.send_now(&self.block);
            }
            ready!(self.poll_write(connection, context))?;
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            self.block.clear();
            self.is_gathered = false;
        }
    }

    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        while let Some(body) = &mut self.body {
            match ready!(body.poll_next(context)) {
                Some(Ok(piece)) => match self.wrapping {
                    Wrapping::Plain => self.block.extend_from_slice(&piece),
                    Wrapping::Stdin => record::write_stdin(&mut self.block, &piece),
                },
                Some(Err(_)) => return Poll::Ready(Err(WriteFault::Failed)),
                None => {
                    if self.wrapping == Wrapping::Stdin {
                        record::write_stdin_end(&mut self.block);
                    }
                    self.body = None;
                }
            }
            if self.block.len() >= BLOCK_BYTES {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFault>> {
        while self.written < self.block.len() {
            match Pin::new(&mut *connection).poll_write(context, &self.block[self.written..]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.written += count;
                    self.pause = None;
                }
                Poll::Ready(_) => return Poll::Ready(Err(WriteFault::Failed)),
                Poll::Pending => {
                    let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(self.wait)));
                    ready!(pause.as_mut().poll(context));
                    return Poll::Ready(Err(WriteFault::TimedOut));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
