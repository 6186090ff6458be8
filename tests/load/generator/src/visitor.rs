//! A visitor: a browser with cookies of its own that goes through a journey.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::answer::{Cookie, Head};
use crate::calls::{Call, Visit};
use crate::client::Client;
use crate::journey::{Profile, Step, journey};
use crate::world::{Asking, Levels, World, judge};

/// How often somebody tries to put a product into the cart.
const ADD_TRIES: usize = 3;
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// Cookies, as far as the shop uses them.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    /// PHPSESSID.
    pub session: Option<String>,
    form_key: Option<String>,
    vary: Option<String>,
    version: Option<String>,
}

impl Jar {
    /// Takes what an answer sets.
    pub fn take(&mut self, cookies: &[Cookie]) {
        for cookie in cookies {
            let place = match cookie.name.as_str() {
                "PHPSESSID" => &mut self.session,
                "form_key" => &mut self.form_key,
                "X-Magento-Vary" => &mut self.vary,
                "private_content_version" => &mut self.version,
                _ => continue,
            };
            *place = (!cookie.value.is_empty()).then(|| cookie.value.clone());
        }
    }

    fn line(&self, form_key: &str) -> String {
        let mut line = format!(
            "form_key={}; mage-cache-sessid=true",
            self.form_key.as_deref().unwrap_or(form_key)
        );
        let others = [
            ("PHPSESSID", &self.session),
            ("X-Magento-Vary", &self.vary),
            ("private_content_version", &self.version),
        ];
        for (name, value) in others {
            if let Some(value) = value {
                let _ = write!(line, "; {name}={value}");
            }
        }
        line
    }
}

/// A request as it goes over the wire.
pub fn request(
    host: &str,
    call: &Call,
    address: &str,
    agent: &str,
    cookies: Option<&str>,
) -> Vec<u8> {
    let method = if call.post.is_some() { "POST" } else { "GET" };
    let accept = if call.script {
        "application/json, text/javascript, */*; q=0.01"
    } else {
        "text/html,application/xhtml+xml,*/*;q=0.8"
    };
    let mut text = format!(
        "{method} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Language: en-US,en;q=0.5\r\n\
         Accept-Encoding: gzip, deflate, br\r\nX-Forwarded-For: {address}\r\n",
        call.target
    );
    if call.script {
        text.push_str("X-Requested-With: XMLHttpRequest\r\n");
    }
    if let Some(cookies) = cookies {
        let _ = write!(text, "Cookie: {cookies}\r\n");
    }
    if let Some((content, is_json)) = &call.post {
        let kind = if *is_json { "application/json" } else { "application/x-www-form-urlencoded" };
        let _ = write!(
            text,
            "Origin: http://{host}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{content}",
            content.len()
        );
    } else {
        text.push_str("\r\n");
    }
    text.into_bytes()
}

/// A session under way.
pub struct Session {
    world: Rc<World>,
    client: Client,
    jar: Jar,
    visit: Visit,
    address: String,
    /// When the next request is to be sent.
    due: Instant,
    asking: Cell<Option<Asking>>,
}

impl Session {
    /// A new visitor, at an address of its own.
    pub fn new(world: &Rc<World>, mut random: Rng, due: Instant) -> Self {
        let address = format!("81.{}.{}.{}", random.u8(..), random.u8(..), random.u8(1..255));
        let visit = Visit::new(random, world.plan.catalogue);
        let client = world.client();
        Self {
            world: Rc::clone(world),
            client,
            jar: Jar::default(),
            visit,
            address,
            due,
            asking: Cell::new(None),
        }
    }

    /// Asks for one thing. Whether it came.
    pub async fn ask(&mut self, call: &Call) -> bool {
        let is_file = matches!(call.kind, "static" | "image");
        let cookies = self.jar.line(&self.visit.form_key);
        let sent = self.jar.session.clone();
        let message = request(
            &self.world.plan.host,
            call,
            &self.address,
            AGENT,
            (!is_file).then_some(&cookies),
        );
        let asking = Asking { kind: call.kind, due: self.due };
        self.asking.set(Some(asking));
        let answer = self.client.ask(&message, self.world.patience()).await;
        self.asking.set(None);
        if let Ok(head) = &answer {
            self.take(head);
        }
        let result = judge(call, sent.as_deref(), &answer);
        let came = result.is_ok();
        self.world.record(asking, result);
        self.due = Instant::now();
        came
    }

    fn take(&mut self, head: &Head) {
        self.jar.take(&head.cookies);
    }

    /// Thinks: half to one and a half of the time that is usual.
    async fn think(&mut self) {
        let usual = self.world.plan.think_ms as f64 / 1000.0;
        self.due += Duration::from_secs_f64(usual * (0.5 + self.visit.random.f64()));
        sleep_until(self.due).await;
        self.world.late(self.due);
    }

    /// Goes through all steps.
    async fn go(&mut self, steps: &[Step]) {
        for (at, step) in steps.iter().enumerate() {
            if at > 0 {
                self.think().await;
            }
            let mut tries = 0;
            while !self.step(*step).await {
                tries += 1;
                if *step != Step::Add {
                    break;
                }
                if tries == ADD_TRIES {
                    return;
                }
                self.think().await;
            }
        }
    }

