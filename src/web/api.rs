//! `/api/…`, `/metrics`, `/healthz`, `/readyz`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::Ordering;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::ports::in_time;
use super::snapshot::status as view;
use super::{ASK_TIMEOUT, Ports};
use crate::messages::alarms::AskAlarms;
use crate::messages::ask::{AskLedger, AskPublisher, AskStatus};
use crate::messages::child::AskChild;
use heartwatch_domain::history::{ChangesQuery, NewestQuery};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::roster::ObserverState;
use heartwatch_domain::status::TargetStatus;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::{ChildView, ErrorView, ExplanationView, LedgerView, accounts_by_publisher};
use heartwatch_system::broker_counts::BrokerCounts;
use heartwatch_system::connections::ConnectionCounts;
use heartwatch_system::queues::Depth;

/// Most changes in one answer.
const CHANGES_MAX: usize = 1_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/status", web::get().to(status))
        .route("/api/publishers/{id}", web::get().to(publisher))
        .route("/api/events", web::get().to(events))
        .route("/api/alarms", web::get().to(alarms))
        .route("/api/ledger", web::get().to(ledger))
        .route("/api/openapi.json", web::get().to(openapi))
        .route("/metrics", web::get().to(metrics))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz));
}

pub(super) fn unavailable(error: impl Display) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(ErrorView { error: error.to_string() })
}

/// `GET /api/alarms`: how the rules stand.
async fn alarms(ports: web::Data<Ports>) -> HttpResponse {
    match ports.alarms.ask(AskAlarms, ASK_TIMEOUT).await {
        Ok(alarms) => HttpResponse::Ok().json(alarms),
        Err(error) => unavailable(error),
    }
}

async fn status(ports: web::Data<Ports>) -> HttpResponse {
    match view(&ports).await {
        Ok(view) => HttpResponse::Ok().json(view),
        Err(error) => unavailable(error),
    }
}

/// `GET /api/publishers/ID`: the explanation, and what can be done.
#[derive(Serialize)]
struct PublisherAnswer {
    #[serde(flatten)]
    explanation: ExplanationView,
    /// `probe`, and `restart` where the monitor has started it.
    actions: Vec<&'static str>,
}

