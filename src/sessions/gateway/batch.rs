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
        // Replies that say to come again; the server did none of what follows.
        let mut refused = 0;
        while let Some(first) = self.queued.front_mut() {
            if let Some(error) = &first.failed {
                for _ in 0..first.replies {
                    taken.failure(error);
                }
                self.pop();
                continue;
            }
            if !give_up && are_all_to_come_again(left) {
                refused = std::mem::take(&mut left).len();
                break;
            }
            let Some(own) = left.get(..first.replies).filter(|own| !own.is_empty()) else { break };
            taken.reply(std::mem::take(&mut first.note), own);
            left = &left[first.replies..];
            self.pop();
        }
        let Some(failure) = failure else { return };
        let mut culprit = failure.culprit.clone();
        if let Some(first) = self.queued.front()
            && !left.is_empty()
        {
            // A transaction of which some replies came.
            let missing = first.replies - left.len();
            taken.reply(Note::Nothing, left);
            let error = culprit.take().unwrap_or_else(|| failure.why.clone());
            for _ in 0..missing {
                taken.failure(&error);
            }
            self.pop();
        }
        for queued in self.queued.iter_mut().filter(|queued| queued.failed.is_none()) {
            if queued.replies <= refused {
                refused -= queued.replies;
                continue;
            }
            // A transaction that was refused in part may have been done in part.
            let is_cut = std::mem::take(&mut refused) > 0;
            let own = culprit.take();
            let may_again = own.is_none() && !is_cut && (failure.unsent || queued.reads);
            if give_up || !may_again || !is_lost(&failure.why) {
                queued.failed = Some(own.unwrap_or_else(|| failure.why.clone()));
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
        let failure = Failure::new(error.clone(), true);
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
            let large = matches!(error, BackendError::TooLarge(_));
            self.0.push(if large { "large" } else { "lost" }.to_owned());
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
        Failure::new(BackendError::Lost(RedisError::Away), unsent)
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

    #[test]
    fn what_ended_the_connection_is_not_sent_again_and_what_reads_behind_it_is() {
        let culprit = Some(BackendError::TooLarge("sessions.reply_max"));
        let failure = Failure { culprit, ..lost(false) };
        let (mut batch, mut seen) = (batch(&["GET", "GET", "GET", "SET"]), Seen::default());
        batch.settle(&[reply("+1")], Some(&failure), false, &mut seen);
        assert_eq!((seen.0.join(" ").as_str(), batch.to_send().1), ("+1 large", 1));
        batch.settle(&[reply("+3")], None, false, &mut seen);
        assert_eq!(seen.0, ["+1", "large", "+3", "lost"]);
    }

    #[test]
    fn of_commands_that_shall_come_again_those_whose_reply_was_lost_do_not_if_they_write() {
        let (mut batch, mut seen) = (batch(&["SET", "SET", "GET", "MULTI"]), Seen::default());
        batch.settle(&[reply("-LOADING x")], Some(&lost(false)), false, &mut seen);
        assert_eq!((seen.0.len(), batch.to_send().1), (0, 2), "the refused one and what reads");
        batch.settle(&[reply("+1"), reply("+3")], None, false, &mut seen);
        assert_eq!(seen.0, ["+1", "lost", "+3", "lost", "lost", "lost"]);
        let (mut batch, mut seen) = (self::batch(&["MULTI", "GET"]), Seen::default());
        batch.settle(&[reply("-LOADING x")], Some(&lost(false)), false, &mut seen);
        assert_eq!((seen.0.len(), batch.to_send().1), (3, 1), "it may have been done in part");
    }
}