    /// All requests of one step; where a page does not come, what it would ask for is not asked for either.
    pub async fn step(&mut self, step: Step) -> bool {
        for call in self.visit.calls(step) {
            let is_file = matches!(call.kind, "static" | "image");
            if !self.ask(&call).await && !is_file {
                return false;
            }
        }
        true
    }
}

/// How a visitor is to come.
pub struct Arrival {
    /// What is done.
    pub profile: Profile,
    /// When.
    pub at: Instant,
    /// Leaves when the level of its kind is not above this.
    pub mark: f64,
    /// Begins in the middle of the journey.
    pub under_way: bool,
    /// After the journey another visitor follows in this one's place.
    pub is_followed: bool,
}

/// Comes, goes through the journey, and leaves; counted while it is there.
pub async fn come(world: Rc<World>, arrival: Arrival, mut random: Rng) {
    let level = |levels: &Levels| match (arrival.is_followed, arrival.profile) {
        (true, _) => levels.users,
        (false, Profile::Buyer) => levels.buyers,
        (false, Profile::Browser) => levels.browsers,
    };
    if world.users.get() >= world.plan.users_max {
        let (sessions, bots) = world.unsent.get();
        world.unsent.set((sessions + 1, bots));
        return;
    }
    world.users.set(world.users.get() + 1);
    let mut levels = world.levels.subscribe();
    let leaves = levels.wait_for(|levels| level(levels) <= arrival.mark);
    tokio::pin!(leaves);
    let mut at = arrival.at;
    let mut under_way = arrival.under_way;
    loop {
        let mut steps = journey(arrival.profile, &mut random);
        if std::mem::take(&mut under_way) {
            skip(&mut steps, &mut random);
        }
        let mut session = Session::new(&world, random.fork(), at);
        let has_left = tokio::select! {
            _ = &mut leaves => true,
            () = async {
                sleep_until(at).await;
                world.late(at);
                world.sessions.set((world.sessions.get().0 + 1, world.sessions.get().1));
                session.go(&steps).await;
            } => false,
        };
        if has_left {
            if let Some(asking) = session.asking.get() {
                world.record_left(asking);
            }
            break;
        }
        world.sessions.set((world.sessions.get().0, world.sessions.get().1 + 1));
        if !arrival.is_followed {
            break;
        }
        // The next one comes after a think time, too, so that the number of pages in a second stays what it was.
        at =
            Instant::now() + Duration::from_millis(world.plan.think_ms).mul_f64(0.5 + random.f64());
    }
    world.users.set(world.users.get() - 1);
}

/// Leaves out the beginning of a journey, but nothing that the rest needs.
fn skip(steps: &mut Vec<Step>, random: &mut Rng) {
    let needed = steps.iter().position(|step| matches!(step, Step::Add | Step::LogIn));
    // The product's page comes before it.
    let most = needed.map_or(steps.len() - 1, |at| at.saturating_sub(1));
    steps.drain(..random.usize(0..=most));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jar_keeps_what_is_set_and_forgets_what_is_deleted() {
        let cookie =
            |name: &str, value: &str| Cookie { name: name.to_owned(), value: value.to_owned() };
        let mut jar = Jar::default();
        jar.take(&[cookie("PHPSESSID", "a"), cookie("X-Magento-Vary", "b"), cookie("other", "c")]);
        assert_eq!(
            jar.line("k"),
            "form_key=k; mage-cache-sessid=true; PHPSESSID=a; X-Magento-Vary=b"
        );
        jar.take(&[cookie("X-Magento-Vary", "")]);
        assert_eq!(jar.line("k"), "form_key=k; mage-cache-sessid=true; PHPSESSID=a");
    }

    #[test]
    fn what_is_skipped_is_not_needed_later() {
        let mut random = Rng::with_seed(5);
        for _ in 0..1_000 {
            let mut steps = journey(Profile::Buyer, &mut random);
            skip(&mut steps, &mut random);
            assert!(!steps.is_empty());
            if let Some(at) = steps.iter().position(|step| *step == Step::Add) {
                assert_eq!(steps[at - 1], Step::Product);
            }
            let cart = steps.iter().position(|step| *step == Step::Cart);
            assert!(cart.is_none_or(|at| steps[..at].contains(&Step::Add)));
        }
    }

    #[test]
    fn a_request_is_framed() {
        let call = Call {
            kind: "add",
            target: "/a".into(),
            post: Some(("x=1".into(), false)),
            script: true,
        };
        let text = String::from_utf8(request("h", &call, "1.2.3.4", "agent", Some("a=b"))).unwrap();
        assert!(text.starts_with("POST /a HTTP/1.1\r\nHost: h\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 3\r\n\r\nx=1"), "{text}");
        assert!(text.contains("\r\nX-Forwarded-For: 1.2.3.4\r\n"), "{text}");
    }
}
