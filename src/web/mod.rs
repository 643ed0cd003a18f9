//! Floor 3: the page and its JSON. It reads snapshots by asking and acts by sending messages; it
//! changes nothing behind the actors' backs.

mod access;
mod actions;
mod api;
mod assets;
mod client;
mod limits;
mod plots;
mod ports;
mod rate;
mod server;
mod sessions;
mod snapshot;
mod status_delta;
mod stream;
pub(crate) mod users;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_http::HttpService;
use actix_rt::Arbiter;
use actix_service::{ServiceFactory as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::{Compress, DefaultHeaders, from_fn};
use actix_web::{App, HttpResponse, web};
use ipnet::IpNet;
use tokio::sync::{Semaphore, oneshot, watch};

use self::access::Access;
pub(crate) use self::ports::{ChildProcess, Ports};
use self::snapshot::Snapshots;
use self::stream::Streams;
use self::users::User;
use heartwatch_formats::api::ErrorView;
use heartwatch_ports::credentials::Secret;
use heartwatch_system::clock::Clock;
use heartwatch_system::connections::{ConnectionCounts, Connections};
use heartwatch_system::descriptors::{self, Shares};

/// How long an actor may take to answer a question of the page.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Nothing but our own files, no inline script or style, no other site around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Where the page is served, and who may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// The address. One that is not loopback needs a token or users.
    pub listen: SocketAddr,
    /// What an operator's program sends: `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// What a program sends that may look and not change.
    pub read_only_token: Option<Secret>,
    /// Who may log in with a password.
    pub users: Vec<User>,
    /// Whether the session's cookie is for HTTPS only on loopback, too; elsewhere it always is.
    pub secure_cookies: bool,
    /// Proxies that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Most connections at once.
    pub connections_max: usize,
}

impl WebConfig {
    /// A page at this address for everybody who reaches it, with its share of this process's descriptors.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            token: None,
            read_only_token: None,
            users: Vec::new(),
            secure_cookies: false,
            trusted_proxies: Vec::new(),
            connections_max: Shares::of(descriptors::limit()).page_connections_max,
        }
    }

    /// Whether somebody has to show who they are.
    #[must_use]
    pub(crate) fn needs_login(&self) -> bool {
        self.token.is_some() || self.read_only_token.is_some() || !self.users.is_empty()
    }
}

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// The address is taken or not ours.
    #[error("cannot serve the page on {address}: {reason}; choose another with --web ADDR, or --web off")]
    Bind {
        address: SocketAddr,
        /// The system's words.
        reason: std::io::Error,
    },
    /// Anyone on the network could read it.
    #[error(
        "--web {address} is not a loopback address, and nobody would have to log in: set web.token_file or web.users_file (see heartwatch.toml), or serve it on 127.0.0.1"
    )]
    NoLogin { address: SocketAddr },
    /// No secret could be made.
    #[error("the system has no randomness for the page's secrets: {0}")]
    NoRandomness(getrandom::Error),
    /// The system has no thread for it.
    #[error("cannot start the thread of the page: {0}")]
    NoThread(std::io::Error),
}

/// A running server.
pub(crate) struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: watch::Receiver<bool>,
}

