//! Floor 3: the page and its JSON. It reads snapshots by asking; it changes nothing behind the
//! actors' backs.

mod api;
mod stream;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::sync::broadcast;

use crate::domain::verdict::Change;
use crate::messages::ask::{AskChanges, AskLedger, AskPublisher, AskStatus, AskSubscriber};
use crate::runtime::outlet::Outlet;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 256;
/// How long an actor may take to answer a question of the page.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Whom the page asks.
#[derive(Clone)]
pub struct Outlets {
    /// The watchdog, for everybody.
    pub status: Outlet<AskStatus>,
    /// The watchdog, for one.
    pub publisher: Outlet<AskPublisher>,
    /// The writer, for the account of every row.
    pub ledger: Outlet<AskLedger>,
    /// The writer, for past changes.
    pub changes: Outlet<AskChanges>,
    /// The subscriber, for what came and could not be read.
    pub subscriber: Outlet<AskSubscriber>,
    /// Verdict changes as they happen.
    pub live: broadcast::Sender<Change>,
}

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is taken or not ours.
    #[error("cannot serve the page on {address}: {reason}; choose another with --web ADDR, or --web off")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        reason: std::io::Error,
    },
    /// Anyone on the network could read it.
    #[error(
        "--web {address} is not a loopback address: the page has no login yet, so it serves 127.0.0.1 or [::1] alone; use an SSH tunnel or a reverse proxy with a login"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Stops it; open streams are closed.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

/// Serves the page.
///
/// # Errors
/// [`WebError`], which names the address.
pub fn serve(address: SocketAddr, outlets: Outlets) -> Result<Server, WebError> {
    if !address.ip().is_loopback() {
        return Err(WebError::NotLoopback { address });
    }
    let listener = TcpListener::bind(address).map_err(|reason| WebError::Bind { address, reason })?;
    let bound = listener.local_addr().unwrap_or(address);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(outlets.clone()))
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Referrer-Policy", "no-referrer"))
                    .add(("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")),
            )
            .configure(api::routes)
            .configure(stream::routes)
            .route("/", web::get().to(|| file("text/html; charset=utf-8", include_str!("page.html"))))
            .route("/favicon.ico", web::get().to(HttpResponse::NoContent))
            .route("/page.js", web::get().to(|| file("text/javascript; charset=utf-8", include_str!("page.js"))))
            .route("/page.css", web::get().to(|| file("text/css; charset=utf-8", include_str!("page.css"))))
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)
    .map_err(|reason| WebError::Bind { address, reason })?
    .run();
    let handle = server.handle();
    actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the page's server ended");
        }
    });
    Ok(Server { address: bound, handle })
}

async fn file(content_type: &'static str, content: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(content_type).body(content)
}
