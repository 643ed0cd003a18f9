//! Topic patterns with named levels, and texts made of what they match.

use std::collections::BTreeSet;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Most levels of a pattern.
const LEVELS_MAX: usize = 64;

/// One level of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exactly(String),
    Any,
    Named(String),
    /// All further levels.
    Rest,
}

/// A topic filter whose levels can have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
}

/// The text is no topic pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no topic pattern like 'tele/{{publisher}}/SENSOR': {why}")]
pub struct BadPattern {
    text: String,
    why: String,
}

/// The levels of one topic that have names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captures<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Captures<'a> {
    /// The level of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
    }

    /// All of them in their order.
    pub fn named(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

impl TopicPattern {
    /// Checks the text once.
    ///
    /// # Errors
    /// [`BadPattern`] with what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = |why: String| BadPattern { text: text.chars().take(200).collect(), why };
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(bad(format!("write 1 to {PATTERN_BYTES_MAX} bytes without control characters")));
        }
        let mut levels = Vec::new();
        let mut names = BTreeSet::new();
        let count = text.split('/').count();
        if count > LEVELS_MAX {
            return Err(bad(format!("it has more than {LEVELS_MAX} levels")));
        }
        for (index, level) in text.split('/').enumerate() {
            levels.push(match level {
                "+" => Level::Any,
                "#" if index + 1 == count => Level::Rest,
                "#" => return Err(bad("'#' stands at the end only".to_owned())),
                _ => match level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) if !is_name(name) => {
                        return Err(bad(format!("'{level}' is no name: use a-z, 0-9 and '_'")));
                    }
                    Some(name) if !names.insert(name) => return Err(bad(format!("'{level}' is there twice"))),
                    Some(name) => Level::Named(name.to_owned()),
                    None if level.contains(['+', '#', '{', '}']) => {
                        return Err(bad(format!("in '{level}' a sign with a meaning stands beside other text")));
                    }
                    None => Level::Exactly(level.to_owned()),
                },
            });
        }
        Ok(Self { levels })
    }

    /// The same as an MQTT filter.
    #[must_use]
    pub fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Exactly(text) => text.clone(),
            Level::Any | Level::Named(_) => "+".to_owned(),
            Level::Rest => "#".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The names of its levels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Named(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The levels of a topic that have names; none when the topic does not match.
    #[must_use]
    pub fn captures<'a>(&'a self, topic: &'a str) -> Option<Captures<'a>> {
        let mut found = Captures::default();
        let mut topic_levels = topic.split('/');
        for (index, level) in self.levels.iter().enumerate() {
            if *level == Level::Rest {
                // MQTT keeps wildcards away from the broker's own topics
                return (index > 0 || !topic.starts_with('$')).then_some(found);
            }
            let text = topic_levels.next()?;
            match level {
                Level::Exactly(wanted) if wanted == text => {}
                Level::Exactly(_) => return None,
                Level::Any | Level::Named(_) if index == 0 && text.starts_with('$') => return None,
                Level::Named(name) => found.0.push((name, text)),
                Level::Any | Level::Rest => {}
            }
        }
        topic_levels.next().is_none().then_some(found)
    }
}

/// Whether every topic that filter `b` matches is matched by filter `a`, too.
#[must_use]
pub fn covers(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether there is a topic that both filters match.
#[must_use]
pub fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Level(String),
}

/// A text with the names of levels in it: `tele-{device}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// The text is no template for a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTemplate(String);

impl Template {
    /// Checks the text against the pattern that its levels come from.
    ///
    /// # Errors
    /// [`BadTemplate`] with what is wrong in it.
    pub fn parse(text: &str, pattern: &TopicPattern) -> Result<Self, BadTemplate> {
        if text.trim().is_empty() || text.len() > PATTERN_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(BadTemplate("is empty, too long or has control characters".to_owned()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else {
                return Err(BadTemplate(format!("'{text}' has a '{{' without its '}}'")));
            };
            if pattern.names().all(|known| known != name) {
                let names: Vec<_> = pattern.names().map(|name| format!("{{{name}}}")).collect();
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(BadTemplate(format!("no level of the topic is called {{{name}}}; there is {there}")));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Level(name.to_owned()));
            rest = behind;
        }
        if rest.contains('}') {
            return Err(BadTemplate(format!("'{text}' has a '}}' without its '{{'")));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The text for one topic.
    #[must_use]
    pub fn render(&self, levels: &Captures<'_>) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Level(name) => levels.get(name).unwrap_or_default().to_owned(),
        };
        self.0.iter().map(piece).collect()
    }

    /// Whether a level of this name stands in it.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Level(known) if known == name))
    }

    /// It with `*` for every level: what its texts look like.
    #[must_use]
    pub fn wildcard(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Level(_) => "*".to_owned(),
        };
        self.0.iter().map(piece).collect()
    }
}