impl Server {
    /// Its URL on this host.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it; what is open is closed.
    pub(crate) async fn stop(&self) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(());
        }
        // gone means ended, too
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Serves the page.
///
/// # Errors
/// [`WebError`], which names the address.
pub(crate) fn serve(config: &WebConfig, ports: Ports, clock: Clock) -> Result<Server, WebError> {
    let address = config.listen;
    if !address.ip().is_loopback() && !config.needs_login() {
        return Err(WebError::NoLogin { address });
    }
    let listener = TcpListener::bind(address).map_err(|reason| WebError::Bind { address, reason })?;
    let bound = listener.local_addr().unwrap_or(address);
    let access = web::Data::new(Access::new(config, clock).map_err(WebError::NoRandomness)?);
    let streams_max = stream::streams_max(config.connections_max);
    let places = Arc::new(Semaphore::new(streams_max));
    let streams = Streams { places, streams_max, started_at: clock.wall() };
    let streams = web::Data::new(streams);
    let snapshots = web::Data::new(Snapshots::new(ports.clone(), clock));
    let ports = web::Data::new(ports);
    let counts = Arc::<ConnectionCounts>::default();
    let connections = Connections::new("the page", server::limits(config.connections_max), counts.clone(), clock);
    let counts = web::Data::from(counts);
    let app = move || {
        App::new()
            .app_data(ports.clone())
            .app_data(snapshots.clone())
            .app_data(streams.clone())
            .app_data(access.clone())
            .app_data(counts.clone())
            .app_data(web::Data::new(clock))
            .app_data(web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| bad_input(error)))
            .app_data(web::QueryConfig::default().error_handler(|error, _| bad_input(error)))
            .app_data(web::PathConfig::default().error_handler(|error, _| bad_input(error)))
            .wrap(from_fn(access::guard))
            .wrap(Compress::default())
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Referrer-Policy", "no-referrer"))
                    .add(("Cross-Origin-Opener-Policy", "same-origin"))
                    .add(("Cross-Origin-Resource-Policy", "same-origin"))
                    .add(("Content-Security-Policy", CONTENT_SECURITY_POLICY)),
            )
            .service(
                web::resource("/api/session")
                    .route(web::get().to(access::session))
                    .route(web::post().to(access::log_in))
                    .route(web::delete().to(access::log_out)),
            )
            .configure(api::routes)
            .configure(plots::routes)
            .configure(actions::routes)
            .configure(stream::routes)
            .configure(assets::routes)
            .default_service(web::to(nothing_here))
    };
    let refused = |reason| WebError::Bind { address, reason };
    listener.set_nonblocking(true).map_err(refused)?;
    // a thread of its own: that of the actors has enough to do
    let arbiter = Arbiter::try_new().map_err(WebError::NoThread)?;
    let (stop, stopped) = oneshot::channel();
    let (say, ended) = watch::channel(false);
    let trusted = config.trusted_proxies.clone();
    let serve = move || async move {
        let service = HttpService::build()
            .keep_alive(server::KEEP_ALIVE)
            .client_request_timeout(server::FIRST_HEAD_TIMEOUT)
            .client_disconnect_timeout(server::CLOSE_TIMEOUT)
            .local_addr(bound)
            .on_connect_ext(|client: &server::ClientStream, data| {
                data.insert(client.connection.clone());
            })
            .finish(map_config(app(), |()| AppConfig::default()))
            .new_service(())
            .await;
        match (tokio::net::TcpListener::from_std(listener), service) {
            (Ok(listener), Ok(service)) => {
                let counted = |address| !client::is_trusted(address, &trusted);
                server::run(listener, connections, counted, service, stopped).await;
            }
            (Err(error), _) => tracing::error!(%error, "the page cannot be served"),
            (_, Err(())) => tracing::error!("the page cannot be served: its service does not start"),
        }
        say.send_replace(true);
        Arbiter::current().stop();
    };
    arbiter.spawn_fn(move || {
        actix_rt::spawn(serve());
    });
    Ok(Server { address: bound, stop: Mutex::new(Some(stop)), ended })
}

/// A request that cannot be read, answered in JSON like every other error.
fn bad_input(error: impl std::fmt::Display) -> actix_web::Error {
    let answer = HttpResponse::BadRequest().json(ErrorView { error: error.to_string() });
    actix_web::error::InternalError::from_response(error.to_string(), answer).into()
}

async fn nothing_here() -> HttpResponse {
    let error = "there is nothing here: / is the page, /api/openapi.json describes the API".to_owned();
    HttpResponse::NotFound().json(ErrorView { error })
}
