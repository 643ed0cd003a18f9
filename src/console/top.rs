//! `heartwatch top`: the same facts as the page, full screen, with keys. State and drawing; no terminal
//! is touched here, so it is tested on a screen in memory.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::tables;
use crate::domain::publisher::PublisherId;
use crate::domain::time::{Timestamp, describe_duration};
use crate::domain::verdict::Verdict;
use crate::formats::api::{ExplanationView, PublisherView, StatusView};
use crate::messages::ask::ObserverState;

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
    /// A page up.
    PageUp,
    /// A page down.
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
        let received =
            |view: &StatusView| view.publishers.iter().map(|publisher| publisher.ledger.received).sum::<u64>();
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

    /// Draws everything.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: Timestamp) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(3), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(now)), head);
        self.page_rows = usize::from(body.height.saturating_sub(2)).max(1);
        self.draw_table(frame, body, now);
        frame.render_widget(Paragraph::new(self.foot()), foot);
        if let Some(explanation) = &self.explanation {
            let area = centred(frame.area());
            frame.render_widget(Clear, area);
            let block = Block::bordered().title(" why (any key closes) ");
            frame.render_widget(Paragraph::new(explanation.as_str()).wrap(Wrap { trim: false }).block(block), area);
        }
    }

    fn head(&self, now: Timestamp) -> Vec<Line<'static>> {
        let mut first = vec![Span::from("heartwatch ").bold(), Span::from(self.url.clone()).dim(), Span::from("  ")];
        match (&self.trouble, self.heard_at) {
            (None, Some(_)) => first.push(Span::from("● live").green()),
            (None, None) => first.push(Span::from("connecting")),
            (Some(_), heard) => {
                let age = heard.map_or_else(String::new, |at| format!("; what you see is {} old", ago(at, now)));
                first.push(Span::from(format!("○ no connection{age}")).red().bold());
            }
        }
        let Some(view) = &self.view else {
            return vec![Line::from(first), Line::from(self.trouble.clone().unwrap_or_default())];
        };
        let mut counts = Vec::new();
        let mut verdicts = Verdict::ALL;
        verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.level()));
        for verdict in verdicts {
            let count = view.publishers.iter().filter(|publisher| publisher.verdict == verdict).count();
            if count > 0 {
                counts.push(Span::styled(format!("{count} {verdict}"), style(verdict)));
                counts.push(Span::from("   "));
            }
        }
        let lost: u64 = view.publishers.iter().map(|publisher| publisher.ledger.lost).sum();
        let lost_words = format!(" {lost} rows lost ");
        counts.push(if lost > 0 {
            Span::from(lost_words).white().on_red().bold()
        } else {
            Span::from(lost_words).dim()
        });
        let mut third: Vec<Span<'static>> = Vec::new();
        if view.observer.state == ObserverState::Suspect {
            third.push(Span::from(format!("the monitor doubts itself: {}   ", view.observer.reason)).yellow());
        }
        for sink in &view.sinks {
            let words = match sink.buffered_rows {
                0 => format!("{}: {}   ", sink.name, sink.state),
                rows => format!("{}: {}, {rows} rows wait   ", sink.name, sink.state),
            };
            third.push(if sink.state == "ok" { Span::from(words) } else { Span::from(words).yellow() });
        }
        if let Some(rate) = self.rows_per_second {
            third.push(Span::from(format!("{rate:.1} rows/s   ")));
        }
        if view.subscriber.malformed > 0 {
            third.push(Span::from(format!("{} messages unreadable", view.subscriber.malformed)).yellow());
        }
        vec![Line::from(first), Line::from(counts), Line::from(third)]
    }

    fn draw_table(&self, frame: &mut Frame<'_>, area: Rect, now: Timestamp) {
        let shown = self.shown();
        let selected = shown.iter().position(|publisher| Some(&publisher.id) == self.selected.as_ref()).unwrap_or(0);
        // only what fits is made into rows: there may be thousands
        let first = selected.saturating_sub(self.page_rows.saturating_sub(1));
        let rows = shown.iter().skip(first).take(self.page_rows).map(|publisher| row(publisher, now));
        let widths = [
            Constraint::Min(14),
            Constraint::Length(15),
            Constraint::Length(11),
            Constraint::Length(10),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(10),
            Constraint::Length(8),
            Constraint::Fill(3),
        ];
        let titles = ["PUBLISHER", "VERDICT", "LAST SEEN", "LEFT", "DEADLINE", "PID", "STORED", "LOST", "WHY"];
        let table = Table::new(rows, widths)
            .header(Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .column_spacing(1);
        let mut state = TableState::new().with_selected((!shown.is_empty()).then(|| selected - first));
        frame.render_stateful_widget(table, area, &mut state);
        if shown.is_empty() && self.view.is_some() {
            let words =
                if self.filter.is_empty() { "no publisher has been heard yet" } else { "no publisher is like that" };
            let below = Rect { y: area.y + 2, height: 1, ..area };
            frame.render_widget(Paragraph::new(words).dim(), below.intersection(frame.area()));
        }
    }

    fn foot(&self) -> Line<'static> {
        if self.typing {
            return Line::from(vec![
                Span::from("filter: ").bold(),
                Span::from(format!("{}▏", self.filter)),
                Span::from("  Enter keeps it, Esc clears it").dim(),
            ]);
        }
        let key = |key: &'static str, what: String| [Span::from(key).bold(), Span::from(format!(" {what}   "))];
        let order = if self.reversed { ", reversed" } else { "" };
        let mut spans = Vec::new();
        spans.extend(key("↑↓", "select".to_owned()));
        spans.extend(key("Enter", "explain".to_owned()));
        spans.extend(key("s", format!("sort ({}{order})", self.sort.words())));
        spans.extend(key("r", "reverse".to_owned()));
        let filter = if self.filter.is_empty() { "filter".to_owned() } else { format!("filter ({})", self.filter) };
        spans.extend(key("/", filter));
        spans.extend(key("q", "quit".to_owned()));
        Line::from(spans)
    }
}

