//! The collector: looks at the host at the interval of its live configuration, sends each reading through the
//! chain of plugins, and hands what is left to the publisher's queue.
//!
//! Looks and plugins run on a blocking thread, one look at a time. Settings, chain and counts outlive the
//! actor's lives.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, AsyncContext, Context, Handler, ResponseActFuture, SpawnHandle};

use crate::messages::agent::{Apply, AskCollector, CollectorStatus, ReloadPlugins};
use crate::messages::drain::Drain;
use crate::sources::SourceRow;
use crate::sources::arrivals::Arrivals;
use crate::sources::system::{HostMetrics, SystemError};
use heartwatch_domain::agent_settings::{AgentSettings, PluginState};
use heartwatch_domain::metrics::{Metric, MetricSet};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::Monotonic;
use heartwatch_fleet::plugins::{Chain, ChainReport, Decisions, Event, Level, Now, Sample};
use heartwatch_ports::PluginFolder;
use heartwatch_ports::ScriptFile;
use heartwatch_system::clock::Clock;

/// The measurement of what plugins report.
pub(crate) const EVENT_MEASUREMENT: &str = "agent_event";
/// How often the plugins' folder is read, at most.
const FOLDER_EVERY: Duration = Duration::from_secs(1);

/// What every life of one collector is built from. Clones share everything.
#[derive(Clone)]
pub(crate) struct CollectorParts {
    clock: Clock,
    queues: Vec<Arrivals>,
    settings: Rc<RefCell<Arc<AgentSettings>>>,
    work: Arc<Mutex<Work>>,
    counts: Rc<RefCell<Counts>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    samples: u64,
    readings: u64,
    events: u64,
    skipped: u64,
}

/// What is used on the blocking thread.
struct Work {
    host: HostMetrics,
    folder: Option<Arc<dyn PluginFolder>>,
    folder_read: Option<Monotonic>,
    scripts: Vec<ScriptFile>,
    chain: Chain,
    /// What the chain was built of.
    built_of: Option<(Arc<AgentSettings>, Vec<ScriptFile>)>,
}

impl CollectorParts {
    /// A collector that pushes into these queues, one a publisher, with the user's plugins from this folder.
    ///
    /// # Errors
    /// When this host cannot be measured.
    pub(crate) fn new(
        queues: Vec<Arrivals>,
        clock: Clock,
        settings: AgentSettings,
        folder: Option<Arc<dyn PluginFolder>>,
    ) -> Result<Self, SystemError> {
        let work = Work {
            host: HostMetrics::new()?,
            folder,
            folder_read: None,
            scripts: Vec::new(),
            chain: Chain::default(),
            built_of: None,
        };
        let parts = Self {
            clock,
            queues,
            settings: Rc::new(RefCell::new(Arc::new(settings))),
            work: Arc::new(Mutex::new(work)),
            counts: Rc::default(),
        };
        parts.promise();
        Ok(parts)
    }

    /// What is always there to be measured, without a plugin that may leave it out: a queue that stays empty
    /// then means that we hang.
    fn promise(&self) {
        let settings = self.settings.borrow();
        let always = settings.metrics.has(Metric::Memory) || settings.metrics.has(Metric::Disk);
        let promised = always && settings.plugins.is_empty();
        for queue in &self.queues {
            queue.expect_every(promised.then_some(settings.interval));
        }
    }

    fn status(&self, plugins: Vec<PluginState>) -> CollectorStatus {
        let Counts { samples, readings, events, skipped } = *self.counts.borrow();
        let settings = self.settings.borrow().clone();
        let dropped = self.queues.iter().map(Arrivals::refused).sum();
        CollectorStatus { settings, samples, readings, events, skipped, dropped, plugins }
    }

