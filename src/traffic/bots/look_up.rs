//! Forward-confirmed reverse DNS: the name of an address must be one of the operator's, and that name must
//! lead back to the address. The first alone anybody can write who has an address.

use std::future::Future;
use std::net::IpAddr;

/// Names of one address that are looked at; operators give one.
const NAMES_MAX: usize = 8;

/// The outcome of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Name and address lead to each other.
    Proven,
    /// DNS says otherwise.
    Refuted,
    /// The name is the operator's, whose names do not lead back.
    Unprovable,
    /// DNS did not answer, or said that it could not.
    Unanswered,
}

/// DNS did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer;

/// What answers questions about names and addresses.
pub(super) trait Resolver: Send + Sync + 'static {
    /// The names of an address, without the dot at their end; none where there is none.
    fn names(&self, address: IpAddr) -> impl Future<Output = Result<Vec<String>, NoAnswer>> + Send;

    /// The addresses of a name, of the family that `like` is of; none where there is none.
    fn addresses(
        &self,
        name: &str,
        like: IpAddr,
    ) -> impl Future<Output = Result<Vec<IpAddr>, NoAnswer>> + Send;
}

/// Is the address that of a host whose name ends with one of `hosts`? `hosts_resolve`: do such names
/// lead back to their addresses at all?
pub(super) async fn confirm<R: Resolver>(
    resolver: &R,
    address: IpAddr,
    hosts: &[String],
    hosts_resolve: bool,
) -> Verdict {
    let Ok(names) = resolver.names(address).await else { return Verdict::Unanswered };
    let theirs = names.iter().filter(|name| hosts.iter().any(|host| is_within(name, host)));
    let (mut has_theirs, mut has_answers) = (false, true);
    for name in theirs.take(NAMES_MAX) {
        has_theirs = true;
        match resolver.addresses(name, address).await {
            Ok(found) if found.contains(&address) => return Verdict::Proven,
            Ok(_) => {}
            Err(NoAnswer) => has_answers = false,
        }
    }
    match (has_answers, has_theirs && !hosts_resolve) {
        (false, _) => Verdict::Unanswered,
        (true, true) => Verdict::Unprovable,
        (true, false) => Verdict::Refuted,
    }
}

