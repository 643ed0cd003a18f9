//! The colour of a verdict. The word is always there too: colour alone tells nobody anything.

use anstyle::{AnsiColor, Style};

use heartwatch_domain::verdict::Verdict;

/// The style of a verdict.
#[must_use]
pub fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Alive => AnsiColor::Green,
        Verdict::Ended => AnsiColor::Cyan,
        Verdict::Late | Verdict::Silent => AnsiColor::Yellow,
        Verdict::Conflict | Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => AnsiColor::Magenta,
        Verdict::Dead | Verdict::NeverStarted => AnsiColor::Red,
        Verdict::Unknown => AnsiColor::White,
    };
    let style = Style::new().fg_color(Some(colour.into()));
    if verdict.level() >= 3 { style.bold() } else { style }
}

/// A verdict in its colour, padded to `width` characters.
#[must_use]
pub fn verdict(verdict: Verdict, width: usize) -> String {
    let style = style(verdict);
    format!("{style}{:width$}{style:#}", verdict.as_str())
}

/// Text that is less important than what is around it.
#[must_use]
pub fn faint(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

/// A heading.
#[must_use]
pub fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Text from outside, with everything escaped that could steer a terminal; quotes stay as they are.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}
