//! The layer of the file: TOML with the line of everything in it.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::diagnostics::Diagnostic;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The text of a configuration file and where it came from.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceFile {
    /// The file as it was named; none when there is no file.
    pub(super) path: Option<PathBuf>,
    /// What is in it.
    pub(super) text: String,
}

impl SourceFile {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, Diagnostic> {
        let wrong = |line, message: &str| Diagnostic::new(&path.display().to_string(), line, "", message);
        let bytes = read_at_most(path, FILE_BYTES_MAX).map_err(|message| wrong(None, &message))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let whole = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            wrong(Some(line_at(whole, whole.len())), "is not UTF-8 text from here on")
        })?;
        Ok(Self { path: Some(path.to_owned()), text })
    }

    /// Its name in diagnostics.
    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }

    /// A path as the file writes it: relative ones start at the file's own directory.
    pub(super) fn relative(&self, path: &str) -> PathBuf {
        match self.path.as_ref().and_then(|path| path.parent()) {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }

    /// Everything that could be read, and what could not.
    pub(super) fn parse(&self) -> (DeTable<'_>, Vec<Diagnostic>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let mut mistakes: Vec<Diagnostic> = Vec::new();
        for error in errors {
            let line = error.span().map(|span| self.line_at(span.start));
            // what the parser trips over after a first error in a line is mostly that same error
            if mistakes.iter().all(|mistake| mistake.line != line) {
                let message = format!("cannot be read as TOML: {}", error.message().replace('\n', ", "));
                mistakes.push(Diagnostic::new(&self.name(), line, "", &message));
            }
        }
        (table.into_inner(), mistakes)
    }
}

fn line_at(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The bytes of a file that has no more than `bytes_max`.
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

/// A value as one layer gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Given<'a> {
    /// Text in quotes.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// Text of the environment, which may stand for any of these.
    Plain(&'a str),
    /// A number with a fraction.
    Fraction(f64),
    /// Something that no key takes, by name.
    Other(&'static str),
}

impl<'a> Given<'a> {
    /// What a TOML value is.
    pub(super) fn of(value: &'a DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.map_or(Self::Other("a number that is too large"), Self::Integer)
            }
            DeValue::Boolean(yes) => Self::Boolean(*yes),
            DeValue::Float(number) => {
                number.as_str().parse().map_or(Self::Other("a number that is too large"), Self::Fraction)
            }
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(_) => Self::Other("a list"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// Text in quotes, checked further by `check`.
    pub(super) fn text<T>(self, example: &str, check: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        match self {
            Self::Text(text) | Self::Plain(text) => check(text),
            Self::Integer(number) => {
                Err(format!("{number} is a bare number: write text in quotes, like \"{example}\""))
            }
            Self::Boolean(yes) => Err(format!("{yes} is not text: write it in quotes, like \"{example}\"")),
            Self::Fraction(_) => Self::Other("a fraction").text(example, check),
            Self::Other(what) => Err(format!("is {what}: write text in quotes, like \"{example}\"")),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(self) -> Result<bool, String> {
        match self {
            Self::Boolean(yes) => Ok(yes),
            Self::Plain("true" | "1" | "yes" | "on") => Ok(true),
            Self::Plain("false" | "0" | "no" | "off") => Ok(false),
            Self::Plain(text) => Err(format!("'{text}' is not true or false")),
            Self::Text(text) => Err(format!("'{text}' is text: write true or false, without quotes")),
            Self::Integer(number) => Err(format!("{number} is a number: write true or false")),
            Self::Fraction(number) => Err(format!("{number} is a number: write true or false")),
            Self::Other(what) => Err(format!("is {what}: write true or false")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(self, min: u64, max: u64) -> Result<u64, String> {
        let out_of_bounds = |number: &dyn std::fmt::Display| match max {
            u64::MAX => format!("{number} is too small: write a whole number from {min} up"),
            _ => format!("{number} is out of bounds: write a whole number from {min} to {max}"),
        };
        let number = match self {
            Self::Integer(number) => u64::try_from(number).map_err(|_| out_of_bounds(&number))?,
            Self::Plain(text) => text.parse().map_err(|_| format!("'{text}' is not a whole number"))?,
            Self::Text(text) => return Err(format!("'{text}' is text: write a whole number, without quotes")),
            Self::Boolean(yes) => return Err(format!("{yes} is not a whole number")),
            Self::Fraction(_) => return Err("is a fraction: write a whole number".to_owned()),
            Self::Other(what) => return Err(format!("is {what}: write a whole number")),
        };
        if (min..=max).contains(&number) { Ok(number) } else { Err(out_of_bounds(&number)) }
    }

    /// A number, with a fraction or without.
    pub(super) fn fraction(self) -> Result<f64, String> {
        match self {
            Self::Fraction(number) => Ok(number),
            Self::Integer(number) => Ok(number as f64),
            Self::Plain(text) => text.parse().map_err(|_| format!("'{text}' is not a number")),
            Self::Text(text) => Err(format!("'{text}' is text: write a number, without quotes")),
            Self::Boolean(yes) => Err(format!("{yes} is not a number")),
            Self::Other(what) => Err(format!("is {what}: write a number")),
        }
    }

    /// A number of bytes: text with a unit, or a bare number.
    pub(super) fn bytes(self, min: u64, max: u64) -> Result<u64, String> {
        let bytes = match self {
            Self::Integer(number) => {
                u64::try_from(number).map_err(|_| format!("{number} is not a size like \"1GiB\""))?
            }
            other => other.text("1GiB", heartwatch_formats::values::bytes)?,
        };
        if (min..=max).contains(&bytes) {
            return Ok(bytes);
        }
        let (min, max) =
            (heartwatch_formats::values::describe_bytes(min), heartwatch_formats::values::describe_bytes(max));
        Err(format!("{bytes} bytes is out of bounds: from {min} to {max}"))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T, String> {
        let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let choose = |text: &str| match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(*choice),
            None => Err(format!("'{text}' is none of {words}")),
        };
        match self {
            // a version may be written 2 as well as "2"
            Self::Integer(number) => choose(&number.to_string()),
            other => other.text(choices.first().map_or("", |(word, _)| word), choose),
        }
    }
}
