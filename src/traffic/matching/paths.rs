//! The rules of a path: whole segments, and all below them, in any case.
//!
//! Magento finds a controller by names in lower case, so `/customer/account/LOGINPOST` is the log-in as well.

use super::set::Set;
use super::table::Table;

/// Segments that are looked at; no rule needs more.
const SEGMENTS_MAX: usize = 16;

/// Paths of rules, as a tree of segments.
#[derive(Debug)]
pub struct Paths {
    nodes: Vec<Node>,
    /// Rules with a path.
    with: Set,
}

#[derive(Debug)]
struct Node {
    /// Rules of which a path ends here.
    ends: Set,
    /// The next segments.
    next: Table<Option<usize>>,
}

impl Node {
    fn new() -> Self {
        Self { ends: Set::EMPTY, next: Table::new(true) }
    }
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
}

impl Paths {
    /// The paths of each rule, in order.
    pub fn new<'a>(rules: impl Iterator<Item = &'a [String]>) -> Self {
        let mut paths = Self { nodes: vec![Node::new()], with: Set::EMPTY };
        for (rule, own) in rules.enumerate() {
            for path in own {
                paths.with.add(rule);
                let node = paths.place_of(path);
                if let Some(node) = paths.nodes.get_mut(node) {
                    node.ends.add(rule);
                }
            }
        }
        paths
    }

    fn place_of(&mut self, path: &str) -> usize {
        let mut at = 0;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let new = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return at };
            let next = node.next.entry(segment);
            at = *next.get_or_insert(new);
            if at == new {
                self.nodes.push(Node::new());
            }
        }
        at
    }

    /// Of these rules those that take a path, raw.
    pub fn of(&self, path: &[u8], rules: Set) -> Set {
        let asked = rules.and(self.with);
        if asked.is_empty() {
            return rules;
        }
        let mut parts: [&[u8]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        let mut count = 0;
        for segment in segments(path) {
            // Some shops have it in front.
            if count == 0 && segment.eq_ignore_ascii_case(b"index.php") {
                continue;
            }
            let Some(place) = parts.get_mut(count) else { break };
            *place = segment;
            count += 1;
        }
        let found = self.below(0, parts.get(..count).unwrap_or_default());
        rules.without(asked.without(found))
    }

    /// Rules whose path is one of these segments, or ends among them. As deep as a path has segments.
    fn below(&self, node: usize, segments: &[&[u8]]) -> Set {
        let Some(node) = self.nodes.get(node) else { return Set::EMPTY };
        let Some((first, rest)) = segments.split_first() else { return node.ends };
        let next = node.next.all(first).flatten();
        next.fold(node.ends, |found, next| found.or(self.below(*next, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|one| (*one).to_owned()).collect();
        let paths = Paths::new([&patterns[..]].into_iter());
        paths.of(path.as_bytes(), Set::of(0)).has(0)
    }

    #[test]
    fn paths_match_by_whole_segments_in_any_case() {
        assert!(takes(&["/rest/*/V1/carts"], "/rest/de/v1/Carts/mine"));
        assert!(!takes(&["/rest/*/V1/carts"], "/rest/V1/carts"));
        assert!(!takes(&["/checkout"], "/checkouts"));
        assert!(takes(&["/check*"], "//checkouts/x"));
        assert!(takes(&["/checkout"], "/CHECKOUT"));
        assert!(takes(&["/checkout"], "/Index.php/checkout"));
        assert!(takes(&["/a", "/b"], "/b/c"));
        assert!(!takes(&["/a/b"], &"/x".repeat(100)));
        assert!(takes(&[], "/anything"), "no path is every path");
    }

    #[test]
    fn each_rule_keeps_its_own_paths() {
        let of = |paths: &[&str]| paths.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let rules = [of(&["/a", "/*/a"]), of(&[]), of(&["/a/b"]), of(&["/a"]), of(&["/a*/b"])];
        let paths = Paths::new(rules.iter().map(Vec::as_slice));
        let all = Set::first(5);
        let found = |path: &str| paths.of(path.as_bytes(), all).iter().collect::<Vec<_>>();
        assert_eq!(found("/a/b"), [0, 1, 2, 3, 4]);
        assert_eq!(found("/ab/b"), [1, 4]);
        assert_eq!(found("/x/a"), [0, 1]);
        assert_eq!(found("/x"), [1]);
        assert_eq!(paths.of(b"/a/b", Set::of(2)), Set::of(2), "no rule is added");
    }
}
