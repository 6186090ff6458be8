//! Who says that it is a bot, and who proves it.
//!
//! A bot is known by its name in User-Agent, which anybody can write. Its operator's ranges prove it at once;
//! else the names of its hosts do, which are looked up in the background and remembered. Until then it is
//! declared, and no more. Names, ranges and hosts are data ([`data`]): those of this program, and files.

mod catalogue;
mod data;
mod dns;
mod library;
mod look_up;
mod names;
mod proofs;
mod ranges;
mod recent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use self::catalogue::{Catalogue, Known, Times, Told};
use self::dns::Dns;
use self::library::Library;
use self::look_up::{Resolver, Verdict};
use self::proofs::{Proofs, Question, Standing};
use crate::clock::{Clock, Moment};
use crate::settings::KnownBots;

pub use data::{DataError, Kind};
pub use library::FileMistake;

/// Which bot: what the data say of it.
#[derive(Clone)]
pub struct BotId(Arc<Known>);

impl BotId {
    /// Its name in the data, such as `googlebot`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whose it is; empty: nobody's in particular.
    pub fn operator(&self) -> &str {
        &self.0.operator
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl PartialEq for BotId {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for BotId {}

impl fmt::Debug for BotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("BotId").field(&self.name()).finish()
    }
}

/// What a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bot {
    /// It does not say that it is a bot.
    No,
    /// It says so, and that is not proven yet, or nothing can prove it.
    Declared(BotId),
    /// Its operator's ranges or DNS prove it.
    Verified(BotId),
    /// They say otherwise.
    Impostor(BotId),
}

impl Bot {
    /// The bot that it is, or says that it is.
    pub fn id(&self) -> Option<&BotId> {
        match self {
            Self::No => None,
            Self::Declared(id) | Self::Verified(id) | Self::Impostor(id) => Some(id),
        }
    }
}

/// Numbers for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bots that are known by name.
    pub known: usize,
    /// Files of data that are wrong.
    pub files_wrong: usize,
    /// Addresses whose standing is remembered.
    pub remembered: usize,
    /// Look-ups that wait or are under way.
    pub waiting: usize,
    /// Look-ups that proved a bot.
    pub proven: u64,
    /// Look-ups that found an impostor.
    pub refuted: u64,
    /// Look-ups that DNS did not answer.
    pub unanswered: u64,
    /// Look-ups that were not made, since too many waited.
    pub unasked: u64,
}

/// How look-ups ended.
#[derive(Debug, Default)]
struct Outcomes {
    proven: AtomicU64,
    refuted: AtomicU64,
    unanswered: AtomicU64,
}

/// The bots of this server.
#[derive(Debug)]
pub struct Bots {
    catalogue: ArcSwap<Catalogue>,
    settings: ArcSwap<KnownBots>,
    proofs: Proofs,
    library: Mutex<Library>,
    /// So that who asks for metrics does not wait for a file system.
    files_wrong: AtomicUsize,
    clock: Clock,
    /// Until somebody answers them.
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
    under_way: AtomicU64,
    outcomes: Outcomes,
    is_renewed: Notify,
}

/// Look-ups for which there is no resolver.
#[derive(Debug)]
struct Nobody;

impl Resolver for Nobody {
    async fn names(&self, _: IpAddr) -> Result<Vec<String>, look_up::NoAnswer> {
        Err(look_up::NoAnswer)
    }

    async fn addresses(&self, _: &str, _: IpAddr) -> Result<Vec<IpAddr>, look_up::NoAnswer> {
        Err(look_up::NoAnswer)
    }
}