fn centred(area: Rect) -> Rect {
    let (width, height) = (area.width.saturating_sub(8).min(110), area.height.saturating_sub(4).min(30));
    Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height }
}

fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Alive => Color::Green,
        Verdict::Ended => Color::Cyan,
        Verdict::Late | Verdict::Silent => Color::Yellow,
        Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => Color::Magenta,
        Verdict::Dead | Verdict::NeverStarted => Color::Red,
        Verdict::Unknown => Color::Gray,
    };
    let style = Style::new().fg(colour);
    if verdict.level() >= 3 { style.add_modifier(Modifier::BOLD) } else { style }
}

/// A sign for people who see no colours.
const fn sign(verdict: Verdict) -> char {
    match verdict {
        Verdict::Alive => '✓',
        Verdict::Ended => '→',
        Verdict::Late | Verdict::Silent => '…',
        Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => '!',
        Verdict::Dead | Verdict::NeverStarted => '✗',
        Verdict::Unknown => '?',
    }
}

fn silence(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(now.as_nanos().saturating_sub(then.as_nanos())).unwrap_or(0))
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    describe_duration(silence(then, now))
}

/// How much of the deadline is left, as a bar of eight characters.
fn bar(publisher: &PublisherView, now: Timestamp) -> Span<'static> {
    const CELLS: u32 = 8;
    let Some(seen) = publisher.last_seen.filter(|_| publisher.verdict != Verdict::Ended) else { return Span::from("") };
    let part =
        1.0 - silence(seen, now).as_secs_f64() / Duration::from_millis(publisher.deadline_ms.max(1)).as_secs_f64();
    let full = (0..CELLS).filter(|cell| f64::from(*cell) < part * f64::from(CELLS)).count();
    let text = "█".repeat(full) + "·".repeat(CELLS as usize - full).as_str();
    let span = Span::from(text);
    if part > 0.5 {
        span.green()
    } else if part > 0.2 {
        span.yellow()
    } else {
        span.red()
    }
}

