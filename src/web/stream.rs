//! `/api/stream`: verdict changes as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). The event id is the epoch, so a
//! browser that lost the connection continues where it was (`Last-Event-ID`).

use std::convert::Infallible;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::error::RecvError;

use super::{ASK_TIMEOUT, Outlets};
use crate::domain::verdict::Change;
use crate::messages::ask::AskChanges;

/// How often a comment is sent so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Most changes replayed to a client that comes back.
const REPLAY_CHANGES_MAX: usize = 1_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/api/stream", web::get().to(changes));
}

fn event(change: &Change) -> Bytes {
    let json = serde_json::to_string(change).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: change\ndata: {json}\n\n", change.epoch))
}

async fn changes(request: HttpRequest, outlets: web::Data<Outlets>) -> HttpResponse {
    // Subscribed before the past is asked for, so that nothing falls between.
    let live = outlets.live.subscribe();
    let last_seen = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let past = match last_seen {
        None => Vec::new(),
        Some(since_epoch) => {
            let question = AskChanges { since_epoch, publisher: None, changes_max: REPLAY_CHANGES_MAX };
            outlets.changes.ask(question, ASK_TIMEOUT).await.unwrap_or_default()
        }
    };
    let told = past.last().map_or(last_seen.unwrap_or(0), |change| change.epoch);
    let replay = stream::iter(past).map(|change| event(&change));
    let follow = stream::unfold((live, told), |(mut live, told)| async move {
        loop {
            let next = match tokio::time::timeout(KEEP_ALIVE, live.recv()).await {
                Err(_) => Bytes::from_static(b": still here\n\n"),
                Ok(Ok(change)) if change.epoch <= told => continue,
                Ok(Ok(change)) => event(&change),
                // The client is slower than the changes: it has to read the status anew.
                Ok(Err(RecvError::Lagged(missed))) => Bytes::from(format!("event: missed\ndata: {missed}\n\n")),
                Ok(Err(RecvError::Closed)) => return None,
            };
            return Some((next, (live, told)));
        }
    });
    let begin = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    let body = begin.chain(replay).chain(follow).map(Ok::<_, Infallible>);
    HttpResponse::Ok().content_type("text/event-stream").insert_header(("Cache-Control", "no-store")).streaming(body)
}
