//! What of a request decides, and who sends it: looked up only where a rule needs it, and once.

use std::cell::OnceCell;
use std::net::IpAddr;

use bytes::Bytes;
use http::Method;

use super::bots::is_local;
use super::challenge::Challenge;
use super::matching::{Besides, names};
use crate::exchange::{Client, Request};
use crate::fields::Fields;
use crate::settings::WhoKind;

/// What a client says of itself, and what is known of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It does not say that it is a bot.
    Browser,
    /// A bot of which it is not known whether it is the one it says.
    Unverified,
    /// A bot that is the one it says.
    Verified,
    /// It is not.
    Impostor,
}

/// What has to be looked up of who sends a request. Neither waits.
pub trait Knows {
    /// What it says of itself.
    fn declared(&self) -> Declared;
    /// The value of its session's cookie.
    fn session(&self) -> Option<Bytes>;
    /// Is it known that this session is none here?
    fn is_stranger(&self, session: &[u8]) -> bool;
    /// Is this session one of who is logged in?
    fn is_customer(&self, session: &[u8]) -> bool;
    /// Has it solved a challenge?
    fn has_passed(&self) -> bool;
    /// Is an address one of a proxy that is trusted?
    fn trusts(&self, address: IpAddr) -> bool;
    /// Is this parameter of the query dropped, so that it filters nothing?
    fn strips(&self, parameter: &[u8]) -> bool;
}

/// A request as rules see it.
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, raw.
    pub path: &'a [u8],
    /// Its query, raw.
    pub query: Option<&'a [u8]>,
    /// Its host.
    pub authority: &'a [u8],
    /// Its fields.
    pub fields: &'a Fields,
    /// The client, behind trusted hops.
    pub address: IpAddr,
    /// Did its address send forwarding headers that it is not trusted with?
    is_forged: bool,
    request: &'a Request,
    knows: &'a dyn Knows,
    declared: OnceCell<Declared>,
    proxys: OnceCell<bool>,
    session: OnceCell<Option<Bytes>>,
    customer: OnceCell<bool>,
    passed: OnceCell<bool>,
    can_be_challenged: OnceCell<bool>,
    facets: OnceCell<u32>,
}

impl<'a> Asked<'a> {
    /// Nothing is looked up yet.
    pub fn new(request: &'a Request, client: &Client, knows: &'a dyn Knows) -> Self {
        let query = request.query();
        Self {
            method: &request.method,
            path: request.path(),
            query,
            authority: &request.authority,
            fields: &request.fields,
            address: client.address,
            is_forged: client.forged,
            request,
            knows,
            declared: OnceCell::new(),
            proxys: OnceCell::new(),
            session: OnceCell::new(),
            customer: OnceCell::new(),
            passed: OnceCell::new(),
            can_be_challenged: OnceCell::new(),
            facets: OnceCell::new(),
        }
    }

    /// Is its address a proxy's, which named no client behind it that could be believed, so that it stands for many?
    /// So are those of `listen.trusted` themselves, this machine's, and others of a network of one's own with
    /// forwarding headers.
    pub fn is_proxys(&self) -> bool {
        let address = self.address;
        let look = || {
            address.is_loopback()
                || self.is_forged && is_local(address)
                || self.knows.trusts(address)
        };
        *self.proxys.get_or_init(look)
    }

    /// What its client says of itself.
    pub fn declared(&self) -> Declared {
        *self.declared.get_or_init(|| self.knows.declared())
    }

    /// The value of its session's cookie.
    pub fn session(&self) -> Option<&Bytes> {
        self.session.get_or_init(|| self.knows.session()).as_ref()
    }

    fn is_customer(&self) -> bool {
        let look = || self.session().is_some_and(|session| self.knows.is_customer(session));
        *self.customer.get_or_init(look)
    }

    /// Has its client solved a challenge?
    pub fn has_passed(&self) -> bool {
        *self.passed.get_or_init(|| self.knows.has_passed())
    }

