//! The alarms of `[[rule]]`: follows what the journal takes, looks at every rule every other second, and has
//! the notifier tell what is raised and what is over.
//!
//! What was raised and told is in a small file. It is written after the notifier has the notice on its own
//! disk, so a kill between the two tells one twice and forgets none. A publisher in maintenance is told of
//! when its window is over, if the alarm still stands then.

mod kept;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, AsyncContext, Context, Handler, MessageResult};

use self::kept::{Kept, KeptFile};
use self::table::{Table, Telling};
use crate::messages::alarms::{AskAlarms, SetRules};
use crate::messages::ask::{AskObserver, AskPublisher};
use crate::messages::intake::Intake;
use crate::messages::notice::Announce;
use crate::runtime::outlet::Outlet;
use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::notice::{AlarmState, Notice, RuleAlarm};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::rule::Rule;
use heartwatch_domain::status::AlarmsReply;
use heartwatch_formats::line_protocol;
use heartwatch_store::journal::{Journal, Tail};
use heartwatch_system::clock::Clock;
use heartwatch_system::damage_log::DamageLog;

/// How often the rules are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// While rows wait that were not read yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The measurement of what was raised and what was over.
const MEASUREMENT: &str = "heartwatch_alarm";

/// Whom it asks and tells.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    /// The watchdog: whether the monitor hears anything.
    pub observer: Outlet<AskObserver>,
    /// The watchdog: whether a publisher is in maintenance.
    pub publisher: Outlet<AskPublisher>,
    /// The notifier.
    pub notices: Outlet<Announce>,
    /// The writer, for the rows of the alarms.
    pub intake: Outlet<Intake>,
}

/// What every life is built from. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct AlarmsParts {
    clock: Clock,
    outlets: Outlets,
    file: KeptFile,
    wanted: Arc<Mutex<Arc<Vec<Rule>>>>,
    following: Arc<Mutex<Following>>,
    status: Arc<Mutex<AlarmsReply>>,
}

#[derive(Debug)]
struct Following {
    tail: Tail,
    table: Table,
    written: Vec<Kept>,
}

impl AlarmsParts {
    /// Alarms over a journal; what was raised before is in the file. `monitor` is whom readings without a
    /// publisher are ascribed to.
    #[must_use]
    pub(crate) fn new(
        journal: &Journal,
        (file, damage): (&Path, &DamageLog),
        monitor: (PublisherId, HostName),
        rules: Arc<Vec<Rule>>,
        clock: Clock,
        outlets: Outlets,
    ) -> Self {
        let file = KeptFile(file.to_owned());
        let kept = file.read(damage);
        let table = Table::new(monitor, kept.clone(), clock.monotonic());
        let following = Following { tail: journal.tail(), table, written: kept };
        Self {
            clock,
            outlets,
            file,
            wanted: Arc::new(Mutex::new(rules)),
            following: Arc::new(Mutex::new(following)),
            status: Arc::default(),
        }
    }

