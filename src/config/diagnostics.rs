//! What is wrong with a configuration: all of it at once, each with its place and what would be right.

use std::fmt;

/// Longest text of a mistake, in characters: a string that is never closed reaches to the end of its file.
const TEXT_CHARS_MAX: usize = 400;

/// One mistake, in one line that a terminal can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as it was named, or `environment`, or `command line`.
    pub file: String,
    /// The line in the file, from 1; none where there is no line.
    pub line: Option<usize>,
    /// The key with its tables (`watch.deadline`), the variable or the flag; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Diagnostic {
    /// Keys and values are cited as the file has them, so what a terminal would obey is written as
    /// its escape (`\n`, `\u{1b}`), and a long text loses its middle: its end says what would be right.
    pub(super) fn new(file: &str, line: Option<usize>, key: &str, message: &str) -> Self {
        Self { file: printable(file), line, key: printable(key), message: printable(message) }
    }
}

/// A text in one line, without its middle where it is longer than [`TEXT_CHARS_MAX`].
fn printable(text: &str) -> String {
    let half = TEXT_CHARS_MAX / 2;
    let characters = text.chars().count();
    let mut shown = String::with_capacity(text.len().min(2 * TEXT_CHARS_MAX));
    for (index, character) in text.chars().enumerate() {
        if characters > TEXT_CHARS_MAX && (half..characters - half).contains(&index) {
            if index == half {
                shown.push_str(" … ");
            }
        } else if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

impl fmt::Display for Diagnostic {
    /// `heartwatch.toml:12: watch.deadline: '5x' is not a duration like 250ms, 5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every mistake of a configuration: the file's by line, then the environment's and the command line's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    /// One mistake a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

/// The known name that is nearest to `name`, when one is near enough to be a slip of the finger
/// or a half-remembered word.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| {
            // short words need the second measure: 'cvs' is one exchange away from 'csv' and yet little like it
            let is_slip = candidate.len() >= 3 && strsim::damerau_levenshtein(name, candidate) <= 1;
            let likeness = strsim::jaro_winkler(name, candidate);
            (if is_slip { likeness.max(0.9) } else { likeness }, candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
