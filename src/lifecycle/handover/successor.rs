//! The process that is to take over, seen from the one that serves.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::channel;
use super::clients::{self, ClientsOut};
use super::link::{Event, Link};
use super::{HandoverError, Message, Passed, Shared, VARIABLE, VERSION};

/// Messages of the handover that wait to be looked at; there are four.
const EVENTS_MAX: usize = 8;
/// How often somebody who waits for a restart hears that it is still under way.
const PROGRESS: Duration = Duration::from_secs(2);
/// How long a process that has closed its end may take to end itself.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);

/// What is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, by the path this process was started by: an upgrade puts another file there.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// This process' own command line.
    pub fn again() -> Self {
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_default();
        Self { program, arguments: arguments.collect() }
    }
}

/// A started process. Unless it serves, it is ended when this is dropped.
#[derive(Debug)]
pub struct Successor {
    child: Option<Child>,
    link: Arc<Link>,
    events: mpsc::Receiver<Event>,
    deadline: Instant,
    patience: Duration,
    serves: bool,
}

/// How a successor that served has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was told to stop.
    InOrder,
    /// It has failed.
    Failed(ExitStatus),
}

impl Successor {
    /// Starts the process and passes it the sockets. It has `patience` from here on to serve;
    /// `apply` carries out its purges.
    pub async fn start(
        launch: &Launch,
        sockets: &[Passed],
        patience: Duration,
        apply: impl Fn(Shared) + Send + Sync + 'static,
    ) -> Result<Self, HandoverError> {
        let (ours, theirs) = channel::pair()?;
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments).stdin(theirs).env(VARIABLE, VERSION);
        // They name this process as the one that systemd watches and gives sockets to.
        command.env_remove("WATCHDOG_PID").env_remove("LISTEN_PID").env_remove("LISTEN_FDS");
        let failed = |source| HandoverError::Start {
            program: launch.program.to_string_lossy().into_owned(),
            source,
        };
        let started = tokio::task::spawn_blocking(move || {
            let child = command.spawn();
            // With it goes our copy of the other end.
            drop(command);
            child
        });
        let child = started.await.map_err(std::io::Error::other)?.map_err(failed)?;
        let link = Arc::new(Link::new(ours));
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let reader = Arc::clone(&link);
        tokio::spawn(async move { reader.run(apply, sender).await });
        let deadline = Instant::now() + patience;
        let successor =
            Self { child: Some(child), link, events, deadline, patience, serves: false };
        timeout_at(deadline, successor.pass(sockets))
            .await
            .unwrap_or(Err(HandoverError::TimedOut(patience)))?;
        Ok(successor)
    }

    /// Its process id; 0 once it has ended.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// For the purges of both.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    async fn pass(&self, sockets: &[Passed]) -> Result<(), HandoverError> {
        let channel = self.link.channel();
        for Passed { setting, activated, socket } in sockets {
            let message = Message::Socket { setting: setting.clone(), activated: *activated };
            channel.send(&message, Some(socket.as_fd())).await?;
        }
        channel.send(&Message::Sockets { count: sockets.len() }, None).await?;
        Ok(())
    }

    /// Waits until it could serve. `progress` hears how long that takes.
    pub async fn prepared(&mut self, progress: impl Fn(Duration)) -> Result<(), HandoverError> {
        self.wait_for(|message| matches!(message, Message::Prepared), progress).await
    }

    /// Has it take in what is stored here, which is to be written to the other end of what this gives.
    /// From before this on it must hear of each purge.
    pub async fn give_pages(&self) -> Result<UnixStream, HandoverError> {
        let (ours, theirs) = UnixStream::pair()?;
        self.link.channel().send(&Message::Pages, Some(theirs.as_fd())).await?;
        Ok(ours)
    }

    /// What takes clients to it, once it serves.
    pub async fn give_clients(&self) -> Result<ClientsOut, HandoverError> {
        let (ours, theirs) = clients::pair()?;
        self.link.channel().send(&Message::Clients, Some(theirs.as_fd())).await?;
        Ok(ours)
    }

    /// Has it take in the object cache, which is to be written to the other end of what this gives.
    pub async fn give_objects(&self) -> Result<UnixStream, HandoverError> {
        let (ours, theirs) = UnixStream::pair()?;
        self.link.channel().send(&Message::Objects, Some(theirs.as_fd())).await?;
        Ok(ours)
    }

    /// Says that a command has switched maintenance on.
    pub async fn keep_maintenance(&self) -> Result<(), HandoverError> {
        self.link.channel().send(&Message::Maintenance, None).await?;
        Ok(())
    }

    /// Says how a command has switched the waiting room.
    pub async fn keep_room(&self, is_on: bool) -> Result<(), HandoverError> {
        self.link.channel().send(&Message::Room { is_on }, None).await?;
        Ok(())
    }

    /// How long it may take until it serves.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits until it has all of that, though no longer than `patience`, nor than half of the time that it
    /// has to serve. False: it takes longer.
    pub async fn filled(
        &mut self,
        patience: Duration,
        progress: impl Fn(Duration),
    ) -> Result<bool, HandoverError> {
        let left = self.time_left();
        let filled = self.wait_for(|message| matches!(message, Message::Filled), progress);
        match tokio::time::timeout(patience.min(left / 2), filled).await {
            Ok(filled) => filled.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    async fn wait_for(
        &mut self,
        is_it: impl Fn(&Message) -> bool,
        progress: impl Fn(Duration),
    ) -> Result<(), HandoverError> {
        let began = Instant::now();
        let mut ticks = interval(PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            tokio::select! {
                said = self.hear() => if is_it(&said?) { return Ok(()) },
                _ = ticks.tick() => progress(began.elapsed()),
            }
        }
    }

    /// Tells it to serve, and waits until it does.
    pub async fn go(&mut self) -> Result<(), HandoverError> {
        let channel = Arc::clone(&self.link);
        channel.channel().send(&Message::Go, None).await?;
        loop {
            if let Message::Serving = self.hear().await? {
                self.serves = true;
                return Ok(());
            }
        }
    }

    /// The next message of the handover.
    async fn hear(&mut self) -> Result<Message, HandoverError> {
        match timeout_at(self.deadline, self.events.recv()).await {
            Ok(Some((Message::Failed { reason }, _))) => Err(HandoverError::Failed(reason)),
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(self.ended().await),
            Err(_) => Err(HandoverError::TimedOut(self.patience)),
        }
    }

    /// It has closed its end.
    async fn ended(&mut self) -> HandoverError {
        let end = Instant::now() + ENDS_WITHIN;
        while Instant::now() < end {
            if let Some(status) = self.try_wait() {
                return HandoverError::Ended(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        HandoverError::Channel(std::io::ErrorKind::BrokenPipe.into())
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// It serves, so that it outlives this process: resolves when it has ended nevertheless.
    pub async fn gone(mut self) -> Gone {
        let mut child = self.child.take();
        // Its end closes when it ends.
        while self.events.recv().await.is_some() {}
        loop {
            match child.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) if !status.success() => return Gone::Failed(status),
                Some(Ok(None)) => tokio::time::sleep(LOOK).await,
                _ => return Gone::InOrder,
            }
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take().filter(|_| !self.serves) {
            tracing::warn!(process = child.id(), "the new process is ended; this one goes on");
            let _ = child.kill();
            // It ends at once, but for a wait in the kernel that no thread here should share.
            let wait = move || drop(child.wait());
            let _ = std::thread::Builder::new().name("successor-end".to_owned()).spawn(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drops a successor that serves or not; gives whether its process was there afterwards.
    fn outlives(serves: bool) -> bool {
        let child = Command::new("sleep").arg("20").spawn().expect("sleep");
        let process = child.id();
        let (ours, _theirs) = channel::pair().expect("a pair");
        let (_, events) = mpsc::channel(1);
        let (deadline, patience) = (Instant::now(), Duration::ZERO);
        let link = Arc::new(Link::new(ours));
        let child = Some(child);
        drop(Successor { child, link, events, deadline, patience, serves });
        std::thread::sleep(Duration::from_millis(300));
        let process = rustix::process::Pid::from_raw(process.cast_signed()).expect("an id");
        rustix::process::kill_process(process, rustix::process::Signal::KILL).is_ok()
    }

    #[tokio::test]
    async fn one_that_serves_outlives_this_process_and_one_that_does_not_is_ended() {
        assert!(outlives(true));
        assert!(!outlives(false));
    }
}
