//! `/api/stream`: verdict changes as they happen, and a pulse of everything that moves, as server-sent
//! events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). The id of a change is its
//! epoch, so a browser that lost the connection continues where it was (`Last-Event-ID`), also after a
//! restart of the monitor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ports::in_time;
use super::snapshot::{Snapshot, Snapshots};
use super::status_delta::Pulse;
use super::{ASK_TIMEOUT, Ports};
use crate::messages::ask::AskUnrecorded;
use heartwatch_domain::history::{ChangesQuery, NewestQuery};
use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Change;
use heartwatch_formats::api::ErrorView;

/// How often a comment is sent, where nothing else is, so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Most changes replayed to a client that comes back.
const REPLAY_CHANGES_MAX: usize = 1_000;
/// Most streams at once: a quarter of the connections, so that pages that are open leave room for requests.
pub(super) const fn streams_max(connections_max: usize) -> usize {
    connections_max / 4
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/api/stream", web::get().to(changes));
}

/// What the streams share.
pub(super) struct Streams {
    pub(super) places: Arc<Semaphore>,
    pub(super) streams_max: usize,
    pub(super) started_at: Timestamp,
}

#[derive(Deserialize)]
struct Wanted {
    /// Whether pulses are wanted besides the changes.
    #[serde(default)]
    pulse: bool,
    /// Like `Last-Event-ID`, for a page that begins a new connection.
    after: Option<u64>,
}

/// One client's stream.
struct ChangeStream {
    live: Receiver<Change>,
    told: u64,
    snapshots: Option<web::Data<Snapshots>>,
    shown: Option<Arc<Snapshot>>,
    next_pulse: Instant,
    started_at: Timestamp,
    _place: OwnedSemaphorePermit,
}

fn event(change: &Change) -> Bytes {
    let json = serde_json::to_string(change).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: change\ndata: {json}\n\n", change.epoch))
}

/// The time between pulses: what is sent grows with the number of publishers.
const fn pulse_every(publishers: usize) -> Duration {
    match publishers {
        0..=1_000 => Duration::from_millis(1_000),
        1_001..=10_000 => Duration::from_millis(2_000),
        _ => Duration::from_millis(5_000),
    }
}

impl ChangeStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                change = self.live.recv() => return match change {
                    Ok(change) if change.epoch <= self.told => continue,
                    Ok(change) => Some(event(&change)),
                    // The client is slower than the changes: it gets everything anew.
                    Err(RecvError::Lagged(missed)) => {
                        self.shown = None;
                        Some(Bytes::from(format!("event: missed\ndata: {missed}\n\n")))
                    }
                    Err(RecvError::Closed) => None,
                },
                () = tokio::time::sleep_until(self.next_pulse) => return Some(self.pulse().await),
            }
        }
    }

    async fn pulse(&mut self) -> Bytes {
        let still_here = Bytes::from_static(b": still here\n\n");
        let Some(snapshots) = &self.snapshots else {
            self.next_pulse = Instant::now() + KEEP_ALIVE;
            return still_here;
        };
        let snapshot = snapshots.take().await;
        let every = pulse_every(snapshot.as_ref().map_or(0, |snapshot| snapshot.status.publishers.len()));
        self.next_pulse = Instant::now() + every;
        let Ok(snapshot) = snapshot else { return still_here };
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let pulse = Pulse::new(self.shown.as_deref(), &snapshot, self.started_at, every_ms);
        let json = serde_json::to_string(&pulse).unwrap_or_default();
        drop(pulse);
        self.shown = Some(snapshot);
        Bytes::from(format!("event: pulse\ndata: {json}\n\n"))
    }
}

/// What has changed since, for a client that comes back.
#[derive(Default)]
struct Past {
    /// At most [`REPLAY_CHANGES_MAX`], oldest first.
    changes: Vec<Change>,
    /// Whether there is more, or may be.
    is_cut: bool,
}

/// None when that epoch is of another journal: one that was begun anew counts from 1 again.
async fn past(ports: &Ports, since_epoch: u64) -> Option<Past> {
    let changes_max = REPLAY_CHANGES_MAX;
    // Asked for first: what gets into the journal between the questions is in both answers. The client may have been told of
    // the change with this epoch before it was recorded.
    let told = AskUnrecorded { since_epoch: since_epoch.saturating_sub(1), changes_max: changes_max + 1 };
    let unrecorded = ports.verdicts.ask(told, ASK_TIMEOUT).await;
    let newest = NewestQuery { changes_max: 1, ..NewestQuery::default() };
    let newest = in_time(ASK_TIMEOUT, ports.history.newest_changes(newest)).await;
    if let (Ok(unrecorded), Ok(newest)) = (&unrecorded, newest)
        && unrecorded.is_empty()
        && newest.first().map_or(0, |change| change.epoch) < since_epoch
    {
        return None;
    }
    let recorded = ChangesQuery { since_epoch, publisher: None, changes_max };
    let recorded = in_time(ASK_TIMEOUT, ports.history.changes(recorded)).await;
    let is_whole = |answer: Option<usize>, changes_max| answer.is_some_and(|changes| changes < changes_max);
    let mut is_cut = !is_whole(unrecorded.as_ref().ok().map(Vec::len), told.changes_max)
        || !is_whole(recorded.as_ref().ok().map(Vec::len), changes_max);
    let mut changes = recorded.unwrap_or_default();
    let newest = changes.last().map_or(since_epoch, |change| change.epoch);
    changes.extend(unrecorded.unwrap_or_default().into_iter().filter(|change| change.epoch > newest));
    is_cut |= changes.len() > changes_max;
    changes.truncate(changes_max);
    Some(Past { changes, is_cut })
}

async fn changes(
    request: HttpRequest,
    wanted: web::Query<Wanted>,
    ports: web::Data<Ports>,
    snapshots: web::Data<Snapshots>,
    streams: web::Data<Streams>,
) -> HttpResponse {
    let Ok(place) = Arc::clone(&streams.places).try_acquire_owned() else {
        let error = format!("{} streams are open already, which is the most", streams.streams_max);
        return HttpResponse::ServiceUnavailable().json(ErrorView { error });
    };
    // Subscribed before the past is asked for, so that nothing falls between.
    let live = ports.live.subscribe();
    let last_event_id = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let (past, last_seen) = match last_event_id.or(wanted.after) {
        None => (Past::default(), None),
        Some(since_epoch) => match past(&ports, since_epoch).await {
            Some(past) => (past, Some(since_epoch)),
            None => (Past::default(), None),
        },
    };
    let course = ChangeStream {
        live,
        told: past.changes.last().map_or(last_seen.unwrap_or(0), |change| change.epoch),
        snapshots: wanted.pulse.then_some(snapshots),
        shown: None,
        next_pulse: Instant::now() + if wanted.pulse { Duration::ZERO } else { KEEP_ALIVE },
        started_at: streams.started_at,
        _place: place,
    };
    let replay = stream::iter(past.changes).map(|change| event(&change));
    let follow = stream::unfold(course, |mut course| async move { Some((course.next().await?, course)) });
    let begin = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    // How many is not known.
    let missed = stream::iter(past.is_cut.then(|| Bytes::from_static(b"event: missed\ndata: null\n\n")));
    let body = begin.chain(replay).chain(missed).chain(follow).map(Ok::<_, Infallible>);
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        // Compressed, it would be held back until there is enough of it.
        .insert_header(("Content-Encoding", "identity"))
        .streaming(body)
}
