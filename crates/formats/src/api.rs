//! The JSON of a running monitor: what `/api/…` answers and `--json` prints. The names are those of
//! the public interface; keys are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use heartwatch_domain::damage::DamageFound;
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::ledger::{Account, NamedLoss, Reconciled};
use heartwatch_domain::ledger::{LedgerLine, LedgerReply, SinkStatus};
use heartwatch_domain::maintenance::Open;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::roster::{ObserverStatus, PublisherStatus, StatusReply};
use heartwatch_domain::status::AlarmsReply;
use heartwatch_domain::status::MonitorStatus;
use heartwatch_domain::status::SubscriberStatus;
use heartwatch_domain::status::TargetStatus;
use heartwatch_domain::status::{ChildState, ChildStatus};
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Verdict};

/// `GET /api/status`, `status --json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// Whether the monitor trusts itself.
    pub observer: ObserverStatus,
    /// Every publisher, ordered by id.
    pub publishers: Vec<PublisherView>,
    /// Where rows end up, and what waits.
    pub sinks: Vec<SinkStatus>,
    /// What came over MQTT, and what of it could not be read.
    #[serde(default)]
    pub subscriber: SubscriberStatus,
    /// Who is told of verdict changes, and what has become of it.
    #[serde(default)]
    pub notifications: Vec<TargetStatus>,
    /// How the monitor itself does.
    #[serde(default)]
    pub monitor: MonitorStatus,
    /// How the rules (`[[rule]]`) stand.
    #[serde(default)]
    pub alarms: AlarmsReply,
    /// What was found damaged on disk since the monitor started.
    #[serde(default)]
    pub damage: DamageFound,
}

/// One publisher in [`StatusView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublisherView {
    /// Who it is.
    pub id: PublisherId,
    /// Where it runs, as it says itself.
    pub host: HostName,
    /// Its process id, where known.
    pub pid: Option<u32>,
    /// What is true of it now.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// When it was last heard.
    pub last_seen: Option<Timestamp>,
    /// Its deadline in milliseconds.
    pub deadline_ms: u64,
    /// How its deadline is found: `fixed`, `intervals` or `adaptive`.
    #[serde(default)]
    pub deadline_kind: String,
    /// What its deadline rests on, in words, where it is not fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_basis: Option<String>,
    /// Why, in one line; empty before the first verdict.
    #[serde(default)]
    pub summary: String,
    /// The maintenance window that it is in: its changes are shown and not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Open>,
    /// Whether it flaps: its changes are shown and not told until it is steady.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// The host whose loss speaks for its verdict (`host:NAME`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<PublisherId>,
    /// What its process does, where the monitor has started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildView>,
    /// The account of its rows, all incarnations together.
    pub ledger: Account,
}

/// A publisher's process that the monitor has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildView {
    /// `running`, `waiting` (to be started again), `ended` or `gave-up` (it ended too often).
    pub state: String,
    /// How often it was started.
    pub starts: u64,
    /// How it ended the last time; empty when it has not.
    #[serde(default)]
    pub last_end: String,
}

impl From<ChildStatus> for ChildView {
    fn from(status: ChildStatus) -> Self {
        let state = match status.state {
            ChildState::Running { .. } => "running",
            ChildState::Waiting => "waiting",
            ChildState::Ended => "ended",
            ChildState::GaveUp => "gave-up",
        };
        let last_end = status.last_end.map(|end| format!("{} at {}", end.how, end.at)).unwrap_or_default();
        Self { state: state.to_owned(), starts: status.starts, last_end }
    }
}

/// `GET /api/publishers/ID`, `explain ID --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplanationView {
    /// The publisher as it stands.
    #[serde(flatten)]
    pub publisher: PublisherView,
    /// The interval that it promises, in milliseconds, once known.
    pub interval_ms: Option<u64>,
    /// The change that led to its verdict, with the evidence.
    pub change: Option<Change>,
    /// Its changes, oldest first.
    pub history: Vec<Change>,
}

/// `GET /api/ledger`, `ledger --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    /// One line an incarnation.
    pub accounts: Vec<LedgerLine>,
    /// All of them together.
    pub total: Account,
    /// Whether every row is accounted for.
    pub balances: bool,
    /// What `lost` consists of: which numbers, and why.
    #[serde(default)]
    pub losses: Vec<NamedLoss>,
    /// How many more such ranges there are than fit in here.
    #[serde(default)]
    pub losses_left_out: u64,
    /// Since when this ledger knows whose the rows without numbers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Where rows end up, and what waits.
    pub sinks: Vec<SinkStatus>,
}

/// `ledger --reconcile --json`: the ledger against a count of the rows in the store itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconciliationView {
    /// Whether every publisher's rows agree.
    pub agrees: bool,
    /// Whether they agree to the row, with nothing on its way.
    pub exact: bool,
    /// Where the account was read: the monitor's URL, or the journal of one that does not run.
    pub ledger: String,
    /// Where the rows were counted.
    pub store: String,
    /// Each publisher that the ledger or the store knows, ordered.
    pub publishers: Vec<Reconciled>,
    /// Rows in the store that are older than what the ledger knows of their publishers: they are not compared.
    #[serde(default)]
    pub older_rows: u64,
}