    /// Would a challenge be in vain? Verified bots solve none, and who has solved one need not again.
    pub fn needs_no_challenge(&self) -> bool {
        self.has_passed() || self.declared() == Declared::Verified
    }

    /// Could a challenge be shown? Scripts and programs cannot.
    pub fn can_be_challenged(&self) -> bool {
        *self.can_be_challenged.get_or_init(|| Challenge::can_show(self.request))
    }

    /// Is its client of this kind?
    pub fn is(&self, kind: WhoKind) -> bool {
        match kind {
            WhoKind::Browser => self.declared() == Declared::Browser,
            WhoKind::Bot => self.declared() != Declared::Browser,
            WhoKind::VerifiedBot => self.declared() == Declared::Verified,
            WhoKind::UnverifiedBot => self.declared() == Declared::Unverified,
            WhoKind::Impostor => self.declared() == Declared::Impostor,
            WhoKind::NewVisitor => self.session().is_none() && self.declared() == Declared::Browser,
            WhoKind::Session => self.session().is_some(),
            WhoKind::Stranger => {
                let is_stranger = |session: &Bytes| self.knows.is_stranger(session);
                self.session().is_some_and(is_stranger) && self.declared() == Declared::Browser
            }
            WhoKind::Customer => self.is_customer(),
            WhoKind::Passed => self.has_passed(),
        }
    }

    /// The kinds of its client that were looked up so far.
    pub fn known_kinds(&self) -> impl Iterator<Item = WhoKind> {
        let declared = self.declared.get().map(|declared| match declared {
            Declared::Browser => WhoKind::Browser,
            Declared::Unverified => WhoKind::UnverifiedBot,
            Declared::Verified => WhoKind::VerifiedBot,
            Declared::Impostor => WhoKind::Impostor,
        });
        let session = self.session.get().map(|session| match session {
            Some(_) => WhoKind::Session,
            None => WhoKind::NewVisitor,
        });
        let customer = self.customer.get().filter(|is| **is).map(|_| WhoKind::Customer);
        let passed = self.passed.get().filter(|is| **is).map(|_| WhoKind::Passed);
        [declared, session, customer, passed].into_iter().flatten()
    }

    /// The facets of its query: each value of each parameter that filters.
    pub fn facets(&self, besides: &Besides) -> u32 {
        *self.facets.get_or_init(|| {
            let all = names(self.query.unwrap_or_default());
            let filters = |(name, value): &(&[u8], &[u8])| {
                !value.is_empty() && !besides.has(name) && !self.knows.strips(name)
            };
            let count: usize = all.filter(filters).map(|(_, value)| values(value)).sum();
            u32::try_from(count).unwrap_or(u32::MAX)
        })
    }
}

