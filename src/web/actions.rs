//! What an operator may do, and what went wrong: looks at a process, restarts, the errors.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::api::{known_id, unavailable, unknown};
use super::ports::in_time;
use super::{ASK_TIMEOUT, Ports};
use crate::messages::ask::{AskLedger, AskSubscriber};
use crate::messages::child::Restart;
use crate::messages::maintenance::{AskMaintenance, ChangeMaintenance};
use crate::messages::notice::{AskAttempts, AskNotifications};
use crate::messages::page::ProbeNow;
use heartwatch_domain::damage::DamageFound;
use heartwatch_domain::history::DeadLetterLine;
use heartwatch_domain::ledger::NamedLoss;
use heartwatch_domain::ledger::SinkStatus;
use heartwatch_domain::maintenance::WINDOW_MAX;
use heartwatch_domain::status::BadMessage;
use heartwatch_domain::status::{Attempt, TargetStatus};
use heartwatch_formats::api::{BeginMaintenance, EndMaintenance, ErrorView};

/// A probe may hang on a sick process for a while.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason of a maintenance window, in bytes.
const REASON_BYTES_MAX: usize = 200;
/// Most dead letters and losses in one answer.
const ERRORS_MAX: usize = 200;
/// Most attempts in one answer.
const ATTEMPTS_MAX: usize = 500;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/publishers/{id}/probe", web::post().to(probe))
        .route("/api/publishers/{id}/restart", web::post().to(restart))
        .route("/api/notifications", web::get().to(notifications))
        .route("/api/maintenance", web::get().to(maintenance))
        .route("/api/maintenance", web::post().to(begin_maintenance))
        .route("/api/maintenance/end", web::post().to(end_maintenance))
        .route("/api/errors", web::get().to(errors));
}

async fn probe(ports: web::Data<Ports>, id: web::Path<String>) -> HttpResponse {
    let id = match known_id(&id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    match ports.verdicts.ask(ProbeNow(id.clone()), PROBE_TIMEOUT).await {
        Ok(Some(report)) => HttpResponse::Ok().json(report),
        Ok(None) => unknown(&id),
        Err(error) => unavailable(error),
    }
}

async fn maintenance(ports: web::Data<Ports>) -> HttpResponse {
    match ports.verdicts.ask(AskMaintenance, ASK_TIMEOUT).await {
        Ok(windows) => HttpResponse::Ok().json(windows),
        Err(error) => unavailable(error),
    }
}

async fn begin_maintenance(ports: web::Data<Ports>, wanted: web::Json<BeginMaintenance>) -> HttpResponse {
    let BeginMaintenance { publisher, minutes, reason } = wanted.into_inner();
    let lasts = Duration::from_secs(minutes.saturating_mul(60));
    if lasts.is_zero() || lasts > WINDOW_MAX || reason.len() > REASON_BYTES_MAX {
        let days = WINDOW_MAX.as_secs() / 86_400;
        let error =
            format!("a window lasts from 1 minute to {days} days, and its reason has at most {REASON_BYTES_MAX} bytes");
        return HttpResponse::BadRequest().json(ErrorView { error });
    }
    change_maintenance(&ports, ChangeMaintenance::Begin { publisher, lasts, reason }).await
}

async fn end_maintenance(ports: web::Data<Ports>, wanted: web::Json<EndMaintenance>) -> HttpResponse {
    let EndMaintenance { publisher } = wanted.into_inner();
    change_maintenance(&ports, ChangeMaintenance::End { publisher }).await
}

async fn change_maintenance(ports: &Ports, change: ChangeMaintenance) -> HttpResponse {
    match ports.verdicts.ask(change, PROBE_TIMEOUT).await {
        Ok(Ok(windows)) => HttpResponse::Ok().json(windows),
        Ok(Err(error)) => HttpResponse::Conflict().json(ErrorView { error }),
        Err(error) => unavailable(error),
    }
}

#[derive(Serialize)]
struct Restarted {
    /// The process that ends and is replaced, or that was started where none ran.
    pid: u32,
}

async fn restart(ports: web::Data<Ports>, id: web::Path<String>) -> HttpResponse {
    let id = match known_id(&id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let Some(child) = ports.children.find(&id) else {
        let error = format!("'{id}' was not started by this monitor as a process: only its own starter can restart it");
        return HttpResponse::Conflict().json(ErrorView { error });
    };
    match child.ask(Restart, ASK_TIMEOUT).await {
        Ok(Some(pid)) => {
            tracing::info!(publisher = %id, pid, "restart asked for on the page");
            HttpResponse::Accepted().json(Restarted { pid })
        }
        Ok(None) => {
            let error = format!("'{id}' cannot be restarted now: the monitor is ending, or its program can't start");
            HttpResponse::Conflict().json(ErrorView { error })
        }
        Err(error) => unavailable(error),
    }
}

/// `GET /api/notifications`: who is told, and what of late.
#[derive(Serialize)]
struct Notifications {
    /// The account of every target.
    targets: Vec<TargetStatus>,
    /// The last attempts since the monitor started, newest first.
    recent: Vec<Attempt>,
}

async fn notifications(ports: web::Data<Ports>) -> HttpResponse {
    let (targets, recent) = tokio::join!(
        ports.notices.ask(AskNotifications, ASK_TIMEOUT),
        ports.notices.ask(AskAttempts(ATTEMPTS_MAX), ASK_TIMEOUT),
    );
    match (targets, recent) {
        (Ok(targets), Ok(recent)) => HttpResponse::Ok().json(Notifications { targets, recent }),
        (Err(error), _) | (_, Err(error)) => unavailable(error),
    }
}

/// `GET /api/errors`: everything that could not be read, kept or written.
#[derive(Serialize)]
struct Errors {
    /// Messages that could not be read, since the start.
    malformed: u64,
    /// Messages that were too large, since the start.
    oversized: u64,
    /// The last of them, newest first.
    bad_messages: Vec<BadMessage>,
    /// Rows that the database refused, newest first.
    dead_letters: Vec<DeadLetterLine>,
    /// Readings that are gone for good.
    losses: Vec<NamedLoss>,
    /// The sinks with their last errors.
    sinks: Vec<SinkStatus>,
    /// What was found damaged on disk since the start.
    damage: DamageFound,
}

async fn errors(ports: web::Data<Ports>) -> HttpResponse {
    let (subscriber, gone, ledger) = tokio::join!(
        ports.arrivals.ask(AskSubscriber, ASK_TIMEOUT),
        in_time(ASK_TIMEOUT, ports.history.gone(ERRORS_MAX)),
        ports.ledger.ask(AskLedger, ASK_TIMEOUT),
    );
    let (subscriber, gone) = match (subscriber, gone) {
        (Ok(subscriber), Ok(gone)) => (subscriber, gone),
        (_, Err(error)) => return unavailable(error),
        (Err(error), _) => return unavailable(error),
    };
    HttpResponse::Ok().json(Errors {
        malformed: subscriber.malformed,
        oversized: subscriber.oversized,
        bad_messages: subscriber.bad_messages.into_iter().rev().collect(),
        dead_letters: gone.dead_letters,
        losses: gone.losses,
        sinks: ledger.map(|ledger| ledger.sinks).unwrap_or_default(),
        damage: ports.damage.found(),
    })
}
