//! PHP-FPM's own status: how many children it has, and how many are busy, also with what does not come
//! through here (`pm.status_path`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;

use super::OriginError;
use super::fastcgi;
use crate::admission::Admission;
use crate::settings::{self, Endpoint};

/// Longest the answer is waited for: where it shares PHP-FPM's children, it waits for one of them.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who is asked, and for what.
#[derive(Clone, Debug)]
pub struct StatusDoor {
    endpoint: Endpoint,
    path: String,
    /// Is the answer given by one of the children that are counted?
    is_counted: bool,
}

/// What PHP-FPM says of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Processes there are.
    pub total: usize,
    /// Of them, those at work, without the one that gave this answer.
    pub active: usize,
    /// Of them, those that wait for work.
    pub idle: usize,
    /// Connections that wait for one, in the kernel.
    pub listen_queue: usize,
    /// How often `pm.max_children` stood in the way of one more.
    pub max_children_reached: u64,
    /// Are there always as many (`pm = static`)?
    pub is_static: bool,
    /// When it was started, by its own clock.
    pub started: u64,
}

/// The answer to `?json`; what else it says is not looked at.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "process manager")]
    process_manager: String,
    #[serde(rename = "start time")]
    start_time: u64,
    #[serde(rename = "listen queue")]
    listen_queue: usize,
    #[serde(rename = "idle processes")]
    idle: usize,
    #[serde(rename = "active processes")]
    active: usize,
    #[serde(rename = "total processes")]
    total: usize,
    #[serde(rename = "max children reached")]
    max_children_reached: u64,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// PHP-FPM did not answer.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// It answered something else.
    #[error("the answer's status is {0}: is pm.status_path the same as origin.status?")]
    Status(StatusCode),
    /// It is no JSON of the kind.
    #[error("the answer is none of PHP-FPM's")]
    Foreign,
}

impl StatusDoor {
    /// `None`: the settings name no status.
    pub fn of(origin: &settings::Origin) -> Option<Self> {
        let own = origin.fastcgi.clone()?;
        if origin.status.is_empty() {
            return None;
        }
        let is_counted = origin.status_listen.is_none();
        let endpoint = origin.status_listen.clone().unwrap_or(own);
        Some(Self { endpoint, path: origin.status.clone(), is_counted })
    }

    /// Asks.
    ///
    /// # Errors
    /// [`StatusError`]
    pub async fn ask(&self) -> Result<Workers, StatusError> {
        let asked = fastcgi::get(&self.endpoint, &self.path, b"json", TIMEOUT);
        let (status, content) = asked.await?;
        if status != StatusCode::OK {
            return Err(StatusError::Status(status));
        }
        read(&content, self.is_counted).ok_or(StatusError::Foreign)
    }
}

fn read(content: &Bytes, is_counted: bool) -> Option<Workers> {
    let answer: Answer = serde_json::from_slice(content).ok()?;
    Some(Workers {
        total: answer.total,
        active: answer.active.saturating_sub(usize::from(is_counted)),
        idle: answer.idle,
        listen_queue: answer.listen_queue,
        max_children_reached: answer.max_children_reached,
        is_static: answer.process_manager == "static",
        started: answer.start_time,
    })
}

/// How many children PHP-FPM has, which it does not say by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Children {
    started: u64,
    reached: u64,
    most: Option<usize>,
    /// How many there were in the last answer, if all of them were busy while requests waited here.
    all_busy: Option<usize>,
}