    /// Carries out what the chain has decided.
    fn carry_out(&self, decisions: Decisions) {
        for (level, line) in decisions.lines {
            match level {
                Level::Info => tracing::info!("{line}"),
                Level::Warning => tracing::warn!("{line}"),
            }
        }
        let mut counts = self.counts.borrow_mut();
        counts.readings += decisions.pass.len() as u64;
        counts.events += decisions.events.len() as u64;
        for Event { plugin, kind, level, message, .. } in &decisions.events {
            match level {
                Level::Info => tracing::info!(plugin, kind, "{message}"),
                Level::Warning => tracing::warn!(plugin, kind, "{message}"),
            }
        }
        let events = decisions.events.into_iter().map(event_row);
        let rows: Vec<_> = decisions.pass.into_iter().map(row).chain(events).collect();
        for queue in self.queues.iter().filter(|_| !rows.is_empty()) {
            queue.push(rows.iter().cloned().map(Ok));
        }
    }
}

impl Work {
    fn look(&mut self, settings: &Arc<AgentSettings>, now: Now, folder_now: bool) -> Decisions {
        let mut all = self.refresh(settings, now, folder_now);
        for (metric, value) in self.host.sample(&settings.metrics, now.monotonic) {
            let sample = Sample { metric: metric.as_str().to_owned(), value, tags: Vec::new(), time: now.wall };
            extend(&mut all, self.chain.run(sample, now));
        }
        all
    }

    /// Builds the chain anew when its plugins, their configuration or the user's files are other ones.
    fn refresh(&mut self, settings: &Arc<AgentSettings>, now: Now, folder_now: bool) -> Decisions {
        let due = self.folder_read.is_none_or(|read| now.monotonic.since(read) >= FOLDER_EVERY);
        if let Some(folder) = self.folder.as_ref().filter(|_| due || folder_now) {
            self.scripts = folder.read();
            self.folder_read = Some(now.monotonic);
        }
        let same = self.built_of.as_ref().is_some_and(|(built, scripts)| {
            built.plugins == settings.plugins
                && built.plugin_configs == settings.plugin_configs
                && *scripts == self.scripts
        });
        if same {
            return Decisions::default();
        }
        let mut last = self.chain.finalize(now);
        self.chain = Chain::build(&settings.plugins, &settings.plugin_configs, &self.scripts);
        self.built_of = Some((settings.clone(), self.scripts.clone()));
        for ChainReport { name, state, .. } in self.chain.report() {
            if state == "running" {
                last.lines.push((Level::Info, format!("plugin {name} is loaded")));
            } else {
                last.lines.push((Level::Warning, format!("plugin {name} is skipped: {state}")));
            }
        }
        last
    }

    fn plugins(&self) -> Vec<PluginState> {
        let report = self.chain.report().into_iter();
        report.map(|ChainReport { name, state, failures }| PluginState { name, state, failures }).collect()
    }
}

fn extend(all: &mut Decisions, more: Decisions) {
    all.pass.extend(more.pass);
    all.events.extend(more.events);
    all.lines.extend(more.lines);
}

fn row(sample: Sample) -> SourceRow {
    SourceRow {
        line: 0,
        measurement: Some(sample.metric),
        tags: sample.tags,
        time: Some(sample.time),
        fields: vec![("value".to_owned(), FieldValue::Float(sample.value))],
    }
}

fn event_row(event: Event) -> SourceRow {
    let tags = [("plugin", event.plugin), ("metric", event.metric), ("kind", event.kind)];
    let tags = tags.into_iter().filter(|(_, value)| !value.is_empty());
    let mut fields = vec![
        ("value".to_owned(), FieldValue::Float(event.value)),
        ("level".to_owned(), FieldValue::Text(event.level.to_string())),
        ("message".to_owned(), FieldValue::Text(event.message)),
    ];
    fields.extend(event.threshold.map(|threshold| ("threshold".to_owned(), FieldValue::Float(threshold))));
    SourceRow {
        line: 0,
        measurement: Some(EVENT_MEASUREMENT.to_owned()),
        tags: tags.map(|(key, value)| (key.to_owned(), value)).collect(),
        time: Some(event.time),
        fields,
    }
}

/// The actor. Build each of its lives with clones of the same [`CollectorParts`].
pub(crate) struct Collector {
    parts: CollectorParts,
    timer: Option<SpawnHandle>,
    looking: bool,
    ended: bool,
}

impl Collector {
    /// A life of the collector.
    #[must_use]
    pub(crate) const fn new(parts: CollectorParts) -> Self {
        Self { parts, timer: None, looking: false, ended: false }
    }

