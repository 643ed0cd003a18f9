//! SIGHUP: what changed in the configuration is applied, and no connection that did not change is dropped.
//!
//! | what changed | what happens |
//! |---|---|
//! | deadlines, `grace`, `[log]`, `[[notify]]`, `[[rule]]`, `[buffer]`, `[monitor]` | counts from now on |
//! | `[[publisher]]` | that one ends, starts, or starts again |
//! | `[influx]` | the rows go there; what is not delivered yet as well |
//! | `[web]` | the page is served anew; the old one stays when that fails |
//! | `[kafka]` | readings come from there; the broker is not concerned |
//! | `[[foreign]]` | the monitor takes up its session at the broker again, with other subscriptions |
//! | `[mqtt]` | the monitor and the publishers that it has started connect anew |
//! | `data_dir`, `monitor.id`, the embedded broker | everything hangs on them: the monitor stops in order and starts again, under the same PID |

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use crate::actors::influx_writer::SetSink;
use crate::config::{Broker, Changed, Mqtt, Settings, changes};
use crate::messages::alarms::SetRules;
use crate::messages::change::SetDeadlines;
use crate::messages::notice::SetTargets;
use crate::roles::notification_wiring;
use crate::roles::pipeline::Pipeline;
use crate::roles::pipeline::influx_sink;
use crate::roles::session::{ask_agents, wanted};
use crate::web;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::Expectations;

/// How long a publisher that has to end may take.
const END_GRACE: Duration = Duration::from_secs(5);

/// What becomes of the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadOutcome {
    /// It goes on.
    Running,
    /// It has to stop in order and start again: nothing of the new configuration has been applied.
    StartAgain,
}

/// Applies what differs. A part that cannot take its new settings keeps the old ones and says why; it is
/// tried again at the next reload.
pub(super) async fn reload(
    settings: &mut Settings,
    new: &Settings,
    pipeline: &mut Pipeline,
    set_level: impl Fn(LevelFilter),
) -> ReloadOutcome {
    let changed = changes(settings, new);
    if changed.is_empty() {
        tracing::info!("configuration read again: nothing has changed");
        return ReloadOutcome::Running;
    }
    if needs_start(settings, new) {
        match can_start(settings, new) {
            Ok(()) => return ReloadOutcome::StartAgain,
            Err(reason) => {
                tracing::error!(reason, "the new configuration cannot work, the old one stays");
                return ReloadOutcome::Running;
            }
        }
    }
    let mut applied = new.clone();
    for change in &changed {
        let done = match change {
            Changed::Grace | Changed::DataDir => Ok(()),
            Changed::Log => {
                set_level(new.log_level);
                Ok(())
            }
            Changed::Watch | Changed::PublisherWatchChanged(_) => pipeline.set_deadlines(new).await,
            Changed::PublisherAdded(id) | Changed::PublisherRemoved(id) | Changed::PublisherChanged(id) => {
                pipeline.feeds.end(id, Instant::now() + END_GRACE).await;
                let started = pipeline.start_feed(new, id).await;
                started.and(pipeline.set_deadlines(new).await)
            }
            Changed::Notify => pipeline.set_targets(new).await.inspect_err(|_| {
                (applied.mail, applied.notify) = (settings.mail.clone(), settings.notify.clone());
            }),
            Changed::Rules => pipeline.set_rules(new).await,
            Changed::Monitor => {
                pipeline.set_watchman(new).await.inspect_err(|_| applied.monitor = settings.monitor.clone())
            }
            Changed::Foreign => {
                // With the connection as it is by now: a change of the broker comes before.
                let with_old_broker = Settings { mqtt: applied.mqtt.clone(), ..new.clone() };
                pipeline.listen(&with_old_broker).await.inspect_err(|_| applied.foreign = settings.foreign.clone())
            }
            Changed::Influx => pipeline
                .aim(new)
                .await
                .inspect_err(|_| (applied.influx, applied.writer) = (settings.influx.clone(), settings.writer)),
            Changed::Buffer => pipeline.set_limits(new).await.inspect_err(|_| applied.buffer = settings.buffer),
            Changed::Web => pipeline.serve(settings, new).await.inspect_err(|_| applied.web = settings.web.clone()),
            Changed::Kafka => {
                let parts = &pipeline.changeable;
                let replaced = parts.kafka.replace(new, &parts.takers).await;
                replaced.inspect_err(|_| applied.kafka = settings.kafka.clone())
            }
            Changed::Etcd => {
                let followed = pipeline.changeable.nodes.follow(new);
                followed.inspect_err(|_| applied.etcd = settings.etcd.clone())
            }
            Changed::Mqtt if is_same_but_users(&settings.mqtt, &new.mqtt) => {
                pipeline.set_users(new);
                Ok(())
            }
            Changed::Mqtt => {
                pipeline.set_users(new);
                pipeline.connect(settings, new).await.inspect_err(|_| applied.mqtt = settings.mqtt.clone())
            }
        };
        match done {
            Ok(()) => tracing::info!(%change, "configuration applied"),
            Err(error) => tracing::error!(%change, error = format!("{error:#}"), "not applied"),
        }
    }
    *settings = applied;
    ReloadOutcome::Running
}

