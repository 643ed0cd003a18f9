//! `/api/…`, `/metrics`, `/healthz`, `/readyz`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::{ASK_TIMEOUT, Outlets};
use crate::domain::publisher::PublisherId;
use crate::domain::verdict::Verdict;
use crate::formats::api::{ErrorView, ExplanationView, LedgerView, StatusView, accounts_by_publisher};
use crate::messages::ask::{AskChanges, AskLedger, AskPublisher, AskStatus, AskSubscriber, ObserverState};
use crate::runtime::outlet::Undelivered;

/// Most changes in one answer.
const CHANGES_MAX: usize = 1_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/status", web::get().to(status))
        .route("/api/publishers/{id}", web::get().to(publisher))
        .route("/api/events", web::get().to(events))
        .route("/api/ledger", web::get().to(ledger))
        .route("/metrics", web::get().to(metrics))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz));
}

fn unavailable(error: Undelivered) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(ErrorView { error: error.to_string() })
}

async fn view(outlets: &Outlets) -> Result<StatusView, Undelivered> {
    let (status, ledger, subscriber) = tokio::join!(
        outlets.status.ask(AskStatus, ASK_TIMEOUT),
        outlets.ledger.ask(AskLedger, ASK_TIMEOUT),
        outlets.subscriber.ask(AskSubscriber, ASK_TIMEOUT),
    );
    // The verdicts are worth showing even while the writer is being restarted.
    Ok(StatusView::new(status?, ledger.unwrap_or_default(), subscriber.unwrap_or_default()))
}

async fn status(outlets: web::Data<Outlets>) -> HttpResponse {
    match view(&outlets).await {
        Ok(view) => HttpResponse::Ok().json(view),
        Err(error) => unavailable(error),
    }
}

async fn publisher(outlets: web::Data<Outlets>, id: web::Path<String>) -> HttpResponse {
    let id = match PublisherId::parse(&id) {
        Ok(id) => id,
        Err(error) => return HttpResponse::BadRequest().json(ErrorView { error: error.to_string() }),
    };
    let question = AskChanges { since_epoch: 0, publisher: Some(id.clone()), changes_max: CHANGES_MAX };
    let (status, ledger, history) = tokio::join!(
        outlets.publisher.ask(AskPublisher(id.clone()), ASK_TIMEOUT),
        outlets.ledger.ask(AskLedger, ASK_TIMEOUT),
        outlets.changes.ask(question, ASK_TIMEOUT),
    );
    match status {
        Ok(Some(status)) => {
            let mut accounts = accounts_by_publisher(&ledger.unwrap_or_default().accounts);
            let account = accounts.remove(&id).unwrap_or_default();
            HttpResponse::Ok().json(ExplanationView::new(status, account, history.unwrap_or_default()))
        }
        Ok(None) => {
            let error = format!("no publisher '{id}' is known: `heartwatch status` lists them");
            HttpResponse::NotFound().json(ErrorView { error })
        }
        Err(error) => unavailable(error),
    }
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn events(outlets: web::Data<Outlets>, since: web::Query<Since>) -> HttpResponse {
    let question = AskChanges { since_epoch: since.since, publisher: None, changes_max: CHANGES_MAX };
    match outlets.changes.ask(question, ASK_TIMEOUT).await {
        Ok(changes) => HttpResponse::Ok().json(changes),
        Err(error) => unavailable(error),
    }
}

async fn ledger(outlets: web::Data<Outlets>) -> HttpResponse {
    match outlets.ledger.ask(AskLedger, ASK_TIMEOUT).await {
        Ok(reply) => HttpResponse::Ok().json(LedgerView::from(reply)),
        Err(error) => unavailable(error),
    }
}

async fn healthz(outlets: web::Data<Outlets>) -> HttpResponse {
    match outlets.status.ask(AskStatus, ASK_TIMEOUT).await {
        Ok(_) => HttpResponse::Ok().body("ok\n"),
        Err(error) => unavailable(error),
    }
}

/// Ready: it hears its broker, and its journal answers.
async fn readyz(outlets: web::Data<Outlets>) -> HttpResponse {
    match (outlets.status.ask(AskStatus, ASK_TIMEOUT).await, outlets.ledger.ask(AskLedger, ASK_TIMEOUT).await) {
        (Ok(status), Ok(_)) if status.observer.state == ObserverState::Ok => HttpResponse::Ok().body("ready\n"),
        (Ok(status), Ok(_)) => HttpResponse::ServiceUnavailable().json(ErrorView { error: status.observer.reason }),
        (Err(error), _) | (_, Err(error)) => unavailable(error),
    }
}

/// Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
async fn metrics(outlets: web::Data<Outlets>) -> HttpResponse {
    let view = match view(&outlets).await {
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
    let sum = view.publishers.iter().fold(crate::domain::ledger::Account::default(), |sum, p| sum.plus(p.ledger));
    for (name, value) in [
        ("produced", sum.produced),
        ("received", sum.received),
        ("stored", sum.stored),
        ("buffered", sum.buffered),
        ("missing", sum.missing),
        ("lost", sum.lost),
        ("duplicates", sum.duplicates),
    ] {
        let help = format!("Rows {name}, over all publishers.");
        metric(&format!("heartwatch_rows_{name}"), "gauge", &help, &plain(value));
    }
    let by_sink = |value: fn(&crate::messages::ask::SinkStatus) -> u64| -> Vec<_> {
        view.sinks.iter().map(|sink| (format!("{{sink=\"{}\"}}", sink.name), value(sink))).collect()
    };
    metric("heartwatch_sink_buffered_rows", "gauge", "Rows that wait for a sink.", &by_sink(|s| s.buffered_rows));
    metric("heartwatch_sink_buffered_bytes", "gauge", "Bytes that wait for a sink.", &by_sink(|s| s.buffered_bytes));
    metric("heartwatch_sink_dead_letters", "gauge", "Rows that a sink refused for good.", &by_sink(|s| s.dead_letters));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}