fn row(publisher: &PublisherView, now: Timestamp) -> Row<'static> {
    let style = style(publisher.verdict);
    let lost = publisher.ledger.lost;
    let lost = if lost > 0 { Span::from(lost.to_string()).white().on_red().bold() } else { Span::from("0").dim() };
    let why = publisher.summary.split_once(": ").map_or(publisher.summary.as_str(), |(_, why)| why);
    Row::new([
        Cell::from(publisher.id.as_str().to_owned()),
        Cell::from(Span::styled(format!("{} {}", sign(publisher.verdict), publisher.verdict), style)),
        Cell::from(publisher.last_seen.map_or_else(|| "never".to_owned(), |seen| ago(seen, now))),
        Cell::from(bar(publisher, now)),
        Cell::from(describe_duration(Duration::from_millis(publisher.deadline_ms))),
        Cell::from(publisher.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
        Cell::from(publisher.ledger.stored.to_string()),
        Cell::from(lost),
        Cell::from(why.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::domain::ledger::Account;
    use crate::domain::publisher::HostName;

    fn publisher(id: &str, verdict: Verdict, lost: u64) -> PublisherView {
        serde_json::from_value(serde_json::json!({
            "id": id, "host": HostName::parse("here").unwrap(), "pid": 812, "verdict": verdict, "since": "1970-01-01T00:00:01Z",
            "last_seen": "1970-01-01T00:00:02Z", "deadline_ms": 5_000, "summary": format!("{verdict}: because of {id}"),
            "ledger": Account { stored: 42, lost, ..Account::default() },
        }))
        .unwrap()
    }

    fn top() -> Top {
        let mut top = Top::new("http://here");
        let publishers = vec![
            publisher("anna", Verdict::Alive, 0),
            publisher("bert", Verdict::Dead, 7),
            publisher("carl", Verdict::Silent, 0),
        ];
        let view =
            serde_json::json!({"observer": {"state": "ok", "reason": ""}, "publishers": publishers, "sinks": []});
        let view = serde_json::from_value(view).unwrap();
        top.heard(view, Timestamp::from_nanos(3_000_000_000));
        top
    }

    fn screen(top: &mut Top) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
        terminal.draw(|frame| top.draw(frame, Timestamp::from_nanos(3_000_000_000))).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..120).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..12).map(line).collect()
    }

    #[test]
    fn the_worst_comes_first_with_its_reason_and_what_is_left_of_the_deadline() {
        let lines = screen(&mut top());
        assert!(lines[0].contains("● live"), "{lines:#?}");
        assert!(lines[1].contains("1 dead") && lines[1].contains("7 rows lost"), "{lines:#?}");
        assert!(lines[4].starts_with("bert") && lines[4].contains("✗ dead") && lines[4].contains("because of bert"));
        assert!(lines[4].contains("███████·"), "{}", lines[4]);
        assert!(lines[5].starts_with("carl") && lines[6].starts_with("anna"), "{lines:#?}");
    }

    #[test]
    fn keys_sort_filter_select_explain_and_quit() {
        let mut top = top();
        for key in ['s', '/', 'a', 'r', 'l'] {
            assert_eq!(top.press(Key::Char(key)), Wish::Draw);
        }
        assert!(screen(&mut top)[4].starts_with("carl"), "only carl has 'arl' in its name");
        assert_eq!(top.press(Key::Escape), Wish::Draw);
        assert!(screen(&mut top)[4].starts_with("anna"), "by name");
        top.press(Key::Down);
        assert_eq!(top.press(Key::Enter), Wish::Explain(PublisherId::parse("bert").unwrap()));
        top.unexplained("it has no reason".to_owned());
        assert!(screen(&mut top).iter().any(|line| line.contains("it has no reason")));
        assert_eq!(top.press(Key::Char('x')), Wish::Draw);
        assert_eq!(top.press(Key::Char('q')), Wish::Quit);
    }

    #[test]
    fn a_lost_connection_is_said_with_the_age_of_what_is_shown() {
        let mut top = top();
        top.unheard("gone".to_owned());
        let lines = screen(&mut top);
        assert!(lines[0].contains("○ no connection; what you see is 0 ms old"), "{}", lines[0]);
    }
}