/// Whether so much hangs on what changed that nothing of the running monitor could stay.
fn needs_start(old: &Settings, new: &Settings) -> bool {
    old.data_dir != new.data_dir
        || old.monitor.id != new.monitor.id
        || with_users_of(&old.mqtt, &new.mqtt).embedded() != new.mqtt.embedded()
}

/// The settings with the users of other ones, where both have some: those change while the broker runs. Where there were none, clients
/// without a name are connected, and where there are none any more, ones that have to have one.
fn with_users_of(mqtt: &Mqtt, other: &Mqtt) -> Mqtt {
    let authority = mqtt.authority.as_ref().and(other.authority.clone()).or_else(|| mqtt.authority.clone());
    Mqtt { authority, ..mqtt.clone() }
}

fn is_same_but_users(old: &Mqtt, new: &Mqtt) -> bool {
    with_users_of(old, new) == *new
}

/// Looks before the leap: a data directory that cannot be made, or a taken port, keeps the old monitor running.
fn can_start(old: &Settings, new: &Settings) -> Result<(), String> {
    std::fs::create_dir_all(&new.data_dir)
        .map_err(|error| format!("data_dir: cannot make {}: {error}", new.data_dir.display()))?;
    let listens_at = |settings: &Settings| match settings.mqtt.broker {
        Broker::Embedded { listen } => Some(listen),
        Broker::At(_) => None,
    };
    match listens_at(new) {
        Some(listen) if listens_at(old) != Some(listen) => TcpListener::bind(listen)
            .map(drop)
            .map_err(|error| format!("mqtt.listen: the broker cannot listen on {listen}: {error}")),
        _ => Ok(()),
    }
}

impl Pipeline {
    fn set_users(&self, settings: &Settings) {
        if let Some(broker) = &self.broker {
            broker.set_users(settings.mqtt.authority.clone());
        }
    }

    async fn start_feed(&mut self, settings: &Settings, id: &PublisherId) -> anyhow::Result<()> {
        match settings.publishers.iter().find(|publisher| publisher.id == *id) {
            Some(publisher) => self.feeds.start(settings, &self.mqtt_url, publisher).await,
            None => Ok(()),
        }
    }

    /// Deadlines and expected publishers.
    async fn set_deadlines(&self, settings: &Settings) -> anyhow::Result<()> {
        let deadlines = Expectations {
            rules: settings.deadline_rules(),
            expected: settings.expected(),
            inside: settings.inside(),
            scheduled: settings.maintenance.clone(),
            flapping: settings.flapping,
        };
        // the publishers are told theirs
        let topics = settings.topics(&self.changeable.identity.id);
        self.changeable.topics.deliver(topics).await?;
        Ok(self.changeable.deadlines.deliver(SetDeadlines(deadlines)).await?)
    }

