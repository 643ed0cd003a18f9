//! `heartwatch demo`: a scenario from start to end with everything embedded, told as it happens.

mod mismatches;
mod publishers;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use self::mismatches::{Told, mismatches, story_mismatches};
use self::publishers::{FIXTURES, publishers};
use crate::config::{Broker, Layers, Settings, load};
use crate::messages::ask::{AskLedger, AskStatus, AskSubscriber};
use crate::messages::child::ChildSignal;
use crate::roles::cli::{DemoArgs, Scenario};
use crate::roles::pipeline::{self, Pipeline};
use heartwatch_console::drawing;
use heartwatch_console::print_line;
use heartwatch_console::{change_line, paint, tables};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::describe_duration;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_formats::api::StatusView;
use heartwatch_servers::directory::Directory;
use heartwatch_system::signals::Request;

/// How long the publishers may take to be heard for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an actor may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One line of the story for a program (`--json`).
#[derive(serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum DemoLine<'a> {
    Change { change: &'a Change },
    Act { publisher: &'a PublisherId, pid: u32, act: &'a str },
    Status { status: &'a StatusView },
    Result { scenario: u8, passed: bool, reasons: &'a [String] },
}

/// The scenario as it is played.
struct Stage<'a> {
    args: &'a DemoArgs,
    scenario: Scenario,
    pipeline: Pipeline,
    live: broadcast::Receiver<Change>,
    requests: mpsc::Receiver<Request>,
    progress: ProgressBar,
    told: Told,
}

/// Plays the scenario; the answer is the exit code: 0 only when the verdicts are the scenario's.
///
/// # Errors
/// When a part cannot start.
pub(super) async fn demo(args: &DemoArgs, scenario: Scenario, requests: mpsc::Receiver<Request>) -> anyhow::Result<u8> {
    let mut settings = load(&Layers::without_file(args.overrides()))?.settings;
    let directory = match &args.data_dir {
        Some(path) => Directory::of_user(path)?,
        None => Directory::temporary("demo")?,
    };
    settings.data_dir = directory.path().to_owned();
    settings.deadlines.default = args.deadline;
    // A free port: a broker of the user's own may have 1883.
    settings.mqtt.broker = Broker::Embedded { listen: ([127, 0, 0, 1], 0).into() };
    settings.publishers = publishers(&settings.data_dir)?;
    choose_page(args, &mut settings);

    let pipeline = pipeline::start(&settings).await?;
    let live = pipeline.ports.live.subscribe();
    let progress = ProgressBar::with_draw_target(None, progress_target(args));
    progress.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let mut stage = Stage { args, scenario, pipeline, live, requests, progress, told: Told::default() };
    stage.introduce(&settings);
    let played = stage.play().await;
    stage.progress.finish_and_clear();
    stage.tell_changes();
    let code = match played {
        Ok(true) => stage.conclude(&settings).await,
        Ok(false) => {
            stage.say("\nStopped by a signal before the end.");
            stage.say_result(&["stopped by a signal before the end".to_owned()]);
            Ok(1)
        }
        Err(error) => Err(error),
    };
    stage.pipeline.stop(settings.grace).await;
    drop(directory);
    code
}

/// Standard error of a terminal alone, and never between the lines of JSON.
fn progress_target(args: &DemoArgs) -> ProgressDrawTarget {
    if args.json || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    }
}

/// The page is a welcome extra: a taken port turns it off unless the user asked for it.
fn choose_page(args: &DemoArgs, settings: &mut Settings) {
    if args.web.is_none()
        && let Some(web) = &settings.web
        && std::net::TcpListener::bind(web.listen).is_err()
    {
        settings.web = None;
    }
}