impl Children {
    /// What is to be believed after this answer; `None`: not known, it makes them as it needs them.
    ///
    /// A static pool has all of them. Of another one it is known when it has wanted more than it may have, or
    /// when there are as many in two answers, all busy, while requests wait (`is_short`): it would have made more.
    pub fn learn(&mut self, workers: &Workers, is_short: bool) -> Option<usize> {
        if workers.started != self.started {
            let reached = workers.max_children_reached;
            *self = Self { started: workers.started, reached, ..Self::default() };
        }
        if workers.is_static {
            return Some(workers.total.max(1));
        }
        if workers.max_children_reached > self.reached {
            self.reached = workers.max_children_reached;
            self.most = Some(workers.total.max(1));
        }
        let all_busy = (is_short && workers.idle == 0).then_some(workers.total);
        if all_busy.is_some() && all_busy == self.all_busy && self.most.is_none() {
            self.most = Some(workers.total.max(1));
        }
        self.all_busy = all_busy;
        // There are more than it was thought to have at most.
        self.most = self.most.map(|most| most.max(workers.total));
        self.most
    }
}

/// Failures in a row until what others have there is not believed any more: PHP-FPM may just be busy.
const FAILURES_MAX: u32 = 3;

/// What is known of PHP-FPM by its status.
#[derive(Debug)]
pub struct Watch {
    door: StatusDoor,
    interval: Duration,
    places_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Workers>,
    children: Children,
    /// How many children it has, by its last answer.
    known: Option<usize>,
    /// How many were busy for others, by the last two answers: a child is not idle at the very moment
    /// in which its response has come.
    others: [usize; 2],
    failures: u32,
    has_said: bool,
}

/// What this server itself had in PHP while its status was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    in_php: usize,
    /// Did requests wait all the time?
    is_short: bool,
}

/// PHP-FPM as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it said last.
    pub workers: Workers,
    /// Children that are busy with what others ask for.
    pub others: usize,
}

impl Watch {
    /// `None`: the settings name no status.
    pub fn of(origin: &settings::Origin) -> Option<Self> {
        Some(Self {
            door: StatusDoor::of(origin)?,
            interval: origin.status_interval,
            places_max: origin.concurrency_max,
            seen: Mutex::default(),
        })
    }

    /// What it said last; `None`: nothing of late.
    pub fn shown(&self) -> Option<Shown> {
        let seen = self.seen.lock();
        let others = seen.others[0].min(seen.others[1]);
        seen.last.map(|workers| Shown { workers, others })
    }

