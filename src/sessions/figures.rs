//! What is to be seen of sessions from outside: numbers, and which parts of the shop hold locks. No
//! id of a session or of anything else, and no content.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::resp::Request;

/// Letters of a path that are shown.
const PATH_LETTERS_MAX: usize = 100;
/// Letters of a segment that may be a name; longer ones with digits or capitals are ids.
const NAME_LETTERS_MAX: usize = 20;

/// The sessions as one server sees them. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFigures {
    /// Clients that are connected.
    pub clients: u64,
    /// Connections to the Redis behind; zero where this server keeps the sessions itself.
    pub connections: u64,
    /// Commands that came.
    pub commands: u64,
    /// Of them those that got an error of this server's.
    pub failed: u64,
    /// Locks.
    pub locks: LockFigures,
    /// Requests before PHP.
    pub queue: QueueFigures,
    /// Who holds locks through this server, those that hold most first.
    pub holders: Vec<Holder>,
}

/// Locks of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFigures {
    /// That clients of this server have.
    pub held: u64,
    /// Tries that are held now.
    pub waiting: u64,
    /// That were taken.
    pub taken: u64,
    /// Tries that had to be held.
    pub waited: u64,
    /// Of them those that got Redis' plain answer in the end.
    pub unanswered: u64,
    /// That were freed for who had gone.
    pub freed: u64,
}

/// Requests that wait for their session before PHP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFigures {
    /// Now.
    pub waiting: u64,
    /// That had to.
    pub waited: u64,
    /// That were refused.
    pub refused: u64,
}

/// A part of the shop whose requests hold locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The method and path, without what may be an id.
    pub path: String,
    /// Sessions.
    pub sessions: u64,
    /// How long the one has been held that is held longest, in milliseconds.
    pub longest_ms: u64,
}

/// Who knows the figures.
pub trait Source: Send + Sync {
    /// The figures of now.
    fn figures(&self) -> SessionFigures;
}

/// Which paths hold locks, as the session handler says when it takes one: the field `req`.
pub struct Holders {
    key_prefix: Vec<u8>,
    number: AtomicU64,
    /// One a client at most.
    held: Mutex<HashMap<u64, (String, Moment)>>,
}

impl Holders {
    /// Of keys that begin so.
    pub fn new(key_prefix: &[u8]) -> Self {
        Self {
            key_prefix: key_prefix.to_owned(),
            number: AtomicU64::new(0),
            held: Mutex::default(),
        }
    }

    /// A client that has connected; dropping it is its disconnecting.
    pub fn client(self: &Arc<Self>) -> HolderClient {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        HolderClient { holders: Arc::clone(self), number }
    }

    /// By path, those that hold most first.
    pub fn by_path(&self, now: Moment) -> Vec<Holder> {
        let mut paths: HashMap<String, (u64, Moment)> = HashMap::new();
        for (path, since) in self.held.lock().values() {
            let (sessions, first) = paths.entry(path.clone()).or_insert((0, *since));
            *sessions += 1;
            *first = (*first).min(*since);
        }
        let holder = |(path, (sessions, since)): (String, (u64, Moment))| {
            let longest = now.since(since).as_millis();
            Holder { path, sessions, longest_ms: u64::try_from(longest).unwrap_or(u64::MAX) }
        };
        let mut all: Vec<Holder> = paths.into_iter().map(holder).collect();
        all.sort_by(|one, other| {
            let order =
                |holder: &Holder| (u64::MAX - holder.sessions, u64::MAX - holder.longest_ms);
            order(one).cmp(&order(other)).then_with(|| one.path.cmp(&other.path))
        });
        all
    }
}

/// One client, as far as it holds a lock.
pub struct HolderClient {
    holders: Arc<Holders>,
    number: u64,
}

impl HolderClient {
    /// The client has sent this command.
    pub fn wrote(&self, command: &Request, now: Moment) {
        let prefix = &self.holders.key_prefix[..];
        if !command.arg(1).is_some_and(|key| key.starts_with(prefix)) {
            return;
        }
        let is_write = command.is("HMSET") || command.is("HSET");
        let field = |name: &[u8]| {
            let mut names = (2..command.len()).step_by(2);
            names.find(|at| command.arg(*at) == Some(name)).and_then(|at| command.arg(at + 1))
        };
        let mut held = self.holders.held.lock();
        if command.is("DEL") || command.is("UNLINK") || (is_write && field(b"lock") == Some(b"0")) {
            held.remove(&self.number);
        } else if is_write
            && field(b"lock") == Some(b"1")
            && let Some(request) = field(b"req")
        {
            held.insert(self.number, (path_of(request), now));
        }
    }
}