impl Bots {
    /// Reads the files. What is wrong with one is logged and counted, and it is left out.
    ///
    /// # Errors
    /// [`DataError`]: the data of this program cannot be used, which a test rules out.
    pub fn new(settings: &KnownBots, clock: Clock) -> Result<Self, DataError> {
        let mut library = Library::new();
        library.renew(settings);
        let catalogue = match library.catalogue(settings, times(&clock)) {
            Some(catalogue) => catalogue,
            // Files that are too many together must not keep a server from starting.
            None => Catalogue::new(&[], &[], settings, times(&clock))?,
        };
        let (proofs, questions) = Proofs::new(settings);
        Ok(Self {
            catalogue: ArcSwap::from_pointee(catalogue),
            settings: ArcSwap::from_pointee(settings.clone()),
            proofs,
            files_wrong: AtomicUsize::new(library.mistakes().len()),
            library: Mutex::new(library),
            clock,
            questions: Mutex::new(Some(questions)),
            under_way: AtomicU64::new(0),
            outcomes: Outcomes::default(),
            is_renewed: Notify::new(),
        })
    }

    /// What a client is, by what it says and where it asks from. Neither waits nor reads anything; who is
    /// not known yet is looked up later.
    pub fn of(&self, user_agent: &[u8], address: IpAddr, now: Moment) -> Bot {
        let catalogue = self.catalogue.load();
        let Some(known) = catalogue.named(user_agent) else { return Bot::No };
        let id = BotId(Arc::clone(known));
        let address = address.to_canonical();
        match known.tells(address, now) {
            Told::Inside => Bot::Verified(id),
            _ if is_local(address) => Bot::Declared(id),
            Told::Outside => Bot::Impostor(id),
            Told::Nothing => Bot::Declared(id),
            Told::AskHosts => match self.standing(known, address, now) {
                Standing::Proven => Bot::Verified(id),
                Standing::Refuted => Bot::Impostor(id),
                Standing::Unknown => Bot::Declared(id),
            },
        }
    }

    fn standing(&self, known: &Arc<Known>, address: IpAddr, now: Moment) -> Standing {
        let settings = self.settings.load();
        if !settings.look_up {
            return Standing::Unknown;
        }
        // In the time of the look-ups before it in the queue.
        let patience = settings.retry_after.max(settings.timeout);
        self.proofs.standing(known, address, now, patience)
    }

    /// Does a client say that it is a bot? Asks nobody.
    pub fn names_one(&self, user_agent: &[u8]) -> bool {
        self.catalogue.load().named(user_agent).is_some()
    }

    /// Puts new settings in force. [`Bots::run`] reads all files again, since that may take its time.
    pub fn renew(&self, settings: &KnownBots) {
        self.settings.store(Arc::new(settings.clone()));
        self.is_renewed.notify_one();
    }

    /// Reads all files. Blocks as long as that takes.
    fn read_files(&self) {
        let settings = self.settings.load_full();
        let mut library = self.library.lock();
        library.renew(&settings);
        self.put_in_force(&mut library, &settings);
    }

    /// Reads the files that have changed. Blocks as long as that takes.
    fn look_at_files(&self) {
        let settings = self.settings.load_full();
        let mut library = self.library.lock();
        if library.look(&settings) {
            self.put_in_force(&mut library, &settings);
        }
    }

    fn put_in_force(&self, library: &mut Library, settings: &KnownBots) {
        if let Some(catalogue) = library.catalogue(settings, times(&self.clock)) {
            let (bots, day) = (catalogue.len(), catalogue.day.clone());
            self.catalogue.store(Arc::new(catalogue));
            tracing::info!(bots, day, "the data of bots were read");
        }
        self.files_wrong.store(library.mistakes().len(), Ordering::Relaxed);
    }

    /// What is wrong with the files. Waits while they are read.
    pub fn mistakes(&self) -> Vec<FileMistake> {
        self.library.lock().mistakes()
    }

    /// In one line, which bots are known. Waits while files are read.
    pub fn summary(&self) -> String {
        let catalogue = self.catalogue.load();
        let files = self.library.lock().files();
        let how = match &**self.settings.load() {
            KnownBots { look_up: false, .. } => "by ranges alone".to_owned(),
            KnownBots { resolvers, .. } if resolvers.is_empty() => {
                "by ranges and the system's DNS".to_owned()
            }
            KnownBots { resolvers, .. } => {
                let resolvers: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
                format!("by ranges and DNS from {}", resolvers.join(", "))
            }
        };
        format!("{} known, of {}, from {files} files; proven {how}", catalogue.len(), catalogue.day)
    }

