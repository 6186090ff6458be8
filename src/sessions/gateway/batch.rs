//! Commands of one client that go over a shared connection together.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::error::BackendError;
use super::line::Failure;
use super::locking::Wrote;
use super::trunks::{is_lost, is_to_come_again};
use crate::resp::{RawReply, ReplyKind, Request};

/// A command, or a whole transaction, on its way.
pub(super) struct Queued {
    raw: Bytes,
    replies: usize,
    /// It changes nothing, so that it may be sent again.
    reads: bool,
    note: Note,
    failed: Option<BackendError>,
}

/// What its reply means beside being passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Note {
    #[default]
    Nothing,
    /// It says who the server is.
    Who,
    /// It acknowledges writes that concern locks.
    Wrote(Vec<Wrote>),
}

/// They, in order.
#[derive(Default)]
pub(super) struct Batch {
    queued: VecDeque<Queued>,
    replies: usize,
    bytes: usize,
}

/// What is to be done with a reply.
pub(super) trait Taken {
    /// The replies of one command have come.
    fn reply(&mut self, note: Note, replies: &[RawReply]);
    /// There is none.
    fn failure(&mut self, error: &BackendError);
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Replies that it will have.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    /// Bytes of its commands.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, request: &Request, reads: bool, note: Note) {
        self.add(request.raw().clone(), 1, reads, note);
    }

    /// A transaction that came whole, from MULTI to its end.
    pub(super) fn push_transaction(&mut self, requests: &[Request], note: Note) {
        let mut raw =
            BytesMut::with_capacity(requests.iter().map(|request| request.raw().len()).sum());
        for request in requests {
            raw.extend_from_slice(request.raw());
        }
        self.add(raw.freeze(), requests.len(), false, note);
    }

    fn add(&mut self, raw: Bytes, replies: usize, reads: bool, note: Note) {
        self.replies += replies;
        self.bytes += raw.len();
        self.queued.push_back(Queued { raw, replies, reads, note, failed: None });
    }

    /// What is to be sent: all whose fate is open, and the replies that these have.
    pub(super) fn to_send(&self) -> (Vec<Bytes>, usize) {
        let open = || self.queued.iter().filter(|queued| queued.failed.is_none());
        let replies = open().map(|queued| queued.replies).sum();
        (open().map(|queued| queued.raw.clone()).collect(), replies)
    }

    /// Gives on what has come of those that were sent. What may be sent again stays; with `give_up`
    /// nothing does.
    pub(super) fn settle(
        &mut self,
        replies: &[RawReply],
        failure: Option<&Failure>,
        give_up: bool,
        taken: &mut impl Taken,
    ) {
        let mut left = replies;
        while let Some(first) = self.queued.front_mut() {
            if let Some(error) = &first.failed {
                for _ in 0..first.replies {
                    taken.failure(error);
                }
                self.pop();
                continue;
            }
            if !give_up && are_all_to_come_again(left) {
                // The server did none of what follows.
                return;
            }
            let Some(own) = left.get(..first.replies).filter(|own| !own.is_empty()) else { break };
            taken.reply(std::mem::take(&mut first.note), own);
            left = &left[first.replies..];
            self.pop();
        }
        let Some(failure) = failure else { return };
        if let Some(first) = self.queued.front()
            && !left.is_empty()
        {
            // A transaction of which some replies came.
            let missing = first.replies - left.len();
            taken.reply(Note::Nothing, left);
            for _ in 0..missing {
                taken.failure(&failure.why);
            }
            self.pop();
        }
        for queued in self.queued.iter_mut().filter(|queued| queued.failed.is_none()) {
            let again = is_lost(&failure.why) && (failure.unsent || queued.reads);
            if give_up || !again {
                queued.failed = Some(failure.why.clone());
            }
        }
        while let Some(error) = self.queued.front().and_then(|first| first.failed.clone()) {
            for _ in 0..self.queued.front().map_or(0, |first| first.replies) {
                taken.failure(&error);
            }
            self.pop();
        }
    }

    /// All of it fails.
    pub(super) fn fail(&mut self, error: &BackendError, taken: &mut impl Taken) {
        let failure = Failure { why: error.clone(), unsent: true };
        self.settle(&[], Some(&failure), true, taken);
    }

    fn pop(&mut self) {
        if let Some(queued) = self.queued.pop_front() {
            self.replies -= queued.replies;
            self.bytes -= queued.raw.len();
        }
    }
}