/// `POST /api/maintenance`: opens a window from now on; one of the same pattern is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginMaintenance {
    /// For whom: an id, a pattern, or `host:NAME` for everyone there.
    pub publisher: IdPattern,
    /// For how long.
    pub minutes: u64,
    /// Why, for whoever looks.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/maintenance/end`: ends the windows that were opened for exactly this pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndMaintenance {
    /// For whom.
    pub publisher: IdPattern,
}

/// An error in JSON, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// What went wrong.
    pub error: String,
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl PublisherView {
    /// A publisher with the account of its rows.
    #[must_use]
    pub fn new(status: PublisherStatus, ledger: Account) -> Self {
        Self {
            id: status.id,
            host: status.host,
            pid: status.pid,
            verdict: status.verdict,
            since: status.since,
            last_seen: status.last_seen,
            deadline_ms: millis(status.deadline),
            deadline_kind: status.deadline_kind.to_owned(),
            deadline_basis: status.deadline_basis,
            maintenance: status.maintenance,
            flapping: status.flapping,
            because: status.because,
            summary: status.summary,
            child: None,
            ledger,
        }
    }
}

impl StatusView {
    /// What the watchdog and the writer say, joined by publisher.
    #[must_use]
    pub fn new(status: StatusReply, ledger: LedgerReply, subscriber: SubscriberStatus) -> Self {
        let mut accounts = accounts_by_publisher(&ledger.accounts);
        let publishers = status.publishers.into_iter().map(|publisher| {
            let account = accounts.remove(&publisher.id).unwrap_or_default();
            PublisherView::new(publisher, account)
        });
        Self {
            observer: status.observer,
            publishers: publishers.collect(),
            sinks: ledger.sinks,
            subscriber,
            ..Self::default()
        }
    }

    /// The same with what the monitor has started, whom it tells, and how it does itself.
    #[must_use]
    pub fn with(
        mut self,
        children: Vec<ChildStatus>,
        notifications: Vec<TargetStatus>,
        monitor: MonitorStatus,
    ) -> Self {
        for child in children {
            // They are ordered by id.
            if let Ok(index) = self.publishers.binary_search_by(|publisher| publisher.id.cmp(&child.publisher)) {
                self.publishers[index].child = Some(child.into());
            }
        }
        (self.notifications, self.monitor) = (notifications, monitor);
        self
    }
}

impl ExplanationView {
    /// One publisher with its account and its past.
    #[must_use]
    pub fn new(status: PublisherStatus, ledger: Account, history: Vec<Change>) -> Self {
        let (interval_ms, change) = (status.interval.map(millis), status.change.clone());
        Self { publisher: PublisherView::new(status, ledger), interval_ms, change, history }
    }
}

impl From<LedgerReply> for LedgerView {
    fn from(reply: LedgerReply) -> Self {
        let total = reply.accounts.iter().fold(Account::default(), |sum, line| sum.plus(line.account));
        let balances = reply.accounts.iter().all(|line| line.account.balances());
        let LedgerReply { accounts, losses, losses_left_out, since, sinks } = reply;
        Self { accounts, total, balances, losses, losses_left_out, since, sinks }
    }
}

/// Each publisher's account over all its incarnations.
#[must_use]
pub fn accounts_by_publisher(lines: &[LedgerLine]) -> BTreeMap<PublisherId, Account> {
    let mut accounts: BTreeMap<PublisherId, Account> = BTreeMap::new();
    for line in lines {
        let account = accounts.entry(line.publisher.clone()).or_default();
        *account = account.plus(line.account);
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::Incarnation;

    fn line(publisher: &str, incarnation: u64, stored: u64, lost: u64) -> LedgerLine {
        let account = Account { produced: stored + lost, received: stored, stored, lost, ..Account::default() };
        LedgerLine::new(PublisherId::parse(publisher).unwrap(), Incarnation(incarnation), account)
    }

    #[test]
    fn a_publishers_incarnations_are_one_account_in_the_status() {
        let status = PublisherStatus {
            id: PublisherId::parse("light").unwrap(),
            host: HostName::parse("here").unwrap(),
            pid: Some(812),
            verdict: Verdict::NeverStarted,
            since: Timestamp::from_nanos(0),
            last_seen: None,
            deadline: std::time::Duration::from_secs(5),
            deadline_kind: "fixed",
            deadline_basis: None,
            interval: None,
            change: None,
            summary: String::new(),
            maintenance: None,
            flapping: false,
            because: None,
        };
        let accounts = vec![line("light", 1, 5, 1), line("light", 2, 7, 0)];
        let ledger = LedgerReply { accounts, ..LedgerReply::default() };
        let status = StatusReply { observer: ObserverStatus::default(), publishers: vec![status] };
        let view = StatusView::new(status, ledger.clone(), SubscriberStatus::default());
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["observer"]["state"], "ok");
        let publisher = &json["publishers"][0];
        assert_eq!(publisher["verdict"], "never-started");
        assert_eq!(publisher["deadline_ms"], 5_000);
        assert_eq!(publisher["since"], "1970-01-01T00:00:00.000Z");
        assert_eq!(publisher["ledger"]["stored"], 12);
        assert_eq!(serde_json::from_value::<StatusView>(json).unwrap(), view);
        let view = LedgerView::from(ledger);
        assert_eq!((view.total.produced, view.balances), (13, true));
    }
}
