//! A name with `*` for any run of characters, to speak of several publishers at once.

use std::fmt;

/// A pattern like `light-*`. Every other character stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// The text cannot match any publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' matches no publisher id: write an id, or part of one with '*', like 'light-*'")]
pub struct NotAPattern(String);

impl Pattern {
    /// Checks the text: letters of a publisher id, and `*`.
    ///
    /// # Errors
    /// [`NotAPattern`].
    pub fn parse(text: &str) -> Result<Self, NotAPattern> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'*');
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(NotAPattern(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the pattern covers the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // greedy with one step back: linear in practice, quadratic at worst, never exponential
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut last_star = None;
        while let Some(&letter) = name.get(n) {
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p, n));
                    p += 1;
                }
                Some(&wanted) if wanted == letter => (p, n) = (p + 1, n + 1),
                _ => match last_star {
                    Some((star, from)) => {
                        last_star = Some((star, from + 1));
                        (p, n) = (star + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let matches = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
        assert!(matches("light-*", "light-1"));
        assert!(matches("light-*", "light-"));
        assert!(matches("*", "anything"));
        assert!(matches("*-1", "light-1-1"));
        assert!(matches("a*b*c", "aXbYbZc"));
        assert!(matches("light-1", "light-1"));
        assert!(!matches("light-*", "Light-1"));
        assert!(!matches("light", "light-1"));
        assert!(!matches("*-2", "light-1"));
        assert!(!matches("a*b*c", "abcd"));
        assert!(Pattern::parse("").is_err());
        assert!(Pattern::parse("a b").is_err());
    }
}