impl Stage<'_> {
    fn say(&self, text: &str) {
        if !self.args.json {
            self.progress.suspend(|| print_line(text));
        }
    }

    fn say_json(&self, line: &DemoLine<'_>) {
        if self.args.json
            && let Ok(json) = serde_json::to_string(line)
        {
            print_line(&json);
        }
    }

    fn say_result(&self, reasons: &[String]) {
        let scenario = number(self.scenario);
        self.say_json(&DemoLine::Result { scenario, passed: reasons.is_empty(), reasons });
    }

    fn introduce(&self, settings: &Settings) {
        let what = match self.scenario {
            Scenario::BothWork => "two publishers replay a light sensor's log, and both go on working",
            Scenario::OneKilled => "two publishers replay a light sensor's log, and one is killed",
            Scenario::BothKilled => "two publishers replay a light sensor's log, and both are killed",
        };
        self.say(&paint::bold(&format!("Scenario {}: {what}.", number(self.scenario))));
        let line = |what: &str, value: &str| self.say(&format!("  {what:<9} {value}"));
        line("broker", &format!("{} (embedded)", self.pipeline.mqtt_url));
        match &settings.influx {
            Some(influx) => line("stores", &format!("{} and {} (embedded)", influx.url, settings.data_dir.display())),
            None => line("store", &format!("{} (embedded)", settings.data_dir.display())),
        }
        line("page", self.pipeline.page.as_deref().unwrap_or("off"));
        line("deadline", &describe_duration(self.args.deadline));
        self.say("");
    }

    /// Plays the acts. Answers `false` when a signal ended it.
    async fn play(&mut self) -> anyhow::Result<bool> {
        let ids: Vec<_> = FIXTURES.iter().map(|(name, _)| PublisherId::parse(name)).collect::<Result<_, _>>()?;
        let all: Vec<_> = ids.iter().map(|id| (id.clone(), Verdict::Alive)).collect();
        if !self.wait_for("waiting for both publishers to be heard", START_TIMEOUT, &all).await? {
            return Ok(false);
        }
        let deadline = self.args.deadline;
        let killed = match self.scenario {
            Scenario::BothWork => &ids[..0],
            Scenario::OneKilled => &ids[..1],
            Scenario::BothKilled => &ids[..],
        };
        if killed.is_empty() {
            return self.pass("both work; watching for two deadlines", deadline * 2).await;
        }
        if !self.pass("both work; watching for one deadline", deadline).await? {
            return Ok(false);
        }
        for id in killed {
            let pid = self.pipeline.feeds.signal(id, ChildSignal::Kill).await;
            let pid = pid.with_context(|| format!("{id} had ended before it could be killed"))?;
            self.tell_changes();
            let now = self.pipeline.clock.wall().time_of_day();
            self.say(&format!("{}  {}", paint::faint(&now), paint::bold(&format!("kill -9 {pid}  ({id})"))));
            self.say_json(&DemoLine::Act { publisher: id, pid, act: "SIGKILL" });
        }
        let expected: Vec<_> = killed.iter().map(|id| (id.clone(), Verdict::Dead)).collect();
        let patience = deadline * 3 + Duration::from_secs(5);
        if !self.wait_for("silence; waiting for the verdict", patience, &expected).await? {
            return Ok(false);
        }
        // A survivor has to show that it is one.
        if killed.len() < ids.len() {
            self.pass("watching the other for one more deadline", deadline).await
        } else {
            Ok(true)
        }
    }

    /// Waits until these verdicts stand, or the time is up (the conclusion says so then).
    async fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: &[(PublisherId, Verdict)],
    ) -> anyhow::Result<bool> {
        let end = Instant::now() + timeout;
        loop {
            let status = self.pipeline.ports.verdicts.ask(AskStatus, ASK_TIMEOUT).await?;
            // A verdict that an earlier run has left in the data directory does not count: it was not heard.
            let stands = |(id, verdict): &(PublisherId, Verdict)| {
                status.publishers.iter().any(|publisher| {
                    publisher.id == *id && publisher.verdict == *verdict && publisher.last_seen.is_some()
                })
            };
            if wanted.iter().all(stands) || Instant::now() >= end {
                return Ok(true);
            }
            if !self.pass_quietly(what, LOOK_EVERY, end).await? {
                return Ok(false);
            }
        }
    }

    /// Lets time pass and tells what happens in it.
    async fn pass(&mut self, what: &str, duration: Duration) -> anyhow::Result<bool> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let step = LOOK_EVERY.min(end.saturating_duration_since(Instant::now()));
            if !self.pass_quietly(what, step, end).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn pass_quietly(&mut self, what: &str, step: Duration, end: Instant) -> anyhow::Result<bool> {
        self.tell_changes();
        let left = end.saturating_duration_since(Instant::now()).as_millis().div_ceil(1_000);
        self.progress.set_message(format!("{what} (at most {left} s more)"));
        self.progress.tick();
        let Self { requests, pipeline, .. } = self;
        tokio::select! {
            () = tokio::time::sleep(step) => Ok(true),
            request = requests.recv() => Ok(request == Some(Request::Reload)),
            reason = pipeline.failed() => anyhow::bail!(reason),
        }
    }

    fn tell_changes(&mut self) {
        loop {
            match self.live.try_recv() {
                Ok(change) => {
                    self.say(&change_line::line(&change));
                    self.say_json(&DemoLine::Change { change: &change });
                    self.told.changes.push(change);
                }
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    self.say(&format!("({missed} changes not shown)"));
                    self.told.missed += missed;
                }
                Err(_) => return,
            }
        }
    }

    /// The verdict table, and whether it is the scenario's.
    async fn conclude(&mut self, settings: &Settings) -> anyhow::Result<u8> {
        let ports = &self.pipeline.ports;
        let status = ports.verdicts.ask(AskStatus, ASK_TIMEOUT).await?;
        let ledger = ports.ledger.ask(AskLedger, ASK_TIMEOUT).await?;
        let subscriber = ports.arrivals.ask(AskSubscriber, ASK_TIMEOUT).await?;
        let view = StatusView::new(status, ledger, subscriber);
        self.say(&format!("\n{}", tables::status(&view, self.pipeline.clock.wall(), drawing()).trim_end()));
        self.say_json(&DemoLine::Status { status: &view });
        self.tell_changes();
        let mut reasons = mismatches(self.scenario, &view);
        reasons.extend(story_mismatches(self.scenario, &self.told));
        let scenario = number(self.scenario);
        self.say_result(&reasons);
        if reasons.is_empty() {
            self.say(&format!("\nScenario {scenario} is as it should be."));
            if self.args.data_dir.is_some() {
                let data_dir = settings.data_dir.display();
                self.say(&format!("The readings: heartwatch export --data-dir {data_dir} --out light.csv"));
            }
            return Ok(0);
        }
        for reason in &reasons {
            self.say(&format!("\nNot as scenario {scenario} should be: {reason}"));
        }
        Ok(1)
    }
}

const fn number(scenario: Scenario) -> u8 {
    match scenario {
        Scenario::BothWork => 1,
        Scenario::OneKilled => 2,
        Scenario::BothKilled => 3,
    }
}