/// Is it the host itself, or below it?
fn is_within(name: &str, host: &str) -> bool {
    let Some(begin) = name.len().checked_sub(host.len()) else { return false };
    let (name, rest) = name.as_bytes().split_at(begin);
    rest.eq_ignore_ascii_case(host.as_bytes()) && name.last().is_none_or(|byte| *byte == b'.')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Names and addresses by hand; what is missing in both is not answered.
    #[derive(Default)]
    pub struct ByHand {
        pub names: HashMap<IpAddr, Vec<String>>,
        pub addresses: HashMap<String, Vec<IpAddr>>,
    }

    impl ByHand {
        /// `ADDRESS NAME...` and `NAME ADDRESS...`
        pub fn new(lines: &[&str]) -> Self {
            let mut own = Self::default();
            for line in lines {
                let mut words = line.split(' ');
                let first = words.next().expect("a word");
                if let Ok(address) = first.parse() {
                    own.names.insert(address, words.map(str::to_owned).collect());
                } else {
                    let addresses = words.map(|word| word.parse().expect("an address")).collect();
                    own.addresses.insert(first.to_owned(), addresses);
                }
            }
            own
        }
    }

    impl Resolver for ByHand {
        async fn names(&self, address: IpAddr) -> Result<Vec<String>, NoAnswer> {
            self.names.get(&address).cloned().ok_or(NoAnswer)
        }

        async fn addresses(&self, name: &str, _: IpAddr) -> Result<Vec<IpAddr>, NoAnswer> {
            self.addresses.get(name).cloned().ok_or(NoAnswer)
        }
    }

    const GOOGLE: [&str; 2] = ["googlebot.com", "google.com"];

    async fn verdict(lines: &[&str], address: &str, hosts_resolve: bool) -> Verdict {
        let hosts = GOOGLE.map(str::to_owned);
        let address = address.parse().expect("an address");
        confirm(&ByHand::new(lines), address, &hosts, hosts_resolve).await
    }

    #[tokio::test]
    async fn name_and_address_must_lead_to_each_other() {
        let right =
            ["192.0.2.1 crawl-1.googlebot.com", "crawl-1.googlebot.com 192.0.2.9 192.0.2.1"];
        assert_eq!(verdict(&right, "192.0.2.1", true).await, Verdict::Proven);
        let right = ["2001:db8::1 crawl-2.Google.COM", "crawl-2.Google.COM 2001:db8::1"];
        assert_eq!(verdict(&right, "2001:db8::1", true).await, Verdict::Proven);
        let forged = ["192.0.2.1 crawl-1.googlebot.com", "crawl-1.googlebot.com 203.0.113.7"];
        assert_eq!(verdict(&forged, "192.0.2.1", true).await, Verdict::Refuted);
        let gone = ["192.0.2.1 crawl-1.googlebot.com", "crawl-1.googlebot.com"];
        assert_eq!(verdict(&gone, "192.0.2.1", true).await, Verdict::Refuted);
    }

    #[tokio::test]
    async fn another_name_or_none_refutes() {
        for name in ["host.example", "evilgooglebot.com", "googlebot.com.evil.example", ""] {
            let lines = [format!("192.0.2.1 {name}"), format!("{name}x 192.0.2.1")];
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(verdict(&lines, "192.0.2.1", true).await, Verdict::Refuted, "{name}");
        }
        assert_eq!(verdict(&["192.0.2.1"], "192.0.2.1", true).await, Verdict::Refuted);
    }

    #[tokio::test]
    async fn no_answer_is_no_verdict() {
        assert_eq!(verdict(&[], "192.0.2.1", true).await, Verdict::Unanswered);
        let half = ["192.0.2.1 crawl-1.googlebot.com"];
        assert_eq!(verdict(&half, "192.0.2.1", true).await, Verdict::Unanswered);
        let both = [
            "192.0.2.1 crawl-1.googlebot.com crawl-2.googlebot.com",
            "crawl-2.googlebot.com 192.0.2.1",
        ];
        assert_eq!(verdict(&both, "192.0.2.1", true).await, Verdict::Proven, "the other one does");
    }

    #[tokio::test]
    async fn where_names_do_not_lead_back_one_of_theirs_refutes_nobody() {
        let lines = ["192.0.2.1 crawl-1.googlebot.com", "crawl-1.googlebot.com"];
        assert_eq!(verdict(&lines, "192.0.2.1", false).await, Verdict::Unprovable);
        let other = ["192.0.2.1 host.example"];
        assert_eq!(verdict(&other, "192.0.2.1", false).await, Verdict::Refuted);
    }

    #[tokio::test]
    async fn an_address_with_very_many_names_is_not_asked_for_ever() {
        let names: Vec<String> = (0..100).map(|at| format!("x{at}.google.com")).collect();
        let mut lines: Vec<String> =
            names.iter().map(|name| format!("{name} 203.0.113.1")).collect();
        lines[NAMES_MAX] = format!("{} 192.0.2.1", names[NAMES_MAX]);
        lines.push(format!("192.0.2.1 {}", names.join(" ")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(verdict(&lines, "192.0.2.1", true).await, Verdict::Refuted);
    }

    #[test]
    fn the_host_itself_and_what_is_below_are_within() {
        for name in ["googlebot.com", "a.googlebot.com", "A.B.GoogleBot.com"] {
            assert!(is_within(name, "googlebot.com"), "{name}");
        }
        for name in ["xgooglebot.com", "com", "", "googlebot.com.x", "a.googlebot.comx"] {
            assert!(!is_within(name, "googlebot.com"), "{name}");
        }
    }
}