async fn publisher(ports: web::Data<Ports>, id: web::Path<String>) -> HttpResponse {
    let id = match known_id(&id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let query = ChangesQuery { since_epoch: 0, publisher: Some(id.clone()), changes_max: CHANGES_MAX };
    let (status, ledger, history) = tokio::join!(
        ports.verdicts.ask(AskPublisher(id.clone()), ASK_TIMEOUT),
        ports.ledger.ask(AskLedger, ASK_TIMEOUT),
        in_time(ASK_TIMEOUT, ports.history.changes(query)),
    );
    match status {
        Ok(Some(status)) => {
            let mut accounts = accounts_by_publisher(&ledger.unwrap_or_default().accounts);
            let account = accounts.remove(&id).unwrap_or_default();
            let mut explanation = ExplanationView::new(status, account, history.unwrap_or_default());
            let child = ports.children.find(&id);
            if let Some(child) = &child {
                explanation.publisher.child = child.ask(AskChild, ASK_TIMEOUT).await.ok().map(ChildView::from);
            }
            let restart = child.map(|_| "restart");
            let actions = ["probe"].into_iter().chain(restart).collect();
            HttpResponse::Ok().json(PublisherAnswer { explanation, actions })
        }
        Ok(None) => unknown(&id),
        Err(error) => unavailable(error),
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself, made once a request")]
pub(super) fn known_id(text: &str) -> Result<PublisherId, HttpResponse> {
    PublisherId::parse(text).map_err(|error| HttpResponse::BadRequest().json(ErrorView { error: error.to_string() }))
}

pub(super) fn unknown(id: &PublisherId) -> HttpResponse {
    let error = format!("no publisher '{id}' is known: `heartwatch status` lists them");
    HttpResponse::NotFound().json(ErrorView { error })
}

/// Which changes: those after an epoch, oldest first; or the newest ones, newest first.
#[derive(Deserialize)]
struct WantedChanges {
    #[serde(default)]
    since: u64,
    #[serde(default)]
    newest: bool,
    before: Option<u64>,
    publisher: Option<PublisherId>,
    /// Verdicts with commas between them.
    #[serde(default)]
    to: String,
    limit: Option<usize>,
}

async fn events(ports: web::Data<Ports>, wanted: web::Query<WantedChanges>) -> HttpResponse {
    let WantedChanges { since, newest, before, publisher, to, limit } = wanted.into_inner();
    let changes_max = limit.unwrap_or(CHANGES_MAX).clamp(1, CHANGES_MAX);
    let answer = if newest {
        let mut verdicts = Vec::new();
        for name in to.split(',').filter(|name| !name.is_empty()) {
            let Some(verdict) = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == name) else {
                let known = Verdict::ALL.map(Verdict::as_str).join(", ");
                let error = format!("'{name}' is no verdict: {known}");
                return HttpResponse::BadRequest().json(ErrorView { error });
            };
            verdicts.push(verdict);
        }
        let query = NewestQuery { before_epoch: before, since: None, publisher, to: verdicts, changes_max };
        in_time(ASK_TIMEOUT, ports.history.newest_changes(query)).await
    } else {
        let query = ChangesQuery { since_epoch: since, publisher, changes_max };
        in_time(ASK_TIMEOUT, ports.history.changes(query)).await
    };
    match answer {
        Ok(changes) => HttpResponse::Ok().json(changes),
        Err(error) => unavailable(error),
    }
}

async fn ledger(ports: web::Data<Ports>) -> HttpResponse {
    match ports.ledger.ask(AskLedger, ASK_TIMEOUT).await {
        Ok(reply) => HttpResponse::Ok().json(LedgerView::from(reply)),
        Err(error) => unavailable(error),
    }
}

/// The description of all of this, tested against it.
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(include_str!("openapi.json"))
}

async fn healthz(ports: web::Data<Ports>) -> HttpResponse {
    match ports.verdicts.ask(AskStatus, ASK_TIMEOUT).await {
        Ok(_) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n"),
        Err(error) => unavailable(error),
    }
}

/// Ready: it hears its broker, and its journal answers.
async fn readyz(ports: web::Data<Ports>) -> HttpResponse {
    match (ports.verdicts.ask(AskStatus, ASK_TIMEOUT).await, ports.ledger.ask(AskLedger, ASK_TIMEOUT).await) {
        (Ok(status), Ok(_)) if status.observer.state == ObserverState::Ok => {
            HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n")
        }
        (Ok(status), Ok(_)) => HttpResponse::ServiceUnavailable().json(ErrorView { error: status.observer.reason }),
        (Err(error), _) | (_, Err(error)) => unavailable(error),
    }
}

/// Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
async fn metrics(ports: web::Data<Ports>, page: web::Data<ConnectionCounts>) -> HttpResponse {
    let view = match view(&ports).await {
        Ok(view) => view,
        Err(error) => return unavailable(error),
    };
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in rows {
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    };
    let count = |verdict| view.publishers.iter().filter(|publisher| publisher.verdict == verdict).count() as u64;
    let verdicts: Vec<_> =
        Verdict::ALL.iter().map(|verdict| (format!("{{verdict=\"{verdict}\"}}"), count(*verdict))).collect();
    metric("heartwatch_publishers", "gauge", "Publishers by verdict.", &verdicts);
    let plain = |value: u64| [(String::new(), value)];
    metric("heartwatch_messages_total", "counter", "MQTT messages that came.", &plain(view.subscriber.messages));
    let malformed = view.subscriber.malformed;
    metric("heartwatch_messages_malformed_total", "counter", "Messages that could not be read.", &plain(malformed));
    let sum = view.publishers.iter().fold(heartwatch_domain::ledger::Account::default(), |sum, p| sum.plus(p.ledger));
    for (name, value) in sum.counts() {
        let help = format!("Rows {name}, over all publishers.");
        metric(&format!("heartwatch_rows_{name}"), "gauge", &help, &plain(value));
    }
    let by_sink = |value: fn(&heartwatch_domain::ledger::SinkStatus) -> u64| -> Vec<_> {
        view.sinks.iter().map(|sink| (format!("{{sink=\"{}\"}}", sink.name), value(sink))).collect()
    };
    metric("heartwatch_sink_buffered_rows", "gauge", "Rows that wait for a sink.", &by_sink(|s| s.buffered_rows));
    metric("heartwatch_sink_buffered_bytes", "gauge", "Bytes that wait for a sink.", &by_sink(|s| s.buffered_bytes));
    metric("heartwatch_sink_dead_letters", "gauge", "Rows that a sink refused for good.", &by_sink(|s| s.dead_letters));
    let moved = by_sink(|s| s.moved_rows);
    metric("heartwatch_rows_moved_total", "counter", "Rows whose time another one of their series had.", &moved);
    let by_target = |value: fn(&TargetStatus) -> u64| -> Vec<_> {
        view.notifications.iter().map(|t| (format!("{{target=\"{}\"}}", t.target), value(t))).collect()
    };
    metric("heartwatch_notifications_sent_total", "counter", "Notices that were delivered.", &by_target(|t| t.sent));
    metric("heartwatch_notifications_waiting", "gauge", "Notices that wait for delivery.", &by_target(|t| t.waiting));
    let given_up = by_target(|t| t.given_up);
    metric("heartwatch_notifications_given_up_total", "counter", "Notices that were given up.", &given_up);
    let failing = by_target(|t| u64::from(t.state != "ok"));
    metric(
        "heartwatch_notifications_failing",
        "gauge",
        "Whether the last attempt to tell the target failed.",
        &failing,
    );
    let raised = view.alarms.rules.iter().map(|rule| (format!("{{rule=\"{}\"}}", rule.rule), rule.raised as u64));
    metric("heartwatch_alarms_raised", "gauge", "Raised alarms by rule.", &raised.collect::<Vec<_>>());
    let healthy = u64::from(view.monitor.healthy);
    metric("heartwatch_monitor_healthy", "gauge", "Whether every actor of the monitor answers.", &plain(healthy));
    let restarts = view.monitor.actors.iter().map(|actor| actor.restarts).sum();
    metric("heartwatch_actor_restarts_total", "counter", "Restarts of the monitor's actors.", &plain(restarts));
    let stuck = view.monitor.actors.iter().map(|actor| actor.stuck).sum();
    metric("heartwatch_actor_stuck_total", "counter", "Of these, because one no longer answered.", &plain(stuck));
    let takeovers = ports.takeovers.load(Ordering::Relaxed);
    let help =
        "Times that the monitor's MQTT connection was closed and taken back at once, as at a takeover of its session.";
    metric("heartwatch_mqtt_takeovers_total", "counter", help, &plain(takeovers));
    for (name, kind, help, counter) in [
        ("", "gauge", "Connections to the page.", &page.open),
        ("_evicted_total", "counter", "Connections to the page that made room for others.", &page.evicted),
        ("_refused_total", "counter", "Connections to the page that were refused.", &page.refused),
        ("_slow_total", "counter", "Connections to the page whose client was too slow.", &page.slow),
    ] {
        metric(&format!("heartwatch_page_connections{name}"), kind, help, &plain(ConnectionCounts::get(counter)));
    }
    if let Some(broker) = &ports.broker {
        for (name, kind, help, counter) in [
            (
                "restarts_total",
                "counter",
                "Times that the embedded broker failed and was started again.",
                &broker.restarts,
            ),
            ("clients", "gauge", "Clients that are connected to the embedded broker.", &broker.clients),
            ("refused_total", "counter", "Connections and messages that the embedded broker refused.", &broker.refused),
            (
                "dropped_total",
                "counter",
                "Messages that the embedded broker dropped for slow subscribers.",
                &broker.dropped,
            ),
            (
                "taken_over_total",
                "counter",
                "Clients of the embedded broker that lost their session.",
                &broker.taken_over,
            ),
            (
                "evicted_total",
                "counter",
                "Connections of the embedded broker that made room for others.",
                &broker.connections.evicted,
            ),
        ] {
            metric(&format!("heartwatch_broker_{name}"), kind, help, &plain(BrokerCounts::get(counter)));
        }
    }
    // Several children share a name.
    let mut waiting = BTreeMap::<&str, u64>::new();
    view.monitor.actors.iter().for_each(|actor| *waiting.entry(&actor.actor).or_default() += actor.waiting);
    let waiting: Vec<_> = waiting.iter().map(|(actor, count)| (format!("{{actor=\"{actor}\"}}"), *count)).collect();
    metric(
        "heartwatch_actor_waiting_messages",
        "gauge",
        "Messages that an actor has not answered yet, the questions of this page with them.",
        &waiting,
    );
    let help = "Pieces of damage that were found on disk, since the start.";
    metric("heartwatch_damage_total", "counter", help, &plain(view.damage.total));
    let depths = ports.queues.depths();
    let by_queue = |value: fn(&Depth) -> u64| -> Vec<_> {
        depths.iter().map(|depth| (format!("{{queue=\"{}\"}}", depth.queue), value(depth))).collect()
    };
    metric("heartwatch_queue_entries", "gauge", "What waits in a queue.", &by_queue(|depth| depth.entries));
    metric("heartwatch_queue_entries_max", "gauge", "How much may wait in it.", &by_queue(|depth| depth.entries_max));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}
