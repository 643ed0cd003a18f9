//! What is drawn: the readings of a publisher, the latest values of many, the last hour of all.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::api::{known_id, unavailable};
use super::ports::in_time;
use super::{ASK_TIMEOUT, Ports};
use crate::messages::page::AskRecent;
use heartwatch_domain::history::{NewestQuery, ReadingsQuery};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::{Change, Verdict};
use heartwatch_formats::api::ErrorView;
use heartwatch_system::clock::Clock;

/// Where nothing else is asked for: the last 15 minutes.
const RANGE_DEFAULT: Duration = Duration::from_secs(900);
const POINTS_DEFAULT: usize = 400;
/// Reading many blocks takes longer than an ordinary question.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Most publishers in one question for the latest values.
const RECENT_PUBLISHERS_MAX: usize = 200;
/// Most changes in a timeline.
const TIMELINE_CHANGES_MAX: usize = 5_000;
const TIMELINE_MINUTES_MAX: u64 = 7 * 24 * 60;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/publishers/{id}/readings", web::get().to(readings))
        .route("/api/recent", web::get().to(recent))
        .route("/api/timeline", web::get().to(timeline));
}

fn bad_request(error: impl Into<String>) -> HttpResponse {
    HttpResponse::BadRequest().json(ErrorView { error: error.into() })
}

#[derive(Deserialize)]
struct Range {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    points: Option<usize>,
}

async fn readings(
    ports: web::Data<Ports>,
    clock: web::Data<Clock>,
    id: web::Path<String>,
    range: web::Query<Range>,
) -> HttpResponse {
    let publisher = match known_id(&id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let to = range.to.unwrap_or_else(|| clock.wall());
    let from = range.from.unwrap_or_else(|| to.earlier_by(RANGE_DEFAULT));
    if from >= to {
        return bad_request("'from' must be before 'to'");
    }
    let query = ReadingsQuery { publisher, from, to, points_max: range.points.unwrap_or(POINTS_DEFAULT) };
    match in_time(READ_TIMEOUT, ports.history.readings(query)).await {
        Ok(plot) => HttpResponse::Ok().json(plot),
        Err(error) => unavailable(error),
    }
}

#[derive(Deserialize)]
struct Many {
    /// Ids with commas between them.
    publishers: String,
}

async fn recent(ports: web::Data<Ports>, many: web::Query<Many>) -> HttpResponse {
    let ids: Result<Vec<_>, _> =
        many.publishers.split(',').filter(|id| !id.is_empty()).map(PublisherId::parse).collect();
    let ids = match ids {
        Ok(ids) if ids.len() <= RECENT_PUBLISHERS_MAX => ids,
        Ok(_) => return bad_request(format!("at most {RECENT_PUBLISHERS_MAX} publishers at once")),
        Err(error) => return bad_request(error.to_string()),
    };
    match ports.arrivals.ask(AskRecent(ids), ASK_TIMEOUT).await {
        Ok(values) => HttpResponse::Ok().json(values),
        Err(error) => unavailable(error),
    }
}

#[derive(Deserialize)]
struct Minutes {
    minutes: Option<u64>,
}

/// A change in a few bytes: epoch, publisher, when it became true (milliseconds since 1970), from, to.
type ShortChange = (u64, PublisherId, i64, Verdict, Verdict);

#[derive(Serialize)]
struct Timeline {
    from_ms: i64,
    to_ms: i64,
    /// Whether there were more changes than fit: the oldest are left out.
    truncated: bool,
    /// Oldest first.
    changes: Vec<ShortChange>,
}

async fn timeline(ports: web::Data<Ports>, clock: web::Data<Clock>, minutes: web::Query<Minutes>) -> HttpResponse {
    let minutes = minutes.minutes.unwrap_or(60).clamp(1, TIMELINE_MINUTES_MAX);
    let to = clock.wall();
    let from = to.earlier_by(Duration::from_secs(minutes * 60));
    let query = NewestQuery { since: Some(from), changes_max: TIMELINE_CHANGES_MAX, ..NewestQuery::default() };
    let changes = match in_time(ASK_TIMEOUT, ports.history.newest_changes(query)).await {
        Ok(changes) => changes,
        Err(error) => return unavailable(error),
    };
    let millis = |time: Timestamp| time.as_nanos().div_euclid(1_000_000);
    let truncated = changes.len() >= TIMELINE_CHANGES_MAX;
    let short = |change: &Change| (change.epoch, change.publisher.clone(), millis(change.at), change.from, change.to);
    let changes = changes.iter().rev().map(short).collect();
    HttpResponse::Ok().json(Timeline { from_ms: millis(from), to_ms: millis(to), truncated, changes })
}