    /// Works on the table, off the actors' thread.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Following) -> T + Send + 'static) -> Option<T> {
        let following = Arc::clone(&self.following);
        let done =
            tokio::task::spawn_blocking(move || work(&mut following.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.inspect_err(|error| tracing::error!(%error, "the rules could not be looked at")).ok()
    }

    fn rules(&self) -> Arc<Vec<Rule>> {
        Arc::clone(&self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One look. The answer is when the next one is due.
    async fn look(self) -> Duration {
        let rules = self.rules();
        // Whoever does not answer hears nothing.
        let observer = self.outlets.observer.ask(AskObserver, ASK_TIMEOUT).await;
        let hears = observer.is_ok_and(|observer| observer.state == ObserverState::Ok);
        let clock = self.clock;
        let Looked { turned, over, tellings, behind, error } =
            self.with(move |following| following.look(&rules, hears, clock)).await.unwrap_or_default();
        for alarm in &turned {
            tracing::info!(rule = alarm.rule, publisher = %alarm.publisher, state = %alarm.state, "{}", alarm.summary);
        }
        self.write_down(&turned).await;
        fail::fail_point!("alarms::turned");
        let mut due = Vec::new();
        for telling in tellings {
            let alarm = &telling.alarm;
            if alarm.state == AlarmState::Resolved || !self.is_in_maintenance(&alarm.publisher).await {
                due.push(telling);
            }
        }
        let alarms = over.iter().chain(due.iter().map(|telling| &telling.alarm)).cloned().collect();
        let (over_told, told) = if self.tell(alarms).await { (over.len(), due) } else { (0, Vec::new()) };
        let file = self.file.clone();
        let status = self.with(move |following| following.keep(over_told, &told, &file, clock)).await;
        let mut shown = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if !error.is_empty() && shown.last_error.is_empty() {
            tracing::error!(error, "the rules cannot be looked at");
        }
        *shown = AlarmsReply { behind, last_error: error, ..status.unwrap_or_default() };
        if behind { LOOK_AGAIN } else { LOOK_EVERY }
    }

    /// Whether the notifier has them. They are handed over together, so that those of one rule are one message.
    async fn tell(&self, alarms: Vec<RuleAlarm>) -> bool {
        if alarms.is_empty() {
            return true;
        }
        let count = alarms.len();
        let notices = alarms.into_iter().map(Notice::Alarm).collect();
        let told = self.outlets.notices.deliver(Announce(Arc::new(notices))).await;
        told.inspect_err(|error| tracing::error!(%error, alarms = count, "alarms wait to be told")).is_ok()
    }

    async fn is_in_maintenance(&self, publisher: &PublisherId) -> bool {
        let status = self.outlets.publisher.ask(AskPublisher(publisher.clone()), ASK_TIMEOUT).await;
        // Better awake than quiet.
        status.ok().flatten().is_some_and(|status| status.maintenance.is_some())
    }

    /// A row for each turn, for plots.
    async fn write_down(&self, turned: &[RuleAlarm]) {
        let (mut lines, mut rows) = (Vec::new(), 0);
        for alarm in turned {
            let raised = FieldValue::Integer(i64::from(alarm.state == AlarmState::Firing));
            let summary = FieldValue::Text(alarm.summary.clone());
            let number = alarm.number.map(FieldValue::Float);
            let mut fields = vec![("raised", &raised), ("summary", &summary)];
            fields.extend(number.as_ref().map(|number| ("number", number)));
            // what tells the rule's alarms apart, and our own names above those
            let mut tags: BTreeMap<&str, &str> =
                alarm.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            tags.extend([
                ("host", alarm.host.as_str()),
                ("measurement", alarm.measurement.as_str()),
                ("publisher", alarm.publisher.as_str()),
                ("rule", alarm.rule.as_str()),
                ("severity", alarm.severity.as_str()),
            ]);
            let tags = tags.iter().map(|(key, value)| (*key, *value));
            let row = line_protocol::encode(&mut lines, MEASUREMENT, tags, fields.into_iter(), alarm.at);
            if row.is_ok() {
                lines.push(b'\n');
                rows += 1;
            }
        }
        if rows > 0 {
            let entries = Intake(Arc::new(vec![IntakeEntry::Unnumbered { lines, rows }]));
            if let Err(error) = self.outlets.intake.deliver(entries).await {
                tracing::warn!(%error, "alarms could not be written down");
            }
        }
    }
}

/// What a look has found.
#[derive(Debug, Default)]
struct Looked {
    turned: Vec<RuleAlarm>,
    over: Vec<RuleAlarm>,
    tellings: Vec<Telling>,
    behind: bool,
    error: String,
}

impl Following {
    /// Reads what has come, and looks at every rule. A number of half of the rows would be a wrong one: while
    /// rows wait, nothing is looked at.
    fn look(&mut self, rules: &Arc<Vec<Rule>>, hears: bool, clock: Clock) -> Looked {
        let (now, wall) = (clock.monotonic(), clock.wall());
        if self.table.set_rules(rules, now, wall) {
            self.tail.rewind();
        }
        let mut looked = Looked::default();
        if !rules.is_empty() {
            let since = wall.earlier_by(self.table.longest_window());
            let table = &mut self.table;
            match self.tail.read(since, clock, |row| table.take(row, wall)) {
                Ok(all) => looked.behind = !all,
                Err(error) => looked.error = error.to_string(),
            }
        }
        if !looked.behind && looked.error.is_empty() {
            looked.turned = self.table.look(hears, clock.monotonic(), clock.wall());
            (looked.over, looked.tellings) = self.table.tellings(clock.wall());
        }
        looked
    }

    /// Notes what was told, and writes down what must survive, if that has changed.
    fn keep(&mut self, over: usize, told: &[Telling], file: &KeptFile, clock: Clock) -> AlarmsReply {
        self.table.told_over(over);
        told.iter().for_each(|telling| self.table.told(telling));
        let kept = self.table.kept();
        if kept != self.written {
            match file.write(&kept) {
                Ok(()) => self.written = kept,
                Err(error) => tracing::error!(%error, path = %file.0.display(), "raised alarms cannot be kept"),
            }
        }
        self.table.status(clock.wall())
    }
}

/// The actor. Build each of its lives with clones of the same [`AlarmsParts`].
pub(crate) struct Alarms {
    parts: AlarmsParts,
    looking: bool,
    next: Option<actix::SpawnHandle>,
}

impl Alarms {
    /// A life of the alarms.
    #[must_use]
    pub(crate) const fn new(parts: AlarmsParts) -> Self {
        Self { parts, looking: false, next: None }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.looking {
            return;
        }
        self.looking = true;
        let look = self.parts.clone().look();
        ctx.spawn(look.into_actor(self).map(|next, actor, ctx| {
            actor.looking = false;
            let idle = actor.parts.rules().is_empty();
            actor.next = (!idle).then(|| ctx.run_later(next, Self::look));
        }));
    }
}

impl Actor for Alarms {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

crate::messages::progress::answers_progress!(Alarms);

impl Handler<SetRules> for Alarms {
    type Result = ();
    fn handle(&mut self, SetRules(rules): SetRules, ctx: &mut Context<Self>) {
        *self.parts.wanted.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        if let Some(next) = self.next.take() {
            ctx.cancel_future(next);
        }
        // A look under way may have begun with the old ones.
        ctx.run_later(LOOK_AGAIN, Self::look_after);
    }
}

impl Alarms {
    fn look_after(&mut self, ctx: &mut Context<Self>) {
        if self.looking {
            ctx.run_later(LOOK_AGAIN, Self::look_after);
        } else {
            if let Some(next) = self.next.take() {
                ctx.cancel_future(next);
            }
            self.look(ctx);
        }
    }
}

impl Handler<AskAlarms> for Alarms {
    type Result = MessageResult<AskAlarms>;
    fn handle(&mut self, _: AskAlarms, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.parts.status.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
