//! What a server says of itself that whoever runs it should know.

/// What to say about the server whose `INFO` this is, one line each.
pub(super) fn concerns(info: &str) -> impl Iterator<Item = String> {
    version(info).into_iter().chain(eviction(info))
}

/// A policy that takes keys without a time to live takes the log of purges, too.
fn eviction(info: &str) -> Option<String> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.trim();
    policy.starts_with("allkeys-").then(|| {
        format!(
            "maxmemory-policy is {policy}, so Redis may evict the log of purges: everything tagged is \
             stale then. Set noeviction, or give the log a Redis of its own"
        )
    })
}

/// Versions with a hole that is known.
fn version(info: &str) -> Option<String> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?.trim();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = (parts.next()??, parts.next()??, parts.next()??);
    // Valkey says a redis_version too, for old clients, and has another history.
    let is_valkey = info.lines().any(|line| line.starts_with("valkey_version:"));
    let is_affected = ((7, 2, 0)..=(8, 6, 2)).contains(&number) && !is_valkey;
    is_affected.then(|| {
        format!(
            "Redis {version} has a use after free of blocked clients (CVE-2026-23479, 7.2.0 to \
             8.6.2): update it, and give each of its users the least rights"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warns(version: &str) -> bool {
        super::version(&format!("# Server\r\nredis_version:{version}\r\nos:Linux\r\n")).is_some()
    }

    #[test]
    fn affected_versions_are_warned_of_and_others_not() {
        assert!(warns("7.2.0") && warns("7.4.9") && warns("8.6.2"));
        assert!(!warns("7.0.15") && !warns("7.1.240") && !warns("8.6.3") && !warns("9.0.0"));
        assert!(!warns("x") && !warns("7"));
        assert!(super::version("valkey_version:8.1.0\r\nredis_version:7.2.4\r\n").is_none());
        assert!(concerns("").next().is_none());
    }

    #[test]
    fn a_policy_that_evicts_any_key_is_warned_of() {
        let said = |policy: &str| {
            let info = format!("redis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:{policy}\r\n");
            concerns(&info).collect::<Vec<_>>()
        };
        assert!(said("noeviction").is_empty() && said("volatile-lru").is_empty());
        assert_eq!(said("allkeys-lfu").len(), 1);
        assert!(
            said("allkeys-lru")[0].starts_with("maxmemory-policy is allkeys-lru, so Redis may")
        );
    }
}
