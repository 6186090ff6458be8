//! Versions of Redis with a hole that is known.

/// What to say about the server whose `INFO server` this is.
pub(super) fn warning(info: &str) -> Option<String> {
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
        warning(&format!("# Server\r\nredis_version:{version}\r\nos:Linux\r\n")).is_some()
    }

    #[test]
    fn affected_versions_are_warned_of_and_others_not() {
        assert!(warns("7.2.0") && warns("7.4.9") && warns("8.6.2"));
        assert!(!warns("7.0.15") && !warns("7.1.240") && !warns("8.6.3") && !warns("9.0.0"));
        assert!(!warns("x") && !warns("7"));
        assert!(warning("valkey_version:8.1.0\r\nredis_version:7.2.4\r\n").is_none());
        assert!(warning("").is_none());
    }
}
