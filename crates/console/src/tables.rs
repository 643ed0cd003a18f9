//! The verdict table and the ledger, for a person.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, Table};

use super::paint::harmless;
use super::status_footer;
use heartwatch_domain::ledger::SinkStatus;
use heartwatch_domain::ledger::{Account, NamedLoss};
use heartwatch_domain::roster::MaintenanceReply;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::time::{Timestamp, describe_duration};
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::{ExplanationView, LedgerView, PublisherView, ReconciliationView, StatusView};

/// Most bad messages below the verdict table; the JSON has more.
const BAD_MESSAGES_SHOWN_MAX: usize = 5;
/// Characters of each.
const EXCERPT_CHARS_MAX: usize = 60;

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawing {
    /// Whether to use colours.
    pub colour: bool,
    /// The width of the terminal in characters; none leaves lines as long as they are.
    pub width: Option<u16>,
}

impl Drawing {
    /// Without colours and as wide as it needs: for a pipe.
    pub const PLAIN: Self = Self { colour: false, width: None };

    fn table(self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if self.colour {
            table.enforce_styling();
        }
        if let Some(width) = self.width {
            table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
            table.set_width(width);
        }
        table.set_header(header.iter().map(|title| {
            let cell = Cell::new(title);
            if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        // A column starts two characters after the one before it, and the first where the line does.
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { 0 } else { 2 }, 0));
        }
        table
    }

    fn verdict(self, verdict: Verdict) -> Cell {
        let cell = Cell::new(verdict.as_str());
        if !self.colour {
            return cell;
        }
        let colour = match verdict {
            Verdict::Alive => Color::Green,
            Verdict::Ended => Color::Cyan,
            Verdict::Late | Verdict::Silent => Color::Yellow,
            Verdict::Conflict | Verdict::Hung | Verdict::Stopped | Verdict::Unreachable => Color::Magenta,
            Verdict::Dead | Verdict::NeverStarted => Color::Red,
            Verdict::Unknown => Color::White,
        };
        cell.fg(colour)
    }
}

/// A terminal narrower than this gets fewer columns, in characters.
const STATUS_WIDTH_MIN: u16 = 120;

fn number(value: u64) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(
        || "never".to_owned(),
        |then| {
            let nanos = u64::try_from(now.as_nanos().saturating_sub(then.as_nanos())).unwrap_or(0);
            format!("{} ago", describe_duration(Duration::from_nanos(nanos)))
        },
    )
}

