//! Who reads, who writes, and who watches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::history::{Lateness, Poll, Reach, Read, Write};
use super::world::{Node, World};
use super::{NODES, PATIENCE, blocks};
use crate::support::Reply;
use crate::support::chance::Chance;
use crate::support::client::Client;

/// A kept connection to a node, which is made again where it breaks.
struct Door<'a> {
    node: &'a Node,
    client: Option<Client>,
}

impl<'a> Door<'a> {
    fn to(node: &'a Node) -> Self {
        Self { node, client: None }
    }

    /// `Err`: there was no whole response. A connection that is used again is as new, since the node
    /// may have ended meanwhile.
    fn ask(&mut self, request: &[u8]) -> std::io::Result<Reply> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::to(self.node.http, 2 * PATIENCE)?,
        };
        let reply = client.exchange(request)?;
        if reply.header("connection") != Some("close") {
            self.client = Some(client);
        }
        Ok(reply)
    }
}

/// Reads pages of one node until the run is over. `reader` 0 has the slow pages, if there are any.
pub fn read(world: &World, node: &Node, reader: usize) -> Vec<Read> {
    let plan = &world.plan;
    let slow = plan.slow_pages;
    let pages = if slow > 0 && reader == 0 { 0..slow } else { slow..plan.pages };
    let (mut random, mut door) = (Chance::of((node.at * 100 + reader) as u64 + 1), Door::to(node));
    let mut reads = Vec::new();
    while !world.is_over() {
        let page = pages.start + random.below(pages.len());
        let request = format!("GET /page-{page} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        let was_away = node.is_away.load(Ordering::SeqCst);
        let began = world.now();
        let answer = door.ask(request.as_bytes());
        let ended = world.now();
        match answer {
            Ok(reply) if reply.status == 200 => {
                let status = reply.cache_status();
                let is_marked =
                    status.contains("; hit") && status.contains("detail=") && !reply.is_collapsed();
                let text = reply.text();
                let version = text.split(' ').next().and_then(|word| word.parse().ok());
                let version = version.expect("a version");
                reads.push(Read { node: node.at, page, version, began, ended, is_marked });
                world.reads.fetch_add(1, Ordering::SeqCst);
            }
            _ if was_away || node.is_away.load(Ordering::SeqCst) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(reply) => world.fail(format!(
                "node {} answered {} at {ended:?}, {}",
                node.at,
                reply.status,
                reply.cache_status()
            )),
            Err(error) => {
                world.fail(format!("node {} at {ended:?}, asked at {began:?}: {error}", node.at));
            }
        }
        std::thread::sleep(plan.read_pause);
    }
    reads
}

/// Changes the pages of one writer, one after the other.
pub fn write(world: &World, at: usize) -> Vec<Write> {
    let plan = &world.plan;
    let mut random = Chance::of((1_000 + at) as u64 + 1);
    let mut writes = Vec::new();
    while !world.is_over() {
        if !world.writes.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let own = plan.pages.div_ceil(plan.writers);
        let page = random.below(own) * plan.writers + at;
        let node = &world.nodes[random.below(NODES)];
        let is_left_alone = |node: &Node| {
            node.is_quiet.load(Ordering::SeqCst) || node.is_away.load(Ordering::SeqCst)
        };
        if page >= plan.pages || is_left_alone(node) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        writes.push(change(world, node, page, &mut random));
        std::thread::sleep(plan.write_pause);
    }
    writes
}

/// Commits, cleans the block that the page is rendered from, and purges; one in five commits last, where the
/// plan says so.
fn change(world: &World, node: &Node, page: usize, random: &mut Chance) -> Write {
    let echo = world.plan.rules.echo;
    let version = world.shop.version(page) + 1;
    let is_early = world.plan.early && random.below(5) == 0;
    let mut visible = Duration::MAX;
    if !is_early {
        world.shop.commit(page, version);
        visible = world.now();
    }
    let wait = if random.below(8) == 0 { "X-Parvis-Wait: fleet\r\n" } else { "" };
    let request = format!(
        "PURGE / HTTP/1.1\r\nHost: shop.test\r\nX-Magento-Tags-Pattern: ((^|,)cat_p_{page}(,|$))\r\n\
         {wait}\r\n"
    );
    let sent = world.now();
    let is_cleaned = !blocks::has(page) || clean(world, node, page, random.below(2) == 0);
    let answer = Door::to(node).ask(request.as_bytes());
    let at = world.now();
    if is_early {
        std::thread::sleep(echo.mul_f64(random.below(50) as f64 / 100.0));
        world.shop.commit(page, version);
        visible = world.now();
    }
    let reach = match &answer {
        Ok(reply) => match (reply.status, reply.header("x-parvis-reach")) {
            (200, Some("fleet")) => Some(Reach::Fleet),
            (200, Some("logged")) | (202, Some("lagging")) => Some(Reach::Logged),
            (202, Some("journaled")) => Some(Reach::Journaled),
            (status, reach) => {
                world.fail(format!("a purge at node {} got {status} {reach:?}", node.at));
                None
            }
        },
        Err(_) if node.is_away.load(Ordering::SeqCst) => None,
        Err(error) => {
            world.fail(format!("a purge at node {}: {error}", node.at));
            None
        }
    };
    // Where this thread slept for too long, the echo may have come before the commit.
    let is_in_time = !is_early || visible.saturating_sub(sent) < echo.mul_f64(0.9);
    let acked = reach.filter(|_| is_in_time && is_cleaned).map(|reach| (at, reach));
    Write { page, version, node: node.at, visible, sent, acked }
}

/// False: the node did not say that it has.
fn clean(world: &World, node: &Node, page: usize, by_script: bool) -> bool {
    match node.php().and_then(|mut php| php.clean(page, by_script)) {
        Ok(()) => true,
        Err(_) if node.is_away.load(Ordering::SeqCst) => false,
        Err(error) => {
            world.fail(format!("a clean at node {}: {error}", node.at));
            false
        }
    }
}

/// Looks at a node's figures.
pub fn poll(world: &World, node: &Node) -> Vec<Poll> {
    let mut polls = Vec::new();
    while !world.is_over() {
        let began = world.now();
        let (ended, is_current, place) = (world.now(), false, None);
        let nothing = Poll { node: node.at, began, ended, is_current, place };
        polls.push(node.poll(world.origin).unwrap_or(nothing));
        std::thread::sleep(Duration::from_millis(50));
    }
    polls
}

/// Measures how late this machine wakes who sleeps.
pub fn watch(world: &World) -> Lateness {
    let mut lateness = Lateness::default();
    let pause = Duration::from_millis(5);
    while !world.is_over() {
        let began = world.now();
        std::thread::sleep(pause);
        let now = world.now();
        let late = now.saturating_sub(began + pause);
        if late > Duration::from_millis(2) {
            lateness.note(now, late);
        }
    }
    lateness
}