    /// The next look after `wait`, in place of the one that was planned.
    fn plan(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if !self.ended {
            self.timer = Some(ctx.run_later(wait, Self::look));
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let interval = self.parts.settings.borrow().interval;
        self.plan(interval, ctx);
        if self.looking {
            let mut counts = self.parts.counts.borrow_mut();
            counts.skipped += 1;
            if counts.skipped.is_power_of_two() {
                tracing::warn!(skipped = counts.skipped, "a look at this host takes longer than its interval");
            }
            return;
        }
        self.looking = true;
        let work = self.work(|work, settings, now| (work.look(settings, now, false), ()));
        ctx.spawn(work.into_actor(self).map(|done, actor, _| {
            actor.looking = false;
            if let Some((decisions, ())) = done {
                actor.parts.counts.borrow_mut().samples += 1;
                actor.parts.carry_out(decisions);
            }
        }));
    }

    /// Runs a step of the work on a blocking thread.
    fn work<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Work, &Arc<AgentSettings>, Now) -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let (work, settings, clock) = (self.parts.work.clone(), self.parts.settings.borrow().clone(), self.parts.clock);
        async move {
            let done = tokio::task::spawn_blocking(move || {
                let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Now { monotonic: clock.monotonic(), wall: clock.wall() };
                step(&mut work, &settings, now)
            });
            done.await.inspect_err(|error| tracing::error!(%error, "a look at this host failed")).ok()
        }
    }

    /// Brings the chain up to date and tells how everything stands.
    fn refreshed(&self, folder_now: bool) -> ResponseActFuture<Self, CollectorStatus> {
        let work = self.work(move |work, settings, now| {
            let decisions = work.refresh(settings, now, folder_now);
            (decisions, work.plugins())
        });
        Box::pin(work.into_actor(self).map(|done, actor, _| {
            let (decisions, plugins) = done.unwrap_or_default();
            actor.parts.carry_out(decisions);
            actor.parts.status(plugins)
        }))
    }
}

impl Actor for Collector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

crate::messages::progress::answers_progress!(Collector);

impl Handler<Apply> for Collector {
    type Result = ResponseActFuture<Self, CollectorStatus>;

    fn handle(&mut self, Apply(settings): Apply, ctx: &mut Context<Self>) -> Self::Result {
        // A document that changes nothing moves no turn.
        if *settings == **self.parts.settings.borrow() {
            return self.refreshed(false);
        }
        let names = |metrics: &MetricSet| metrics.names().join(", ");
        tracing::info!(interval = ?settings.interval, metrics = names(&settings.metrics), "measuring");
        *self.parts.settings.borrow_mut() = settings;
        self.parts.promise();
        let interval = self.parts.settings.borrow().interval;
        self.plan(interval, ctx);
        self.refreshed(false)
    }
}

impl Handler<ReloadPlugins> for Collector {
    type Result = ResponseActFuture<Self, CollectorStatus>;

    fn handle(&mut self, _: ReloadPlugins, _: &mut Context<Self>) -> Self::Result {
        self.refreshed(true)
    }
}

impl Handler<AskCollector> for Collector {
    type Result = ResponseActFuture<Self, CollectorStatus>;

    fn handle(&mut self, _: AskCollector, _: &mut Context<Self>) -> Self::Result {
        let work = self.work(|work, _, _| work.plugins());
        Box::pin(work.into_actor(self).map(|plugins, actor, _| actor.parts.status(plugins.unwrap_or_default())))
    }
}

impl Handler<Drain> for Collector {
    type Result = ResponseActFuture<Self, ()>;

    /// What the plugins hold back goes on, and the queue ends behind it.
    fn handle(&mut self, _: Drain, ctx: &mut Context<Self>) -> Self::Result {
        self.ended = true;
        self.plan(Duration::ZERO, ctx);
        // a look that is under way is done first: both use the same thread's lock
        let work = self.work(|work, _, now| work.chain.finalize(now));
        Box::pin(work.into_actor(self).map(|decisions, actor, _| {
            actor.parts.carry_out(decisions.unwrap_or_default());
            actor.parts.queues.iter().for_each(Arrivals::close);
        }))
    }
}