    /// Asks again and again, and tells the door of PHP how many places there are.
    pub async fn run(&self, admission: &Arc<Admission>) {
        loop {
            let before = admission.figures();
            let answer = self.door.ask().await;
            let now = admission.figures();
            let own = now.in_php.max(before.in_php);
            // More are in PHP than it has children for, or would be.
            let is_short = before.waiting > 0 && now.waiting > 0;
            let own = Own { in_php: own, is_short };
            if let Some(places) = self.seen.lock().hear(&answer, own, self.places_max) {
                admission.set_children(places);
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

impl Seen {
    /// How many places there are, by an answer; `None`: as many as before.
    fn hear(
        &mut self,
        answer: &Result<Workers, StatusError>,
        own: Own,
        places_max: usize,
    ) -> Option<usize> {
        match answer {
            Ok(workers) => {
                if self.has_said {
                    tracing::info!("PHP-FPM's status can be read again");
                }
                (self.failures, self.has_said) = (0, false);
                self.last = Some(*workers);
                self.others = [workers.active.saturating_sub(own.in_php), self.others[0]];
                let learnt =
                    self.children.learn(workers, own.is_short || own.in_php > workers.total);
                let children = learnt.unwrap_or(places_max).min(places_max);
                self.known = learnt;
                let others = self.others[0].min(self.others[1]);
                Some(children.saturating_sub(others).max(1))
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let knew = self.last.is_some();
                if knew && self.failures < FAILURES_MAX {
                    return None;
                }
                // It has as many children as before; what others have there is not known any more.
                let places = self.known.map_or(places_max, |known| known.min(places_max));
                if !self.has_said {
                    self.has_said = true;
                    let holds = match self.known {
                        Some(_) => "the number of children that it had holds",
                        None => "origin.concurrency_max holds",
                    };
                    tracing::warn!(
                        places,
                        "PHP-FPM's status cannot be read, so that {holds}: {error}"
                    );
                }
                (self.last, self.others) = (None, [0; 2]);
                Some(places)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"pool":"www","process manager":"static","start time":1790000000,
        "start since":12,"accepted conn":7,"listen queue":3,"max listen queue":4,"listen queue len":511,
        "idle processes":1,"active processes":7,"total processes":8,"max active processes":8,
        "max children reached":0,"slow requests":0}"#;

    #[test]
    fn the_answer_of_php_fpm_is_read_and_nothing_else() {
        let workers = read(&Bytes::from(TEXT), true).expect("its own");
        assert_eq!((workers.total, workers.active, workers.idle), (8, 6, 1));
        assert!(workers.is_static && workers.listen_queue == 3);
        assert_eq!(read(&Bytes::from(TEXT), false).expect("its own").active, 7);
        for foreign in ["", "{}", "<html>", "[1]"] {
            assert_eq!(read(&Bytes::from(foreign), true), None);
        }
    }

    #[test]
    fn places_are_those_that_others_leave_and_the_setting_where_nothing_is_known() {
        let mut seen = Seen::default();
        let own = |in_php| Own { in_php, ..Own::default() };
        let workers =
            |active| Ok(Workers { total: 8, active, is_static: true, ..Workers::default() });
        assert_eq!(seen.hear(&workers(5), own(5), 32), Some(8));
        assert_eq!(seen.hear(&workers(7), own(4), 32), Some(8), "once may be by chance");
        assert_eq!(seen.hear(&workers(6), own(4), 32), Some(6));
        assert_eq!(seen.hear(&workers(8), own(0), 4), Some(2));
        let lost = || Err(StatusError::Foreign);
        assert_eq!(seen.hear(&lost(), own(0), 32), None);
        assert_eq!(seen.hear(&lost(), own(0), 32), None);
        assert_eq!(seen.hear(&lost(), own(0), 32), Some(8), "it has as many children as before");
        assert!(seen.has_said);
        assert_eq!(seen.hear(&workers(0), own(0), 32), Some(8));
        assert_eq!(Seen::default().hear(&lost(), own(0), 32), Some(32), "it never could");
    }

    #[test]
    fn children_are_known_of_a_static_pool_or_once_they_were_not_enough() {
        let mut children = Children::default();
        let dynamic = |total, reached, started| Workers {
            total,
            max_children_reached: reached,
            started,
            ..Workers::default()
        };
        assert_eq!(
            children.learn(&dynamic(3, 5, 1), false),
            None,
            "that was before this process looked"
        );
        assert_eq!(children.learn(&dynamic(8, 6, 1), false), Some(8));
        assert_eq!(children.learn(&dynamic(2, 6, 1), false), Some(8));
        assert_eq!(children.learn(&dynamic(2, 0, 2), false), None, "it was started anew");
        let fixed = Workers { is_static: true, ..dynamic(5, 0, 2) };
        assert_eq!(children.learn(&fixed, false), Some(5));
    }

    #[test]
    fn children_are_known_when_all_are_busy_and_no_more_are_made_though_requests_wait() {
        let busy = |total, idle| Workers { total, idle, started: 1, ..Workers::default() };
        let mut children = Children::default();
        for workers in [busy(4, 0), busy(6, 0), busy(8, 0)] {
            assert_eq!(children.learn(&workers, true), None, "it makes more");
        }
        assert_eq!(children.learn(&busy(8, 0), false), None, "nothing waits");
        assert_eq!(children.learn(&busy(8, 0), true), None);
        assert_eq!(children.learn(&busy(8, 1), true), None, "one is free");
        assert_eq!(children.learn(&busy(8, 0), true), None);
        assert_eq!(children.learn(&busy(8, 0), true), Some(8));
        assert_eq!(children.learn(&busy(10, 0), true), Some(10), "they were more after all");
    }
}
