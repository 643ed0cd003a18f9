//! How the screen looks: the head with what matters of all, the table, the keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::Top;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::time::{Timestamp, describe_duration};
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::PublisherView;

impl Top {
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
        let lost: u64 = view.publishers.iter().map(|publisher| publisher.ledger.lost).fold(0, u64::saturating_add);
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
        Verdict::Conflict | Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => Color::Magenta,
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
        Verdict::Conflict | Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => '!',
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
