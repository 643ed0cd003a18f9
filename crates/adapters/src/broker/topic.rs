//! Topics and filters: checked once where they come in, and the tree of subscriptions that a topic is looked up in.

use std::collections::HashMap;

use super::malformed::Malformed;

/// Most levels of a topic or filter. MQTT has no limit; mosquitto has the same one.
const LEVELS_MAX: usize = 200;

/// Checks a topic that something is published to.
pub(super) fn topic(bytes: &[u8]) -> Result<&str, Malformed> {
    let topic = text(bytes)?;
    if topic.is_empty() {
        return Err(Malformed("a topic is empty"));
    }
    if topic.contains(['+', '#']) {
        return Err(Malformed("a topic with a wildcard"));
    }
    levels(topic)
}

/// Checks a filter that somebody subscribes to.
pub(super) fn filter(bytes: &[u8]) -> Result<&str, Malformed> {
    let filter = text(bytes)?;
    if filter.is_empty() {
        return Err(Malformed("a filter is empty"));
    }
    let last = filter.split('/').count() - 1;
    let misplaced = |(at, level): (usize, &str)| match level {
        "+" => false,
        "#" => at != last,
        level => level.contains(['+', '#']),
    };
    if filter.split('/').enumerate().any(misplaced) {
        return Err(Malformed("a filter with a misplaced wildcard"));
    }
    levels(filter)
}

/// Checks a string of the protocol.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a text that is not UTF-8"))?;
    if text.contains('\0') { Err(Malformed("a text with a NUL")) } else { Ok(text) }
}

fn levels(topic: &str) -> Result<&str, Malformed> {
    if topic.split('/').count() > LEVELS_MAX { Err(Malformed("a topic with too many levels")) } else { Ok(topic) }
}

/// Whether a filter matches a topic, both of which were checked.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut topics) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), topics.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(other)) if level == other => {}
            _ => return false,
        }
    }
}

/// Who subscribed: the session, and which of its subscriptions.
pub(super) type Subscriber = (u64, usize);

/// All subscriptions, level by level.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    subscribers: Vec<Subscriber>,
}

impl Tree {
    /// Adds a subscription that is not there.
    pub(super) fn insert(&mut self, filter: &str, subscriber: Subscriber) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            if !node.children.contains_key(level) {
                node.children.insert(level.into(), Node::default());
            }
            let Some(child) = node.children.get_mut(level) else { return };
            node = child;
        }
        node.subscribers.push(subscriber);
    }

    /// Removes a subscription, and the levels that nobody else needs.
    pub(super) fn remove(&mut self, filter: &str, subscriber: Subscriber) {
        self.root.remove(filter.split('/'), subscriber);
    }

    /// Adds those whose filter matches to `found`.
    pub(super) fn find(&self, topic: &str, found: &mut Vec<Subscriber>) {
        // wildcards at the beginning do not match what the server keeps to itself
        self.root.find(Some(topic), !topic.starts_with('$'), found);
    }
}

impl Node {
    fn remove<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, subscriber: Subscriber) {
        let Some(level) = levels.next() else {
            self.subscribers.retain(|other| *other != subscriber);
            return;
        };
        let Some(child) = self.children.get_mut(level) else { return };
        child.remove(levels, subscriber);
        if child.subscribers.is_empty() && child.children.is_empty() {
            self.children.remove(level);
        }
    }

    fn find(&self, rest: Option<&str>, wildcards: bool, found: &mut Vec<Subscriber>) {
        if wildcards && let Some(all) = self.children.get("#") {
            found.extend_from_slice(&all.subscribers);
        }
        let Some(rest) = rest else {
            found.extend_from_slice(&self.subscribers);
            return;
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if let Some(child) = self.children.get(level) {
            child.find(rest, true, found);
        }
        if wildcards && let Some(child) = self.children.get("+") {
            child.find(rest, true, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [&str; 16] = [
        "#", "+", "+/+", "/#", "a", "a/#", "a/+", "a/b", "+/b", "a/+/c", "厨房/#", "厨房/+", "ä", "$SYS/#", "$SYS/+",
        "a//",
    ];
    const TOPICS: [&str; 14] =
        ["a", "a/", "a/b", "a/b/c", "/", "//", "/a", "厨房", "厨房/temp", "ä", "ä/b", "$SYS/x", "$SYS", "a//"];

    #[test]
    fn the_tree_finds_what_matches_and_nothing_else() {
        let mut tree = Tree::default();
        for (slot, filter) in FILTERS.iter().enumerate() {
            tree.insert(filter, (1, slot));
        }
        for topic in TOPICS {
            let mut found = Vec::new();
            tree.find(topic, &mut found);
            found.sort_unstable();
            let expected: Vec<Subscriber> =
                (0..FILTERS.len()).filter(|slot| matches(FILTERS[*slot], topic)).map(|slot| (1, slot)).collect();
            assert_eq!(found, expected, "{topic}");
        }
        for (slot, filter) in FILTERS.iter().enumerate() {
            tree.remove(filter, (2, slot));
            tree.remove(filter, (1, slot));
        }
        assert!(tree.root.children.is_empty(), "nothing is left behind");
    }

    #[test]
    fn filters_match_as_the_standard_has_it() {
        for (filter, topic, expected) in [
            ("sport/tennis/#", "sport/tennis", true),
            ("sport/#", "sport/tennis/player", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/temp", "厨房/temp", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn what_is_no_topic_and_no_filter() {
        for bad in [&b""[..], b"a/+", b"#", b"a\0", b"\xff", b"\xc3", b"\xed\xa0\x80"] {
            assert!(topic(bad).is_err(), "{bad:?}");
        }
        for bad in [&b""[..], b"a/#/b", b"a#", b"a+", b"+a/b", b"##", b"a/b\0", b"\xff/#"] {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
        let deep = "/".repeat(LEVELS_MAX);
        assert!(topic(deep.as_bytes()).is_err() && filter(deep.as_bytes()).is_err());
        assert!(topic(&deep.as_bytes()[1..]).is_ok());
        assert!(topic("厨房/temp".as_bytes()).is_ok() && filter("ä/+/#".as_bytes()).is_ok());
    }
}