/// Are these errors alone that say to come again? Where one of several commands was done, the ones
/// before it cannot come behind it.
fn are_all_to_come_again(replies: &[RawReply]) -> bool {
    let passing =
        |reply: &RawReply| reply.kind == ReplyKind::Error && is_to_come_again(&reply.bytes);
    !replies.is_empty() && replies.iter().all(passing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_pool::RedisError;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Taken for Seen {
        fn reply(&mut self, _note: Note, replies: &[RawReply]) {
            let text = |reply: &RawReply| String::from_utf8_lossy(&reply.bytes).trim().to_owned();
            self.0.extend(replies.iter().map(text));
        }

        fn failure(&mut self, error: &BackendError) {
            self.0.push(if is_lost(error) { "lost" } else { "away" }.to_owned());
        }
    }

    fn batch(commands: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for command in commands {
            let request = Request::pack(&[command.as_bytes()]);
            if *command == "MULTI" {
                let end = Request::pack(&[b"EXEC"]);
                batch.push_transaction(&[request.clone(), request, end], Note::Nothing);
            } else {
                batch.push(&request, *command == "GET", Note::Nothing);
            }
        }
        batch
    }

    fn reply(text: &str) -> RawReply {
        let kind = if text.starts_with('-') { ReplyKind::Error } else { ReplyKind::Simple };
        RawReply { bytes: format!("{text}\r\n").into(), kind }
    }

    fn lost(unsent: bool) -> Failure {
        Failure { why: BackendError::Lost(RedisError::Away), unsent }
    }

    #[test]
    fn what_may_have_been_done_is_not_sent_again_and_what_reads_is_in_order() {
        let (mut batch, mut seen) = (batch(&["SET", "GET", "SET", "GET", "SET"]), Seen::default());
        batch.settle(&[reply("+1")], Some(&lost(false)), false, &mut seen);
        assert_eq!(seen.0, ["+1"]);
        assert_eq!(batch.to_send().1, 2, "the two that read");
        batch.settle(&[reply("+2"), reply("+4")], None, false, &mut seen);
        assert_eq!(seen.0, ["+1", "+2", "lost", "+4", "lost"]);
        assert!(batch.is_empty() && batch.bytes() == 0 && batch.replies() == 0);
    }

    #[test]
    fn what_was_not_sent_is_sent_again_until_it_is_given_up() {
        let (mut batch, mut seen) = (batch(&["SET", "GET"]), Seen::default());
        batch.settle(&[], Some(&lost(true)), false, &mut seen);
        assert_eq!((batch.to_send().1, seen.0.len()), (2, 0));
        batch.settle(&[], Some(&lost(true)), true, &mut seen);
        assert_eq!(seen.0, ["lost", "lost"]);
    }

    #[test]
    fn a_transaction_that_is_cut_has_as_many_replies_as_commands() {
        let (mut batch, mut seen) = (batch(&["MULTI", "GET"]), Seen::default());
        batch.settle(&[reply("+OK")], Some(&lost(false)), false, &mut seen);
        batch.settle(&[reply("+2")], None, false, &mut seen);
        assert_eq!(seen.0, ["+OK", "lost", "lost", "+2"]);
    }

    #[test]
    fn commands_come_again_to_a_server_that_is_not_ready_if_none_behind_was_done() {
        let (mut batch, mut seen) = (batch(&["GET", "SET", "SET"]), Seen::default());
        let readonly = || reply("-READONLY no");
        batch.settle(&[reply("+1"), readonly(), readonly()], None, false, &mut seen);
        assert_eq!((seen.0.len(), batch.to_send().1), (1, 2));
        batch.settle(&[readonly(), reply("+3")], None, false, &mut seen);
        assert_eq!(seen.0, ["+1", "-READONLY no", "+3"]);
    }
}