/// A table of words and figures.
#[must_use]
pub fn plain(titles: &[&str], rows: impl Iterator<Item = Vec<String>>, drawing: Drawing) -> String {
    let mut table = drawing.table(titles);
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// The maintenance windows, and whom the open ones cover.
#[must_use]
pub fn maintenance(view: &MaintenanceReply) -> String {
    let mut text = String::new();
    let opened = view.windows.iter().map(|window| (window, "by command"));
    for (window, how) in opened.chain(view.scheduled.iter().map(|window| (window, "scheduled"))) {
        let reason = if window.reason.is_empty() { String::new() } else { format!(": {}", window.reason) };
        text.push_str(&format!("{} until {} ({how}){reason}\n", window.publisher, window.to));
    }
    if text.is_empty() {
        return "no maintenance window is open\n".to_owned();
    }
    let covered: Vec<_> = view.covered.iter().map(ToString::to_string).collect();
    let covered = if covered.is_empty() { "nobody that is known".to_owned() } else { covered.join(", ") };
    text.push_str(&format!("nobody is told about: {covered}\n"));
    text
}

/// Why nobody is called about it at the moment.
fn marks(publisher: &PublisherView) -> String {
    let mut marks = Vec::new();
    if let Some(open) = &publisher.maintenance {
        marks.push(format!("maintenance until {}", open.until));
    }
    if publisher.flapping {
        marks.push("flapping".to_owned());
    }
    if let Some(because) = &publisher.because {
        marks.push(format!("because of {because}"));
    }
    if marks.is_empty() { String::new() } else { format!("[{}] ", marks.join(", ")) }
}

/// A deadline that is not fixed is marked: it is its present value.
fn deadline(publisher: &PublisherView) -> String {
    let value = describe_duration(Duration::from_millis(publisher.deadline_ms));
    match publisher.deadline_kind.as_str() {
        "" | "fixed" => value,
        kind => format!("{value} ({kind})"),
    }
}

/// The verdict table, worst first, with the sinks and the observer below it.
#[must_use]
pub fn status(view: &StatusView, now: Timestamp, drawing: Drawing) -> String {
    // A narrow terminal gets fewer columns rather than words cut into pieces.
    let is_narrow = drawing.width.is_some_and(|width| width < STATUS_WIDTH_MIN);
    let all = ["PUBLISHER", "VERDICT", "SINCE", "LAST SEEN", "DEADLINE", "PID", "STORED", "LOST", "WHY"];
    let shown = |title: &str| !(is_narrow && matches!(title, "SINCE" | "DEADLINE" | "PID"));
    let titles: Vec<&str> = all.into_iter().filter(|title| shown(title)).collect();
    let mut table = drawing.table(&titles);
    let why = titles.len() - 1;
    for column in table.column_iter_mut().take(why) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut publishers: Vec<&PublisherView> = view.publishers.iter().collect();
    publishers.sort_by(|a, b| b.verdict.level().cmp(&a.verdict.level()).then_with(|| a.id.cmp(&b.id)));
    for publisher in publishers {
        let cells = [
            Cell::new(&publisher.id),
            drawing.verdict(publisher.verdict),
            Cell::new(publisher.since.time_of_day()),
            Cell::new(ago(publisher.last_seen, now)),
            Cell::new(deadline(publisher)),
            Cell::new(publisher.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
            number(publisher.ledger.stored),
            number(publisher.ledger.lost),
            Cell::new(
                marks(publisher)
                    + publisher.summary.split_once(": ").map_or(publisher.summary.as_str(), |(_, why)| why),
            ),
        ];
        table.add_row(all.into_iter().zip(cells).filter(|(title, _)| shown(title)).map(|(_, cell)| cell));
    }
    let mut text = trimmed(&table);
    if view.publishers.is_empty() {
        text.push_str("no publisher has been heard yet\n");
    }
    text.push_str(&sinks(&view.sinks));
    text.push_str(&status_footer::lines(view));
    if view.subscriber.malformed > 0 {
        text.push_str(&format!(
            "{} of {} messages could not be read, the last ones:\n",
            view.subscriber.malformed, view.subscriber.messages
        ));
        for bad in view.subscriber.bad_messages.iter().rev().take(BAD_MESSAGES_SHOWN_MAX) {
            let (at, topic, reason) = (bad.at.time_of_day(), harmless(&bad.topic), harmless(&bad.reason));
            let excerpt: String = bad.excerpt.chars().take(EXCERPT_CHARS_MAX).collect();
            text.push_str(&format!("  {at} '{topic}': {reason}; it begins \"{}\"\n", harmless(&excerpt)));
        }
    }
    if view.observer.state == ObserverState::Suspect {
        text.push_str(&format!("the monitor doubts itself: {}\n", view.observer.reason));
    }
    text
}

/// The ledger: one line an incarnation, and whether it balances.
#[must_use]
pub fn ledger(view: &LedgerView, drawing: Drawing) -> String {
    let titles = [
        "PUBLISHER",
        "INCARNATION",
        "PRODUCED",
        "RECEIVED",
        "STORED",
        "BUFFERED",
        "MISSING",
        "LOST",
        "EXPIRED",
        "DUPLICATES",
        "CONFLICTS",
    ];
    let mut table = drawing.table(&titles);
    let numbers = |a: &Account| {
        [a.produced, a.received, a.stored, a.buffered, a.missing, a.lost, a.expired, a.duplicates, a.conflicts]
    };
    for line in &view.accounts {
        let mut row = vec![Cell::new(&line.publisher), Cell::new(line.incarnation)];
        row.extend(numbers(&line.account).map(number));
        table.add_row(row);
    }
    let mut total = vec![Cell::new("total"), Cell::new("")];
    total.extend(numbers(&view.total).map(number));
    table.add_row(total);
    let balance = if view.balances {
        "balanced: produced = stored + buffered + missing + lost + expired"
    } else {
        "NOT balanced: produced differs from stored + buffered + missing + lost + expired"
    };
    format!("{}{}{}{balance}\n", trimmed(&table), sinks(&view.sinks), losses(view))
}

/// Most named losses below the ledger; the JSON has more.
const LOSSES_SHOWN_MAX: usize = 20;

/// Which rows are lost, and why.
fn losses(view: &LedgerView) -> String {
    let mut text = String::new();
    for loss in view.losses.iter().take(LOSSES_SHOWN_MAX) {
        let NamedLoss { publisher, incarnation, first, last, count, reason } = loss;
        let numbers = match (first == last, *count == last - first + 1) {
            (true, _) => format!("number {first}"),
            (false, true) => format!("{count} rows, numbers {first} to {last}"),
            (false, false) => format!("{count} rows among the numbers {first} to {last}"),
        };
        text.push_str(&format!(
            "lost: {publisher} (incarnation {incarnation}), {numbers}: {}\n",
            reason.escape_debug()
        ));
    }
    let more = view.losses.len().saturating_sub(LOSSES_SHOWN_MAX) as u64 + view.losses_left_out;
    if more > 0 {
        text.push_str(&format!("and {more} more such ranges: --json lists them\n"));
    }
    text
}

/// The ledger against a count of the store: one line a publisher, and whether they agree.
#[must_use]
pub fn reconciliation(view: &ReconciliationView, drawing: Drawing) -> String {
    let mut table = drawing.table(&["PUBLISHER", "STORED", "BUFFERED", "COUNTED", "DIFFERENCE"]);
    for line in &view.publishers {
        let difference = if line.difference == 0 { "0".to_owned() } else { format!("{:+}", line.difference) };
        let mut row = vec![Cell::new(&line.publisher)];
        row.extend([line.stored, line.buffered, line.counted].map(number));
        row.push(Cell::new(difference).set_alignment(CellAlignment::Right));
        table.add_row(row);
    }
    let differing = view.publishers.iter().filter(|line| line.difference != 0).count();
    let verdict = match (view.agrees, view.exact) {
        (true, true) => "they agree to the row".to_owned(),
        (true, false) => "they agree, apart from rows that are on their way at this moment".to_owned(),
        (false, _) => format!("they do NOT agree about {differing} publishers"),
    };
    let older = match view.older_rows {
        0 => String::new(),
        rows => {
            format!("{rows} rows in the store are older than what the ledger knows of their publishers: not compared\n")
        }
    };
    format!("{}the ledger of {}, rows counted in {}: {verdict}\n{older}", trimmed(&table), view.ledger, view.store)
}

/// Why a publisher has its verdict, and what came before.
#[must_use]
pub fn explanation(view: &ExplanationView, now: Timestamp) -> String {
    let publisher = &view.publisher;
    let mut text = format!("{} on {}", publisher.id, publisher.host);
    if let Some(pid) = publisher.pid {
        text.push_str(&format!(", PID {pid}"));
    }
    text.push('\n');
    match &view.change {
        Some(_) => text.push_str(&format!("{}\n", publisher.summary)),
        None => text.push_str(&format!("{}: no verdict yet\n", publisher.verdict)),
    }
    let marks = marks(publisher);
    if !marks.is_empty() {
        text.push_str(&format!("{}\n", marks.trim_end()));
    }
    text.push_str(&format!("\nlast seen  {}\n", ago(publisher.last_seen, now)));
    text.push_str(&format!("deadline   {}", describe_duration(Duration::from_millis(publisher.deadline_ms))));
    if let Some(basis) = &publisher.deadline_basis {
        text.push_str(&format!(" ({basis})"));
    }
    text.push('\n');
    if let Some(interval) = view.interval_ms {
        text.push_str(&format!(
            "promises   a sign of life every {}\n",
            describe_duration(Duration::from_millis(interval))
        ));
    }
    if let Some(change) = &view.change {
        text.push_str(&format!("true since {}, known at {}\n", change.at, change.decided_at));
        text.push_str("\nevidence\n");
        for evidence in &change.evidence {
            text.push_str(&format!("  - {}\n", evidence.detail));
        }
    }
    if !view.history.is_empty() {
        text.push_str("\nhistory\n");
    }
    for change in &view.history {
        text.push_str(&format!("  {}  {} → {}  {}\n", change.at, change.from, change.to, change.summary));
    }
    text
}

fn sinks(sinks: &[SinkStatus]) -> String {
    let mut text = String::new();
    for sink in sinks {
        text.push_str(&format!("store {}: {}", sink.name, sink.state));
        if sink.buffered_rows > 0 {
            text.push_str(&format!(", {} rows ({} bytes) wait on disk", sink.buffered_rows, sink.buffered_bytes));
        }
        if sink.dead_letters > 0 {
            text.push_str(&format!(", {} rows refused and kept as dead letters", sink.dead_letters));
        }
        if sink.moved_rows > 0 {
            text.push_str(&format!(", {} rows moved by nanoseconds: another one had their time", sink.moved_rows));
        }
        if !sink.last_error.is_empty() {
            text.push_str(&format!("; {}", sink.last_error));
        }
        text.push('\n');
    }
    text
}

fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::{HostName, PublisherId};

    fn publisher(id: &str, verdict: Verdict) -> PublisherView {
        PublisherView {
            id: PublisherId::parse(id).unwrap(),
            host: HostName::parse("here").unwrap(),
            pid: Some(812),
            verdict,
            since: Timestamp::from_nanos(1_000_000_000),
            last_seen: Some(Timestamp::from_nanos(2_000_000_000)),
            deadline_ms: 5_000,
            deadline_kind: "fixed".to_owned(),
            deadline_basis: None,
            maintenance: None,
            flapping: false,
            because: None,
            summary: format!("{verdict}: because"),
            child: None,
            ledger: Account { stored: 42, produced: 42, ..Account::default() },
        }
    }

    #[test]
    fn the_worst_comes_first_and_a_pipe_gets_plain_text() {
        let view = StatusView {
            publishers: vec![publisher("a", Verdict::Alive), publisher("b", Verdict::Dead)],
            ..StatusView::default()
        };
        let text = status(&view, Timestamp::from_nanos(4_500_000_000), Drawing::PLAIN);
        assert!(text.starts_with("PUBLISHER  VERDICT"), "{text}");
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "b dead 00:00:01.000 2.5 s ago 5 s 812 42 0 because");
        assert!(lines[2].starts_with("a alive"), "{}", lines[2]);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("key 'a': \u{1b}[2J\n"), "key 'a': \\u{1b}[2J\\n");
    }

    #[test]
    fn a_narrow_terminal_gets_whole_words() {
        let view = StatusView {
            observer: Default::default(),
            publishers: vec![publisher("light-1", Verdict::Dead)],
            sinks: vec![],
            subscriber: Default::default(),
            notifications: Default::default(),
            damage: heartwatch_domain::damage::DamageFound::default(),
            alarms: Default::default(),
            monitor: Default::default(),
        };
        let now = Timestamp::from_nanos(4_500_000_000);
        for width in [80, 100, 120, 200] {
            let text = status(&view, now, Drawing { colour: false, width: Some(width) });
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
            assert!(text.contains("LAST SEEN") && text.contains("2.5 s ago"), "{width}:\n{text}");
            assert_eq!(text.contains("PID"), width >= STATUS_WIDTH_MIN, "{width}:\n{text}");
        }
    }
}
