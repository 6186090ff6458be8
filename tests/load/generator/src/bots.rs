//! Bots: requests at a rate of their own, whatever the server does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::calls::{Call, filtered, rare_word};
use crate::client::Client;
use crate::visitor::request;
use crate::world::{Asking, World, judge};

/// Four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Follows the links of layered navigation, from many addresses, as a browser.
    Facet,
    /// Searches, fills carts, tries passwords, from a few addresses.
    Abuse,
    /// A search engine that says who it is.
    Good,
    /// Follows the links of layered navigation as a browser, from 200 addresses of 200 networks.
    Crawler,
}

/// From how many addresses a crawler comes.
const CRAWLER_ADDRESSES: u8 = 200;
const BROWSER: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
const SCRIPT: &str = "python-requests/2.31.0";
const SEARCH_ENGINE: &str =
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

impl Kind {
    fn call(self, random: &mut Rng, world: &World) -> (Call, String, &'static str) {
        let catalogue = world.plan.catalogue;
        let get = |kind, target| Call { kind, target, post: None, script: false };
        match self {
            Self::Facet => {
                let address =
                    format!("45.{}.{}.{}", random.u8(..16), random.u8(..), random.u8(1..255));
                (get("facet", filtered(random, catalogue)), address, BROWSER)
            }
            Self::Crawler => {
                let address = format!("45.40.{}.9", random.u8(..CRAWLER_ADDRESSES));
                (get("crawler", filtered(random, catalogue)), address, BROWSER)
            }
            Self::Abuse => {
                let address = format!("193.32.7.{}", random.u8(1..50));
                let call = match random.u8(..10) {
                    0..5 => get("abuse", format!("/catalogsearch/result/?q={}", rare_word(random))),
                    5..8 => {
                        let product = random.usize(1..=catalogue.products);
                        let content = format!("product={product}&form_key=abcdefghijklmnop&qty=1");
                        let target = format!("/checkout/cart/add/product/{product}/");
                        Call { kind: "abuse", target, post: Some((content, false)), script: false }
                    }
                    _ => {
                        let content = format!(
                            "form_key=abcdefghijklmnop&login%5Busername%5D={}%40shop.test&login%5Bpassword%5D=wrong",
                            rare_word(random)
                        );
                        Call {
                            kind: "abuse",
                            target: "/customer/account/loginPost/".to_owned(),
                            post: Some((content, false)),
                            script: false,
                        }
                    }
                };
                (call, address, SCRIPT)
            }
            Self::Good => {
                let address = format!("66.249.66.{}", random.u8(1..30));
                let target = if random.u8(..4) == 0 {
                    format!(
                        "/category-{}.html?p={}",
                        random.usize(1..=catalogue.categories),
                        random.u8(1..6)
                    )
                } else {
                    format!("/simple-product-{}.html", random.usize(1..=catalogue.products))
                };
                (get("goodbot", target), address, SEARCH_ENGINE)
            }
        }
    }
}

/// Sends requests of one kind at a rate for a phase, on connections that are kept.
pub async fn crawl(
    world: Rc<World>,
    kind: Kind,
    rate: f64,
    begin: Instant,
    seconds: f64,
    mut random: Rng,
) {
    let idle: Rc<RefCell<Vec<Client>>> = Rc::default();
    let open = Rc::new(Cell::new(0));
    let end = begin + Duration::from_secs_f64(seconds);
    let mut due = begin;
    loop {
        due += gap(&mut random, rate);
        if due >= end {
            return;
        }
        sleep_until(due).await;
        world.late(due);
        let client = idle.borrow_mut().pop();
        let mut client = match client {
            Some(client) => client,
            None if open.get() < world.plan.bot_connections_max => {
                open.set(open.get() + 1);
                world.client()
            }
            None => {
                let (sessions, bots) = world.unsent.get();
                world.unsent.set((sessions, bots + 1));
                continue;
            }
        };
        let (call, address, agent) = kind.call(&mut random, &world);
        let (world, idle) = (Rc::clone(&world), Rc::clone(&idle));
        tokio::task::spawn_local(async move {
            let cookies = call.post.is_some().then_some("form_key=abcdefghijklmnop");
            let message = request(&world.plan.host, &call, &address, agent, cookies);
            let asking = Asking { kind: call.kind, due };
            let patience = world.patience();
            // Who drives bots ends them with the phase.
            let rest = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(rest, client.ask(&message, patience)).await {
                Ok(answer) => {
                    let result = judge(&call, None, &answer);
                    world.record(asking, result);
                    idle.borrow_mut().push(client);
                }
                Err(_) => world.record_left(asking),
            }
        });
    }
}

/// The time to the next of arrivals that know nothing of each other.
pub fn gap(random: &mut Rng, rate: f64) -> Duration {
    let seconds = -(1.0 - random.f64()).ln() / rate.max(1e-6);
    Duration::from_secs_f64(seconds.min(3600.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate() {
        let mut random = Rng::with_seed(6);
        let all: Duration = (0..10_000).map(|_| gap(&mut random, 50.0)).sum();
        assert!((180.0..220.0).contains(&all.as_secs_f64()), "{all:?}");
    }
}
