//! The hosts of nodes, by which PHP signs what it locks.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::members::Member;

/// Hosts that are remembered; what comes beyond is not known to have left.
const HOSTS_MAX: usize = 10_000;

/// This host's name, as PHP's `gethostname` gives it.
pub fn own_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The hosts of the nodes that were there at any look of this process.
#[derive(Default)]
pub(super) struct Hosts(Mutex<HashSet<String>>);

impl Hosts {
    pub(super) fn see(&self, members: &[Member]) {
        let mut seen = self.0.lock();
        for member in members {
            if seen.len() < HOSTS_MAX && !member.host.is_empty() && !seen.contains(&member.host) {
                seen.insert(member.host.clone());
            }
        }
    }

    /// Was there a node on that host, and is there none among these?
    pub(super) fn has_left(&self, host: &str, members: &[Member]) -> bool {
        !members.iter().any(|member| member.host == host) && self.0.lock().contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_left_when_its_last_node_has_and_was_seen_before() {
        let on = |host: &str| Member { host: host.to_owned(), ..Member::default() };
        let (hosts, both) = (Hosts::default(), [on("a"), on("b"), on("b"), on("")]);
        assert!(!hosts.has_left("a", &[]), "nobody has seen it");
        hosts.see(&both);
        assert!(!hosts.has_left("a", &both) && !hosts.has_left("", &[]));
        assert!(hosts.has_left("a", &both[1..]) && !hosts.has_left("b", &both[2..]));
        assert!(!own_host().is_empty());
    }
}