    /// Numbers for the metrics.
    pub fn figures(&self) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let under_way = usize::try_from(read(&self.under_way)).unwrap_or(usize::MAX);
        Figures {
            known: self.catalogue.load().len(),
            files_wrong: self.files_wrong.load(Ordering::Relaxed),
            remembered: self.proofs.remembered(),
            waiting: self.proofs.queued() + under_way,
            proven: read(&self.outcomes.proven),
            refuted: read(&self.outcomes.refuted),
            unanswered: read(&self.outcomes.unanswered),
            unasked: self.proofs.unasked(),
        }
    }

    /// Answers the questions and looks at the files from time to time; ends when it is dropped. A second one
    /// ends at once.
    pub async fn run(self: Arc<Self>) {
        let settings = self.settings.load_full();
        match Dns::new(&settings) {
            Ok(dns) => Arc::clone(&self).run_with(dns).await,
            Err(error) => {
                tracing::error!(%error, "bots are proven by their ranges alone");
                Arc::clone(&self).run_with(Nobody).await;
            }
        }
    }

    async fn run_with<R: Resolver>(self: Arc<Self>, resolver: R) {
        let Some(questions) = self.questions.lock().take() else { return };
        let answers = Arc::clone(&self).answer(questions, Arc::new(resolver));
        tokio::join!(answers, self.watch_files());
    }

    async fn answer<R: Resolver>(
        self: Arc<Self>,
        mut questions: mpsc::Receiver<Question>,
        resolver: Arc<R>,
    ) {
        let in_flight_max = self.settings.load().in_flight_max;
        let mut look_ups = JoinSet::new();
        while let Some(question) = questions.recv().await {
            while look_ups.try_join_next().is_some() {}
            while look_ups.len() >= in_flight_max {
                look_ups.join_next().await;
            }
            let (bots, resolver) = (Arc::clone(&self), Arc::clone(&resolver));
            look_ups.spawn(async move { bots.look_up(&question, &*resolver).await });
        }
    }

    async fn look_up<R: Resolver>(&self, question: &Question, resolver: &R) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let settings = self.settings.load_full();
        let (address, known) = (question.address, &question.known);
        let asked = look_up::confirm(resolver, address, &known.hosts, known.hosts_resolve);
        let answered = tokio::time::timeout(settings.timeout, asked).await;
        let verdict = answered.unwrap_or(Verdict::Unanswered);
        tracing::debug!(bot = %known.name, ?verdict, "a bot's address was looked up");
        self.proofs.learn(question, verdict, self.clock.now(), proofs::Times::of(&settings));
        let counted = match verdict {
            Verdict::Proven => Some(&self.outcomes.proven),
            Verdict::Refuted => Some(&self.outcomes.refuted),
            Verdict::Unanswered => Some(&self.outcomes.unanswered),
            Verdict::Unprovable => None,
        };
        if let Some(counted) = counted {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    async fn watch_files(self: Arc<Self>) {
        loop {
            let (own, pause) = (Arc::clone(&self), self.settings.load().look_every);
            let read = tokio::select! {
                () = self.is_renewed.notified() => Self::read_files,
                () = sleep_unless_zero(pause) => Self::look_at_files,
            };
            // One at a time, also where a file system hangs.
            drop(tokio::task::spawn_blocking(move || read(&own)).await);
        }
    }
}

/// Is it an address of a network of one's own? Behind a proxy that is not trusted all clients have one, so it says
/// nothing of who asks.
pub(super) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is of those who share addresses (RFC 6598).
            let is_shared = matches!(address.octets(), [100, second, ..] if second >> 6 == 1);
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

/// Zero: for ever.
async fn sleep_unless_zero(pause: Duration) {
    if pause.is_zero() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(pause).await;
}

fn times(clock: &Clock) -> Times {
    Times { wall: clock.wall(), now: clock.now() }
}
