//! What other modules count and this one shows: read when somebody asks for the metrics.

use super::metrics::Kind;

macro_rules! numbers {
    ($(#[$meaning:meta])* $name:ident
     $($variant:ident = $kind:ident $group:literal $key:literal $help:literal,)+) => {
        $(#[$meaning])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $help] $variant,)+
        }

        impl $name {
            /// Each of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The metric's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("parvis_", $group, "_", $key)),+ }
            }

            /// What it says.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }

            /// Does it go up alone?
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),+ }
            }

            /// Its place in the statistics: group and key.
            pub const fn place(self) -> (&'static str, &'static str) {
                match self { $(Self::$variant => ($group, $key)),+ }
            }
        }
    };
}

macro_rules! labelled {
    ($($variant:ident = $kind:ident $group:literal $key:literal $label:literal $help:literal,)+) => {
        numbers! {
            /// Numbers that another module keeps, one for each value of a label.
            Labelled
            $($variant = $kind $group $key $help,)+
        }

        impl Labelled {
            /// Its label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

labelled! {
    AdmissionWaiting = Gauge "admission" "waiting" "class" "Requests that wait for a place in PHP.",
    AdmissionInPhp = Gauge "admission" "in_php" "class" "Requests that are in PHP.",
    AdmissionAdmitted = Counter "admission" "admitted_total" "class" "Requests that went to PHP.",
    AdmissionWaited = Counter "admission" "waited_total" "class" "Of them, those that had to wait.",
    AdmissionWait = Seconds "admission" "wait_seconds_total" "class" "Seconds that these have waited.",
    AdmissionPhp = Seconds "admission" "php_seconds_total" "class" "Seconds that requests were in PHP.",
    AdmissionFull = Counter "admission" "full_total" "class" "Requests that found the queue full (503).",
    AdmissionPutOut = Counter "admission" "put_out_total" "class"
        "Requests whose seat in the queue a higher class took (503).",
    AdmissionTooLong = Counter "admission" "too_long_total" "class"
        "Requests that waited for as long as their class may (503).",
    AdmissionLeft = Counter "admission" "left_total" "class"
        "Requests whose client left while they waited.",
    AdmissionMoves = Counter "admission" "limit_moves_total" "why" "Times that the limit moved.",
    AdmissionLastMove = Gauge "admission" "limit_last_move" "why" "1 for why it moved last.",
    TrafficMatched = Counter "traffic" "rule_matched_total" "rule" "Requests that a rule matched.",
    TrafficDecided = Counter "traffic" "rule_decided_total" "rule"
        "Requests that a rule decided on: it let them through, turned them away, or gave what is stored alone.",
    TrafficDryRun = Counter "traffic" "rule_dry_run_total" "rule"
        "Requests that a rule would have decided on, if it did not count alone.",
    TrafficPhp = Seconds "traffic" "rule_php_seconds_total" "rule"
        "Seconds of PHP that went to requests that a rule matched.",
    TrafficClients = Counter "traffic" "clients_total" "who"
        "Requests by who sent them, as far as a rule asked.",
}

numbers! {
    /// A number that another module keeps.
    Reading
    ProcessResident = Gauge "process" "resident_bytes" "Memory of this process that is resident.",
    ProcessCpu = Seconds "process" "cpu_seconds_total" "Seconds of processor time that it has used.",
    ProcessDescriptors = Gauge "process" "descriptors" "File descriptors that it has open.",
    ProcessDescriptorsLimit = Gauge "process" "descriptors_limit" "How many it may have open, the soft limit.",
    StoreObjects = Gauge "store" "objects" "Stored responses.",
    StoreBytes = Gauge "store" "bytes" "Bytes they take, bookkeeping included.",
    StoreLimitBytes = Gauge "store" "limit_bytes" "Bytes they may take (store.memory).",
    StoreTags = Gauge "store" "tags" "Tags that a stored response carries.",
    StoreInsertions = Counter "store" "insertions_total" "Responses that were stored.",
    StoreEvictions = Counter "store" "evictions_total" "Responses that made room for others.",
    StoreFenced = Counter "store" "fenced_total"
        "Responses that were not stored since a purge came while they were under way.",
    SnapshotPages = Gauge "snapshot" "pages" "Responses in the last snapshot that this process wrote.",
    SnapshotBytes = Gauge "snapshot" "bytes" "Its bytes.",
    SnapshotAge = Gauge "snapshot" "age_seconds" "Seconds since it was written.",
    SnapshotFailures = Counter "snapshot" "failures_total"
        "Snapshots that could not be written; the one before stays.",
    SnapshotRestored = Counter "snapshot" "restored_total"
        "Responses that came from a snapshot, or from the process before this one.",
    FillsInFlight = Gauge "fill" "in_flight" "Fetches for the store under way.",
    FillWaiters = Gauge "fill" "waiters" "Requests that wait for another request's fetch.",
    FillRefreshes = Gauge "fill" "refreshes" "Background refreshes under way.",
    OriginInUse = Gauge "origin" "in_use" "Requests in the origin.",
    OriginQueued = Gauge "origin" "queued" "Requests that wait for a place in the origin.",
    OriginHealthy = Gauge "origin" "healthy" "1 while the origin's probes pass.",
    AdmissionLimit = Gauge "admission" "limit" "Requests that may be in PHP now.",
    AdmissionCeiling = Gauge "admission" "ceiling"
        "What bounds that: the setting, or PHP-FPM's children without those busy for others.",
    AdmissionRetriesRefused = Counter "admission" "retries_refused_total"
        "Further tries at the origin that were not made, since too many were.",
    TrafficBudgetsAsked = Counter "traffic" "budgets_asked_total"
        "Requests that were counted for the whole fleet, in Redis.",
    TrafficBudgetsAlone = Counter "traffic" "budgets_alone_total"
        "Requests that this node counted for itself, since Redis was away or slow, or there is none.",
    TrafficBudgetsRefused = Counter "traffic" "budgets_refused_total"
        "Requests that were beyond a budget of the fleet.",
    RoomOn = Gauge "waiting_room" "on" "1 while visitors wait before the shop.",
    RoomAlone = Gauge "waiting_room" "alone" "1 while this node has a line of its own, since Redis is away.",
    RoomWaiting = Gauge "waiting_room" "waiting" "Visitors in the line, of the whole fleet.",
    RoomInside = Gauge "waiting_room" "inside"
        "Places inside that are in use, or kept for visitors whose turn it is, of the whole fleet.",
    RoomPerMinute = Gauge "waiting_room" "per_minute"
        "Visitors whose turn came within the last minute, of the whole fleet.",
    RoomDrawn = Counter "waiting_room" "drawn_total" "Visitors who had to wait, and drew a ticket here.",
    RoomAdmitted = Counter "waiting_room" "admitted_total" "Visitors who came in here, at once or after their wait.",
    RoomLooks = Counter "waiting_room" "looks_total" "Times that visitors looked whether it is their turn, and it was not.",
    RoomFull = Counter "waiting_room" "full_total" "Visitors who found the line full.",
    RoomUnanswered = Counter "waiting_room" "unanswered_total"
        "Questions to the line of the fleet that Redis did not answer.",
    BotsKnown = Gauge "bots" "known" "Bots that are known by their names.",
    BotsFilesWrong = Gauge "bots" "files_wrong"
        "Files with data of bots that are missing or broken; the last good ones are in use.",
    BotsRemembered = Gauge "bots" "remembered" "Addresses of which is known whether they are a bot's.",
    BotsWaiting = Gauge "bots" "waiting" "Look-ups of addresses that wait or are under way.",
    BotsProven = Counter "bots" "proven_total" "Look-ups that proved a bot.",
    BotsRefuted = Counter "bots" "refuted_total" "Look-ups that found an impostor.",
    BotsUnanswered = Counter "bots" "unanswered_total" "Look-ups that DNS did not answer.",
    BotsUnasked = Counter "bots" "unasked_total" "Look-ups that were not made, since too many waited.",
    PhpChildren = Gauge "php" "children" "Children that PHP-FPM has, by its status.",
    PhpActive = Gauge "php" "active" "Of them, those at work.",
    PhpIdle = Gauge "php" "idle" "Of them, those that wait for work.",
    PhpOthers = Gauge "php" "others" "Children at work for others than this server.",
    PhpListenQueue = Gauge "php" "listen_queue" "Connections that wait for a child in the kernel.",
    PhpMaxChildrenReached = Counter "php" "max_children_reached_total"
        "Times that PHP-FPM wanted more children than it may have.",
    FilesTimedOut = Counter "files" "timed_out_total" "Requests for files that the file system kept waiting (504).",
    FilesRefused = Counter "files" "refused_total" "Requests for files that a bound refused (503).",
    EsiMistakes = Counter "esi" "mistakes_total"
        "Mistakes in ESI that were left out: wrong tags, refused sources, too many or too deep includes.",
    SessionsQueued = Gauge "sessions" "queued" "Requests that wait for their turn in their session, before PHP.",
    SessionsQueuedTotal = Counter "sessions" "queued_total" "Requests that had to wait for it.",
    SessionsRefused = Counter "sessions" "refused_total"
        "Requests that were refused since their session was busy (429, 503).",
    FleetConnected = Gauge "fleet" "connected" "1 while Redis answers.",
    FleetSoft = Gauge "fleet" "soft"
        "1 while this node cannot prove that it knows of every purge: what has tags counts as stale.",
    FleetPosition = Gauge "fleet" "position" "The last entry of the log that was applied.",
    FleetLag = Gauge "fleet" "lag" "Entries between that and the log's end, as far as it is known.",
    FleetApplied = Counter "fleet" "applied_total" "Purges of other nodes that were applied.",
    FleetSoftened = Counter "fleet" "softened_total"
        "Times that everything tagged became stale, since purges may have been missed.",
    FleetJournal = Gauge "fleet" "journal" "Purges that wait in the journal for Redis.",
    FleetJournalBytes = Gauge "fleet" "journal_bytes" "Bytes that they take.",
    FleetExcused = Gauge "fleet" "excused"
        "Faults of this node that leave it ready, since too many nodes would be not ready otherwise.",
    SessionClients = Gauge "sessions" "clients" "Clients of the sessions that are connected.",
    SessionCommands = Counter "sessions" "commands_total" "Their commands.",
    SessionFailed = Counter "sessions" "failed_total"
        "Of these, those that got an error since the Redis was away or lost, or a bound was reached.",
    SessionRetried = Counter "sessions" "retried_total"
        "Times that commands were sent again which surely had changed nothing.",
    SessionMalformed = Counter "sessions" "malformed_total" "Clients that sent what is no command.",
    SessionsUnknown = Counter "sessions" "php_unknown_total"
        "Requests with a session that went to PHP, of visitors whose record could not be read or had in time.",
    SessionsNew = Counter "sessions" "php_new_total" "Of visitors whose session is none yet.",
    SessionsGuest = Counter "sessions" "php_guest_total" "Of guests with nothing in a cart.",
    SessionsCart = Counter "sessions" "php_cart_total" "Of guests who have had something in the cart.",
    SessionsCustomer = Counter "sessions" "php_customer_total" "Of customers who are logged in.",
    SessionsAdmin = Counter "sessions" "php_admin_total" "Of users of the administration.",
    SessionLocksHeld = Gauge "sessions" "locks_held" "Locks of sessions that clients of this server have.",
    SessionLocksWaiting = Gauge "sessions" "locks_waiting" "Tries for a lock that are held until it is free.",
    SessionLocksTaken = Counter "sessions" "locks_taken_total" "Locks that were taken.",
    SessionLocksWaited = Counter "sessions" "locks_waited_total" "Tries that had to wait.",
    SessionLocksUnanswered = Counter "sessions" "locks_unanswered_total"
        "Of these, those that got the plain answer in the end, with which PHP tries again by itself.",
    SessionLocksFreed = Counter "sessions" "locks_freed_total" "Locks that were freed for who had gone.",
    SessionTrunks = Gauge "sessions" "trunks" "Connections to the sessions' Redis that clients share.",
    SessionAlone = Gauge "sessions" "alone" "Connections to it that one client has for itself.",
    SessionTrunksLost = Counter "sessions" "trunks_lost_total" "Shared connections that were lost.",
    SessionConnectFailures = Counter "sessions" "connect_failures_total" "Tries to connect that failed.",
    PeersKnown = Gauge "peers" "known" "Other nodes from which this one may get pages.",
    PeersAsked = Counter "peers" "asked_total" "Pages that were asked for at the nodes that own them.",
    PeersBorrowed = Counter "peers" "borrowed_total" "Pages that came from there.",
    PeersFailed = Counter "peers" "failed_total"
        "Questions without an answer: the node was away, too slow, or answered something wrong.",
    PeersLent = Counter "peers" "lent_total" "Pages that were given to other nodes.",
    PeersRefused = Counter "peers" "refused_total"
        "Requests and connections on fleet.listen that no node of this fleet made, or made before (403).",
    WarmPercent = Gauge "warm" "percent"
        "What this node had of the weight of the others' hits when it started, in percent.",
    WarmTaken = Counter "warm" "taken_total" "Pages that were taken from other nodes in advance.",
    WarmTakenBytes = Counter "warm" "taken_bytes_total" "Their bytes.",
    WarmRefused = Counter "warm" "refused_total"
        "Pages that came in advance and were not stored, purged meanwhile in most cases.",
    WarmGiven = Counter "warm" "given_total" "Pages that were given to nodes in advance.",
    WarmGivenBytes = Counter "warm" "given_bytes_total" "Their bytes.",
    ObjectsKeys = Gauge "objects" "keys" "Keys of the object cache, tags included.",
    ObjectsBytes = Gauge "objects" "bytes" "Bytes they take, bookkeeping included.",
    ObjectsSetsBytes = Gauge "objects" "sets_bytes" "Bytes of that which sets take, which are its tags.",
    ObjectsLimitBytes = Gauge "objects" "limit_bytes" "Bytes they may take (objects.memory).",
    ObjectsCommands = Counter "objects" "commands_total" "Commands of the object cache's clients.",
    ObjectsHits = Counter "objects" "hits_total" "Keys that were read and there.",
    ObjectsMisses = Counter "objects" "misses_total" "Keys that were read and not there.",
    ObjectsExpired = Counter "objects" "expired_total" "Keys whose time was over.",
    ObjectsEvictions = Counter "objects" "evictions_total" "Keys that made room for others.",
    ObjectsResets = Counter "objects" "resets_total"
        "Times that a database began anew, since its sets alone took half of the memory.",
    ObjectsClients = Gauge "objects" "clients" "Clients of the object cache that are connected.",
    ObjectsConnections = Counter "objects" "connections_total" "Connections of the object cache.",
    ObjectsRefused = Counter "objects" "refused_connections_total"
        "Connections that were ended for what came over them: no command, or too large a one.",
    ObjectsCleans = Counter "objects" "cleans_total"
        "Cleans that were done in the object cache, those of other nodes and the echoes included.",
    ObjectsUnkept = Counter "objects" "unkept_total"
        "Values that were not kept, since they were older than a clean.",
    ObjectsRefusedScripts = Counter "objects" "refused_scripts_total"
        "Lua scripts that are not known, and were refused.",
    ObjectsMessageFailures = Counter "objects" "message_failures_total"
        "Turns in which messages between nodes did not go through Redis.",
    ObjectsCleansTold = Counter "objects" "cleans_told_total"
        "Cleans by clients of this node, which the other nodes are told of.",
    ObjectsCleansApplied = Counter "objects" "cleans_applied_total" "Cleans of other nodes that were done here.",
    ObjectsCleansEchoed = Counter "objects" "cleans_echoed_total"
        "Cleans that were done once more, since they may have come before what they are for was visible.",
    ObjectsCleansMissed = Counter "objects" "cleans_missed_total"
        "Times that all databases were emptied, since cleans may have been missed.",
    ListenConnections = Gauge "listen" "connections" "Open client connections.",
    ListenUpgrades = Gauge "listen" "upgrades"
        "Connections that have left HTTP (WebSocket), or wait for the origin's answer to that.",
    ListenCopiesBytes = Gauge "listen" "copies_bytes"
        "Memory of copies of large responses that leave often.",
    ListenRefusedConnections = Counter "listen" "refused_connections_total"
        "Connections that were refused over a limit.",
    ListenBadRequests = Counter "listen" "bad_requests_total"
        "Malformed requests that were refused before they had a verdict.",
    ListenHttp2Cut = Counter "listen" "cut_connections_total"
        "HTTP/2 connections that were ended for floods, resets or stalls.",
}

/// The numbers at one moment; what nobody set is not shown.
#[derive(Clone, Debug)]
pub struct Readings {
    single: [Option<u64>; Reading::ALL.len()],
    labelled: Vec<(Labelled, String, u64)>,
}

impl Default for Readings {
    fn default() -> Self {
        Self { single: [None; Reading::ALL.len()], labelled: Vec::new() }
    }
}

impl Readings {
    /// Notes a number; a yes or no is 1 or 0.
    pub fn set(&mut self, reading: Reading, value: impl Into<u64>) {
        self.single[reading as usize] = Some(value.into());
    }

    /// Notes a number for one value of a label: a word without quotes and backslashes.
    pub fn set_labelled(&mut self, reading: Labelled, word: &str, value: impl Into<u64>) {
        self.labelled.push((reading, word.to_owned(), value.into()));
    }

    /// Those of one metric.
    pub fn labelled(&self, of: Labelled) -> impl Iterator<Item = (&str, u64)> + '_ {
        let own = self.labelled.iter().filter(move |(reading, ..)| *reading == of);
        own.map(|(_, word, value)| (word.as_str(), *value))
    }

    /// As [`Readings::set`], for lengths.
    pub fn set_count(&mut self, reading: Reading, value: usize) {
        self.set(reading, value as u64);
    }

    /// The numbers that were set.
    pub fn iter(&self) -> impl Iterator<Item = (Reading, u64)> + '_ {
        Reading::ALL
            .iter()
            .zip(&self.single)
            .filter_map(|(reading, value)| Some((*reading, (*value)?)))
    }
}