impl Drop for HolderClient {
    fn drop(&mut self) {
        self.holders.held.lock().remove(&self.number);
    }
}

/// `GET shop.test/checkout/cart/add/product/1/?x=y` as `GET /checkout/cart/add/product/*/`.
fn path_of(request: &[u8]) -> String {
    let request = String::from_utf8_lossy(request);
    let (method, url) = request.split_once(' ').unwrap_or(("", &request));
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let path = url.split_once('/').map_or("", |(_host, path)| path);
    let segments: Vec<&str> =
        path.split('/').map(|part| if is_id(part) { "*" } else { part }).collect();
    let shown = |letter: char| if letter.is_ascii_graphic() { letter } else { '?' };
    let method = method.chars().filter(char::is_ascii_uppercase).take(10);
    let path = segments.join("/");
    method.chain(" /".chars()).chain(path.chars().map(shown)).take(PATH_LETTERS_MAX).collect()
}

/// A number, or something long that no word is like: ids, encoded URLs, tokens.
fn is_id(segment: &str) -> bool {
    let has = |kind: fn(&char) -> bool| segment.chars().any(|letter| kind(&letter));
    let digits = !segment.is_empty() && segment.chars().all(|letter| letter.is_ascii_digit());
    let long = segment.len() > NAME_LETTERS_MAX && !segment.contains('.');
    digits
        || segment.contains(['%', '@', '='])
        || (long && has(|letter| letter.is_ascii_digit() || letter.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::of(Duration::from_secs(seconds))
    }

    fn command(text: &str) -> Request {
        Request::pack(&text.split('|').map(str::as_bytes).collect::<Vec<_>>())
    }

    fn take(path: &str) -> Request {
        command(&format!("HMSET|sess_a|pid|vm/1|lock|1|req|{path}"))
    }

    #[test]
    fn holders_are_counted_by_path_until_they_let_go_or_leave() {
        let holders = Arc::new(Holders::new(b"sess_"));
        let clients: Vec<HolderClient> = (0..4).map(|_| holders.client()).collect();
        clients[0].wrote(&take("GET shop.test/checkout/cart/"), at(1));
        clients[1].wrote(&take("GET shop.test/checkout/cart/?x=1"), at(3));
        clients[2].wrote(&take("POST shop.test/customer/section/load/"), at(2));
        clients[3].wrote(&command("HMSET|sess_a|data|x|lock|0"), at(2));
        let paths = |holders: &Holders| -> Vec<(String, u64, u64)> {
            let all = holders.by_path(at(5)).into_iter();
            all.map(|holder| (holder.path, holder.sessions, holder.longest_ms)).collect()
        };
        let cart = |sessions, longest| ("GET /checkout/cart/".to_owned(), sessions, longest);
        let section = ("POST /customer/section/load/".to_owned(), 1, 3_000);
        assert_eq!(paths(&holders), [cart(2, 4_000), section.clone()]);
        clients[0].wrote(&command("HMSET|sess_a|data|x|lock|0"), at(4));
        assert_eq!(paths(&holders), [section.clone(), cart(1, 2_000)]);
        clients[1].wrote(&command("UNLINK|sess_b"), at(4));
        assert_eq!(paths(&holders), [section]);
        drop(clients);
        assert!(holders.by_path(at(5)).is_empty());
    }

    #[test]
    fn a_path_shows_no_host_no_query_and_no_id() {
        for (request, expected) in [
            ("GET shop.test/", "GET /"),
            ("GET shop.test/category-1.html?p=2", "GET /category-1.html"),
            (
                "POST shop.test/checkout/cart/add/uenc/aHR0cHM6Ly9zaG9wLnRlc3Qv/product/1/",
                "POST /checkout/cart/add/uenc/*/product/*/",
            ),
            (
                "GET shop.test/rest/V1/guest-carts/Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4e/totals",
                "GET /rest/V1/guest-carts/*/totals",
            ),
            (
                "GET shop.test/a-long-name-of-a-product-with-a-2.html",
                "GET /a-long-name-of-a-product-with-a-2.html",
            ),
            ("GET shop.test/newsletter/x@y.test/", "GET /newsletter/*/"),
            ("GET shop.test/\u{1b}[2J\n", "GET /?[2J?"),
            ("cli", " /"),
            ("", " /"),
        ] {
            assert_eq!(path_of(request.as_bytes()), expected, "{request:?}");
        }
        assert!(path_of(format!("GET a/{}", "x/".repeat(1_000)).as_bytes()).len() <= 100);
    }
}