/// How many values stand in one, separated by commas.
fn values(value: &[u8]) -> usize {
    let encoded = value.windows(3).filter(|part| part.eq_ignore_ascii_case(b"%2c")).count();
    1 + encoded + memchr::memchr_iter(b',', value).count()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::body::Body;
    use crate::exchange::{Beside, Connection, Peer, Scheme};

    /// Who asks in a test.
    pub struct Someone {
        pub declared: Declared,
        pub session: Option<Bytes>,
        pub is_customer: bool,
        pub has_passed: bool,
        /// How often it was asked what the client says of itself.
        pub looks: std::cell::Cell<usize>,
    }

    impl Default for Someone {
        fn default() -> Self {
            Self {
                declared: Declared::Browser,
                session: None,
                is_customer: false,
                has_passed: false,
                looks: std::cell::Cell::new(0),
            }
        }
    }

    impl Knows for Someone {
        fn declared(&self) -> Declared {
            self.looks.set(self.looks.get() + 1);
            self.declared
        }

        fn session(&self) -> Option<Bytes> {
            self.session.clone()
        }

        fn is_stranger(&self, session: &[u8]) -> bool {
            session == b"made up"
        }

        fn is_customer(&self, _: &[u8]) -> bool {
            self.is_customer
        }

        fn has_passed(&self) -> bool {
            self.has_passed
        }

        fn trusts(&self, address: IpAddr) -> bool {
            address == IpAddr::from([10, 0, 0, 1])
        }

        fn strips(&self, parameter: &[u8]) -> bool {
            parameter.starts_with(b"utm_")
        }
    }

    /// A request of a test.
    pub fn request(method: &str, target: &str, fields: Fields) -> Request {
        Request {
            method: method.parse().expect("a method"),
            target: Bytes::from(target.to_owned()),
            authority: Bytes::from("shop.example"),
            version: http::Version::HTTP_11,
            fields,
            body: Body::empty(),
            connection: Connection { peer: Peer::Unix, local: None, tls: false },
            beside: Beside::default(),
        }
    }

    /// A client of a test.
    pub fn client(address: &str) -> Client {
        Client {
            address: address.parse().expect("an address"),
            port: 0,
            scheme: Scheme::Https,
            server_port: 443,
            trusted_peer: true,
            forged: false,
            hops: Vec::new(),
        }
    }

    #[test]
    fn facets_are_the_values_of_parameters_that_filter() {
        let besides = Besides::new(&["p".to_owned(), "product_list_*".to_owned()]);
        let facets = |target: &str| {
            let (request, someone) = (request("GET", target, Fields::new()), Someone::default());
            Asked::new(&request, &client("192.0.2.1"), &someone).facets(&besides)
        };
        assert_eq!(facets("/x.html"), 0);
        assert_eq!(facets("/x.html?p=2&product_list_order=price&utm_source=a"), 0);
        assert_eq!(facets("/x.html?color=49&size=&p=2"), 1);
        assert_eq!(facets("/x.html?color=49,50%2C51&size=1"), 4);
        assert_eq!(facets("/x.html?color[]=1&color[]=2"), 2);
    }

    #[test]
    fn an_address_is_a_proxys_where_nobody_behind_it_is_known() {
        let (request, someone) = (request("GET", "/", Fields::new()), Someone::default());
        let is_proxys = |address: &str, forged| {
            let client = Client { forged, ..client(address) };
            Asked::new(&request, &client, &someone).is_proxys()
        };
        for (address, plain, forged) in [
            ("192.0.2.1", false, false),
            ("2001:db8::1", false, false),
            ("10.0.0.1", true, true),
            ("10.0.0.2", false, true),
            ("127.0.0.1", true, true),
            ("::1", true, true),
        ] {
            assert_eq!(
                (is_proxys(address, false), is_proxys(address, true)),
                (plain, forged),
                "{address}"
            );
        }
    }

    #[test]
    fn a_stranger_is_a_browser_whose_session_is_none() {
        let request = request("GET", "/", Fields::new());
        let is_one = |session: Option<&'static [u8]>, declared| {
            let session = session.map(Bytes::from_static);
            let someone = Someone { declared, session, ..Someone::default() };
            Asked::new(&request, &client("192.0.2.1"), &someone).is(WhoKind::Stranger)
        };
        assert!(is_one(Some(b"made up"), Declared::Browser));
        assert!(!is_one(Some(b"one"), Declared::Browser));
        assert!(!is_one(None, Declared::Browser));
        assert!(!is_one(Some(b"made up"), Declared::Unverified));
    }

    #[test]
    fn what_no_rule_needs_is_not_looked_up() {
        let (request, someone) = (request("GET", "/", Fields::new()), Someone::default());
        let client = client("192.0.2.1");
        let asked = Asked::new(&request, &client, &someone);
        assert_eq!((asked.known_kinds().count(), someone.looks.get()), (0, 0));
        assert!(asked.is(WhoKind::Browser) && !asked.is(WhoKind::Impostor));
        assert!(asked.is(WhoKind::NewVisitor));
        assert_eq!(someone.looks.get(), 1, "once");
        let known: Vec<_> = asked.known_kinds().collect();
        assert_eq!(known, [WhoKind::Browser, WhoKind::NewVisitor]);
    }
}
