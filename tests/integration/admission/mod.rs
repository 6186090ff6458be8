//! Whose request goes to PHP next, before a real PHP-FPM with few children.

mod classes;
mod limit;
mod overload;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::support::client;
use super::support::parvis::Builder;
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

/// Checkout before pages.
const TWO_CLASSES: &str = "[[admission.class]]\nname = \"checkout\"\nrank = 1\npaths = [\"/checkout\"]\n\
    [[admission.class]]\nname = \"pages\"\nrank = 5\nshare_percent = 10\nqueue_timeout = \"1s\"\n";

/// The same bounds for all.
const ONE_CLASS: &str = "[[admission.class]]\nname = \"all\"\nrank = 5\nqueue_timeout = \"1s\"\n";

fn before(php: &Php, children: usize) -> Builder {
    Parvis::before_php_with_knobs(php)
        .with("origin.concurrency_max", &children.to_string())
        .with("admission.limit_min", "1")
}

/// Clients that ask one after the other until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Answers with 200, with 503, and others.
    answers: Arc<[AtomicUsize; 3]>,
}

impl Clients {
    /// So many clients that ask for targets of this beginning, each for another one.
    fn start(parvis: &Parvis, count: usize, beginning: &'static str) -> Self {
        let (stop, answers) =
            (Arc::new(AtomicBool::new(false)), Arc::<[AtomicUsize; 3]>::default());
        let client = |client: usize| {
            let (stop, answers, port) = (Arc::clone(&stop), Arc::clone(&answers), parvis.port);
            thread::spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let target = format!("{beginning}&c={client}&n={number}");
                    let status = client::get(port, &target, &[]).status;
                    let place = match status {
                        200 => 0,
                        503 => 1,
                        _ => 2,
                    };
                    answers[place].fetch_add(1, Ordering::SeqCst);
                    if status != 200 {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            })
        };
        let threads = (0..count).map(client).collect();
        Self { stop, threads, answers }
    }

    fn seen(&self) -> [usize; 3] {
        [0, 1, 2].map(|place| self.answers[place].load(Ordering::SeqCst))
    }

    /// Ends them, and says what they got: 200, 503, others.
    fn stop(self) -> [usize; 3] {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        [0, 1, 2].map(|place| self.answers[place].load(Ordering::SeqCst))
    }
}

/// Asks in a thread of its own.
fn ask_beside(parvis: &Parvis, target: &str) -> JoinHandle<Reply> {
    let (port, target) = (parvis.port, target.to_owned());
    thread::spawn(move || client::get(port, &target, &[]))
}

/// Asks, and waits until so many requests wait for a place.
fn queue(parvis: &Parvis, target: &str, waiting: usize) -> JoinHandle<Reply> {
    let reply = ask_beside(parvis, target);
    wait_until("a request in the queue", Duration::from_secs(10), || {
        parvis.metric("parvis_origin_queued ") == Some(waiting as f64)
    });
    reply
}

/// Has PHP work for so long, and waits until it does.
fn occupy(parvis: &Parvis, milliseconds: usize) -> JoinHandle<Reply> {
    let reply = ask_beside(parvis, &format!("/customer/long?work={milliseconds}"));
    wait_until("a request in PHP", Duration::from_secs(10), || {
        parvis.metric("parvis_origin_in_use ") == Some(1.0)
    });
    reply
}