    async fn set_targets(&self, settings: &Settings) -> anyhow::Result<()> {
        Ok(self.changeable.targets.deliver(SetTargets(notification_wiring::targets(settings)?)).await?)
    }

    async fn set_rules(&self, settings: &Settings) -> anyhow::Result<()> {
        Ok(self.changeable.rules.deliver(SetRules(Arc::new(settings.rules.clone()))).await?)
    }

    async fn set_watchman(&self, settings: &Settings) -> anyhow::Result<()> {
        let parts = &self.changeable;
        let settings = notification_wiring::set_watchman(settings, &parts.identity, parts.processes.as_ref())?;
        Ok(parts.watchman.deliver(settings).await?)
    }

    async fn set_limits(&self, settings: &Settings) -> anyhow::Result<()> {
        Ok(self.changeable.journal.set_limits(settings.journal().limits()).await?)
    }

    /// Where the rows go. The journal first: a row is kept for the sink from then on.
    async fn aim(&self, settings: &Settings) -> anyhow::Result<()> {
        let aim = SetSink { sink: influx_sink(settings)?, config: settings.writer };
        self.set_limits(settings).await?;
        Ok(self.changeable.aim.deliver(aim).await?)
    }

    /// Serves the page as configured. On a new address the old one ends when the new one answers.
    async fn serve(&mut self, old: &Settings, new: &Settings) -> anyhow::Result<()> {
        let (before, after) = (&old.web, &new.web);
        let same_place = before.as_ref().map(|web| web.listen) == after.as_ref().map(|web| web.listen);
        let serve = |config: &web::WebConfig| web::serve(config, self.ports.clone(), self.clock);
        let cell = self.changeable.server.clone();
        let mut served = None;
        if same_place {
            let server = cell.take();
            stop(server).await;
        }
        let result = match after.as_ref().map(serve).transpose() {
            Ok(server) => {
                served = server;
                Ok(())
            }
            Err(error) => Err(error),
        };
        match (&result, same_place) {
            (Ok(()), _) => stop(cell.replace(served)).await,
            (Err(_), true) => *cell.borrow_mut() = before.as_ref().map(serve).transpose()?,
            (Err(_), false) => {}
        }
        self.page = cell.borrow().as_ref().map(web::Server::url);
        tracing::info!(page = self.page.as_deref().unwrap_or("off"), "the page is served here");
        Ok(result?)
    }

    /// Listens to other devices: the same session at the same broker, so that nothing is missed.
    async fn listen(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let parts = &self.changeable;
        let wanted = wanted(settings, &self.mqtt_url, &parts.identity)?;
        self.set_deadlines(settings).await?;
        parts.connection.replace(wanted, &parts.takers).await
    }

    /// Connects to the broker as configured. Our publishers end first, while we can still confirm what
    /// they have sent, and start again when we listen at the new place.
    async fn connect(&mut self, old: &Settings, new: &Settings) -> anyhow::Result<()> {
        let mqtt_url = match &new.mqtt.broker {
            Broker::At(url) => url.to_string(),
            // Its address has not changed, or we would not be here.
            Broker::Embedded { .. } => self.mqtt_url.clone(),
        };
        let wanted = wanted(new, &mqtt_url, &self.changeable.identity)?;
        wanted.config.validate()?;
        let fed: Vec<PublisherId> = old.publishers.iter().map(|publisher| publisher.id.clone()).collect();
        self.feeds.end_some(&fed, Instant::now() + END_GRACE).await;
        let parts = &self.changeable;
        let topics = new.topics(&parts.identity.id);
        parts.connection.close().await;
        parts.topics.deliver(topics).await?;
        self.set_watchman(new).await?;
        self.changeable.connection.replace(wanted, &self.changeable.takers).await?;
        self.changeable.agents.close_way("MQTT").await;
        ask_agents(&self.changeable.agents, new, &mqtt_url, self.clock)?;
        self.mqtt_url = mqtt_url;
        for id in fed {
            self.start_feed(new, &id).await?;
        }
        Ok(())
    }
}

async fn stop(server: Option<web::Server>) {
    if let Some(server) = server {
        server.stop().await;
    }
}
