//! `heartwatch top`: the same facts as the page, full screen, with keys. Here is what is shown and what a key does, in
//! `drawing` how it looks; no terminal is touched, so it is tested on a screen in memory.

mod drawing;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::tables;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_formats::api::{ExplanationView, PublisherView, StatusView};

/// What a person pressed, as far as it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A letter, a digit, a sign.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Up.
    Up,
    /// Down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
}

/// What is to be done after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing but drawing again.
    Draw,
    /// Ask the monitor why this one has its verdict.
    Explain(PublisherId),
    /// Leave.
    Quit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Worst,
    Name,
    LastSeen,
    Lost,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Worst => Self::Name,
            Self::Name => Self::LastSeen,
            Self::LastSeen => Self::Lost,
            Self::Lost => Self::Worst,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Worst => "worst first",
            Self::Name => "by name",
            Self::LastSeen => "longest silent first",
            Self::Lost => "most lost first",
        }
    }
}

/// What is on the screen.
#[derive(Debug)]
pub struct Top {
    url: String,
    view: Option<StatusView>,
    heard_at: Option<Timestamp>,
    trouble: Option<String>,
    rows_per_second: Option<f64>,
    sort: Sort,
    reversed: bool,
    filter: String,
    typing: bool,
    selected: Option<PublisherId>,
    explanation: Option<String>,
    page_rows: usize,
}

impl Top {
    /// Nothing yet, from the monitor at this address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            view: None,
            heard_at: None,
            trouble: None,
            rows_per_second: None,
            sort: Sort::Worst,
            reversed: false,
            filter: String::new(),
            typing: false,
            selected: None,
            explanation: None,
            page_rows: 10,
        }
    }

    /// The monitor has answered.
    pub fn heard(&mut self, view: StatusView, at: Timestamp) {
        let received = |view: &StatusView| {
            view.publishers.iter().map(|publisher| publisher.ledger.received).fold(0, u64::saturating_add)
        };
        if let (Some(before), Some(then)) = (&self.view, self.heard_at)
            && at > then
        {
            let seconds = (at.as_nanos() - then.as_nanos()) as f64 / 1e9;
            self.rows_per_second = Some(received(&view).saturating_sub(received(before)) as f64 / seconds);
        }
        self.view = Some(view);
        self.heard_at = Some(at);
        self.trouble = None;
    }

    /// The monitor has not answered.
    pub fn unheard(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// The answer to [`Wish::Explain`].
    pub fn explained(&mut self, view: &ExplanationView, now: Timestamp) {
        self.explanation = Some(tables::explanation(view, now));
    }

    /// The question could not be answered.
    pub fn unexplained(&mut self, why: String) {
        self.explanation = Some(why);
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key) -> Wish {
        if self.explanation.is_some() {
            return match key {
                Key::Char('q') => Wish::Quit,
                _ => {
                    self.explanation = None;
                    Wish::Draw
                }
            };
        }
        if self.typing {
            match key {
                Key::Char(c) => self.filter.push(c),
                Key::Backspace => drop(self.filter.pop()),
                Key::Enter => self.typing = false,
                Key::Escape => {
                    self.typing = false;
                    self.filter.clear();
                }
                _ => self.step(key),
            }
            return Wish::Draw;
        }
        match key {
            Key::Char('q') => return Wish::Quit,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/' | 'f') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Enter | Key::Char('e') => {
                if let Some(publisher) = self.selected_now() {
                    return Wish::Explain(publisher);
                }
            }
            Key::Char('j') => self.step(Key::Down),
            Key::Char('k') => self.step(Key::Up),
            _ => self.step(key),
        }
        Wish::Draw
    }

    fn shown(&self) -> Vec<&PublisherView> {
        let filter = self.filter.to_lowercase();
        let fits = |publisher: &&PublisherView| {
            filter.is_empty()
                || publisher.id.as_str().to_lowercase().contains(&filter)
                || publisher.host.as_str().to_lowercase().contains(&filter)
                || publisher.verdict.as_str().contains(&filter)
        };
        let mut shown: Vec<_> = self.view.iter().flat_map(|view| &view.publishers).filter(fits).collect();
        shown.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Worst => b.verdict.level().cmp(&a.verdict.level()),
                Sort::Name => Ordering::Equal,
                Sort::LastSeen => a.last_seen.cmp(&b.last_seen),
                Sort::Lost => b.ledger.lost.cmp(&a.ledger.lost),
            };
            let order = order.then_with(|| a.id.cmp(&b.id));
            if self.reversed { order.reverse() } else { order }
        });
        shown
    }

    fn selected_now(&self) -> Option<PublisherId> {
        let shown = self.shown();
        let selected = shown.iter().find(|publisher| Some(&publisher.id) == self.selected.as_ref());
        selected.or(shown.first()).map(|publisher| publisher.id.clone())
    }

    fn step(&mut self, key: Key) {
        let shown = self.shown();
        let at = shown.iter().position(|publisher| Some(&publisher.id) == self.selected.as_ref()).unwrap_or(0);
        let last = shown.len().saturating_sub(1);
        let to = match key {
            Key::Up => at.saturating_sub(1),
            Key::Down => at + 1,
            Key::PageUp => at.saturating_sub(self.page_rows),
            Key::PageDown => at + self.page_rows,
            Key::Home => 0,
            Key::End => last,
            _ => at,
        };
        self.selected = shown.get(to.min(last)).map(|publisher| publisher.id.clone());
    }
}
