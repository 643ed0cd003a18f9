//! Who may see the page and who may change something: every request passes here.
//!
//! On a loopback address without credentials everybody on this machine is an operator, and only a
//! request for this machine by name is answered, so that no page of another site reaches the monitor
//! through its visitor's browser (DNS rebinding). Otherwise a request shows a token or the cookie of
//! a session. A changing request from a browser also shows that it comes from our own page. Whoever comes through a proxy is
//! not on this machine, wherever the proxy is.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::client::Client;
use super::limits::{Limits, Wait, shortened};
use super::server::{Answer, BODY_TIMEOUT, WaitsAgain};
use super::sessions::{Session, Sessions, random_secret};
use super::users::{Role, User, verify};
use super::{BODY_BYTES_MAX, WebConfig};
use heartwatch_formats::api::ErrorView;
use heartwatch_formats::users::PASSWORD_BYTES_MAX;
use heartwatch_ports::credentials::Secret;
use heartwatch_system::clock::Clock;
use heartwatch_system::connections::Connection;

/// What a changing request of a browser carries besides its cookie.
pub(super) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-heartwatch-csrf");
const COOKIE: &str = "heartwatch_session";
/// Passwords that are verified at once; each takes a core for tens of milliseconds and 19 MiB.
const VERIFICATIONS_AT_ONCE_MAX: usize = 2;

/// Everything that decides about access.
pub(super) struct Access {
    operator_token: Option<Secret>,
    read_only_token: Option<Secret>,
    users: Arc<Vec<User>>,
    loopback: bool,
    /// Whether a browser may send its session over HTTPS only.
    secure_cookies: bool,
    /// What a changing request shows where there is no login.
    open_csrf: String,
    sessions: Sessions,
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    verifications: Arc<Semaphore>,
    clock: Clock,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    user: String,
    pub(super) role: Role,
    csrf: String,
    by_token: bool,
}

impl Access {
    /// The rules of this configuration.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new(config: &WebConfig, clock: Clock) -> Result<Self, getrandom::Error> {
        Ok(Self {
            operator_token: config.token.clone(),
            read_only_token: config.read_only_token.clone(),
            users: Arc::new(config.users.clone()),
            loopback: config.listen.ip().is_loopback(),
            secure_cookies: config.secure_cookies || !config.listen.ip().is_loopback(),
            open_csrf: random_secret()?,
            sessions: Sessions::default(),
            limits: Limits::default(),
            trusted_proxies: config.trusted_proxies.clone(),
            verifications: Arc::new(Semaphore::new(VERIFICATIONS_AT_ONCE_MAX)),
            clock,
        })
    }

    fn needs_login(&self) -> bool {
        self.operator_token.is_some() || self.read_only_token.is_some() || !self.users.is_empty()
    }

    fn role_of_token(&self, token: &str) -> Option<Role> {
        let is = |known: &Option<Secret>| {
            known.as_ref().is_some_and(|known| bool::from(known.expose().as_bytes().ct_eq(token.as_bytes())))
        };
        let (operator, read_only) = (is(&self.operator_token), is(&self.read_only_token));
        if operator { Some(Role::Operator) } else { read_only.then_some(Role::ReadOnly) }
    }

    fn shown(&self, headers: &HeaderMap, cookie: Option<&str>) -> Shown {
        if !self.needs_login() {
            let (user, csrf) = ("this machine".to_owned(), self.open_csrf.clone());
            return Shown::Right(Visitor { user, role: Role::Operator, csrf, by_token: false });
        }
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            let token = token.to_str().ok().and_then(|token| token.strip_prefix("Bearer "));
            let Some(role) = token.and_then(|token| self.role_of_token(token.trim())) else { return Shown::WrongToken };
            return Shown::Right(Visitor { user: "token".to_owned(), role, csrf: String::new(), by_token: true });
        }
        match cookie.and_then(|cookie| self.sessions.find(cookie, self.clock.monotonic())) {
            Some(Session { user, role, csrf, .. }) => Shown::Right(Visitor { user, role, csrf, by_token: false }),
            None => Shown::Nothing,
        }
    }

    /// What a client does not get yet, because it, or another one that cannot be told from it, has asked too often.
    fn too_often(&self, client: Client, path: &str, shown: &Shown) -> Option<HttpResponse> {
        let now = self.clock.monotonic();
        let wants_file = is_public(path) && path != "/api/session";
        let taken = match shown {
            Shown::Right(visitor) if self.needs_login() => {
                self.limits.known(&format!("{} {}", visitor.role, visitor.user), now)
            }
            Shown::Right(_) | Shown::Nothing => self.limits.stranger(client.address, wants_file, now),
            Shown::WrongToken => {
                if let Err(wait) = self.limits.wrong_token(client.address, now) {
                    return Some(slow_down("too many tokens that are wrong", wait));
                }
                self.limits.say(
                    now,
                    || tracing::warn!(client = %client.address, path = ?shortened(path), "a token was refused"),
                );
                self.limits.stranger(client.address, wants_file, now)
            }
        };
        taken.err().map(|wait| slow_down("too many requests", wait))
    }
}

/// What a request shows of who sends it.
enum Shown {
    Right(Visitor),
    WrongToken,
    Nothing,
}

fn slow_down(what: &str, wait: Wait) -> HttpResponse {
    let seconds = wait.as_secs() + 1;
    let mut answer = refusal(
        actix_web::http::StatusCode::TOO_MANY_REQUESTS,
        format!("{what}: slow down, and try again in {seconds} s"),
    );
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

fn refusal(status: actix_web::http::StatusCode, error: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(ErrorView { error: error.into() })
}

/// What everybody may have: the page's own files, the way to log in, and whether the monitor lives.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/favicon.ico" | "/favicon.svg" | "/healthz" | "/readyz" | "/api/session")
        || path.starts_with("/assets/")
}

/// What is asked by those who start the monitor again when it does not answer: neither slowed down nor of use to guess at.
fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

fn authority_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why a changing request may not pass, if so.
fn objection_to_change(headers: &HeaderMap, visitor: &Visitor, open: bool) -> Option<&'static str> {
    if visitor.by_token {
        return None;
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match origin {
        // Every browser sends it with a changing request; a program that has none needs no defence.
        None if open && !headers.contains_key("sec-fetch-site") => return None,
        Some(origin) if authority_of(origin) != host => {
            return Some(
                "this request comes from another site's page (behind a proxy: it must pass the Host header on)",
            );
        }
        _ => {}
    }
    let shown = headers.get(CSRF_HEADER).map_or(&b""[..], |shown| shown.as_bytes());
    let right = !visitor.csrf.is_empty() && bool::from(shown.ct_eq(visitor.csrf.as_bytes()));
    (!right).then_some("the header X-Heartwatch-Csrf is missing or wrong: GET /api/session has it")
}

/// Lets a request through with its whole body, or answers it.
pub(super) async fn guard<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<Answer>>, Error> {
    let connection = request.conn_data::<Rc<Connection>>().cloned();
    let waits = connection.clone().map(WaitsAgain::on);
    if let Some(answer) = refused(&request) {
        return Ok(request.into_response(answer).map_into_right_body());
    }
    if let Some(connection) = &connection {
        connection.waits(BODY_TIMEOUT * 2);
        if request.extensions().contains::<Visitor>() {
            connection.is_known();
        }
    }
    match tokio::time::timeout(BODY_TIMEOUT, read_body(&mut request)).await {
        Ok(None) => {}
        Ok(Some(answer)) => return Ok(request.into_response(answer).map_into_right_body()),
        Err(_) => {
            let seconds = BODY_TIMEOUT.as_secs();
            let late = ErrorView { error: format!("the body of a request is whole within {seconds} s") };
            let answer = HttpResponse::RequestTimeout().force_close().json(late);
            return Ok(request.into_response(answer).map_into_right_body());
        }
    }
    if let Some(connection) = &connection {
        connection.serves();
    }
    let answer = next.call(request).await?;
    Ok(answer.map_body(|_, body| Answer::new(body, waits)).map_into_left_body())
}

/// Reads the body, so that nobody who handles the request waits for its client. The answer to one that cannot be read.
async fn read_body(request: &mut ServiceRequest) -> Option<HttpResponse> {
    let mut payload = match request.take_payload() {
        Payload::None => return None,
        payload => payload,
    };
    let mut body = web::BytesMut::new();
    let bad = |error: String| Some(HttpResponse::BadRequest().force_close().json(ErrorView { error }));
    while let Some(chunk) = payload.next().await {
        match chunk {
            Ok(chunk) if body.len() + chunk.len() > BODY_BYTES_MAX => {
                return bad(format!("the body of a request has at most {BODY_BYTES_MAX} bytes"));
            }
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(error) => return bad(format!("the body of this request cannot be read: {error}")),
        }
    }
    let body = body.freeze();
    request.set_payload(Payload::Stream { payload: Box::pin(stream::once(async move { Ok(body) })) });
    None
}

fn client_of(peer: Option<std::net::SocketAddr>, headers: &HeaderMap, access: &Access) -> Client {
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
    Client::of(peer, headers, &access.trusted_proxies)
}

fn refused(request: &ServiceRequest) -> Option<HttpResponse> {
    use actix_web::http::StatusCode;
    let access = request.app_data::<web::Data<Access>>()?;
    let client = client_of(request.peer_addr(), request.headers(), access);
    let headers = request.headers();
    let open = !access.needs_login();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if open && access.loopback && !is_this_machine(host) {
        let words = "without a login the page answers for localhost and 127.0.0.1 alone: configure a token or users under [web]";
        return Some(refusal(StatusCode::FORBIDDEN, words));
    }
    if open && client.by_proxy {
        let words = "without a login the page is for this machine alone, and this request comes through a proxy: configure a token or users under [web]";
        return Some(refusal(StatusCode::FORBIDDEN, words));
    }
    if is_health(request.path()) {
        return None;
    }
    let cookie = request.cookie(COOKIE);
    let shown = access.shown(headers, cookie.as_ref().map(Cookie::value));
    if let Some(answer) = access.too_often(client, request.path(), &shown) {
        return Some(answer);
    }
    let visitor = match shown {
        Shown::Right(visitor) => Some(visitor),
        Shown::WrongToken | Shown::Nothing => None,
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if request.path() != "/api/session" {
        match &visitor {
            None if is_public(request.path()) && !changes => {}
            None => {
                let mut answer =
                    refusal(StatusCode::UNAUTHORIZED, "log in on the page, or send a token: `Authorization: Bearer …`");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
                return Some(answer);
            }
            Some(visitor) if changes && visitor.role < Role::Operator => {
                return Some(refusal(StatusCode::FORBIDDEN, "you may look and not change: an operator may"));
            }
            Some(visitor) if changes => {
                if let Some(objection) = objection_to_change(headers, visitor, open) {
                    return Some(refusal(StatusCode::FORBIDDEN, objection));
                }
            }
            Some(_) => {}
        }
    } else if changes {
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        if origin.is_some_and(|origin| authority_of(origin) != Some(host)) {
            return Some(refusal(StatusCode::FORBIDDEN, "this request comes from another site's page"));
        }
    }
    if let Some(visitor) = visitor {
        request.extensions_mut().insert(visitor);
    }
    None
}

/// `GET /api/session`: who asks, and what a changing request needs.
#[derive(Debug, Serialize)]
struct SessionView {
    /// Whether a login is needed that this request does not have.
    login: bool,
    /// Whether there is a login at all.
    can_log_out: bool,
    user: Option<String>,
    role: Option<Role>,
    csrf: Option<String>,
    version: &'static str,
}

fn view(visitor: Option<Visitor>, open: bool) -> SessionView {
    let can_log_out = !open && visitor.as_ref().is_some_and(|visitor| !visitor.by_token);
    SessionView {
        login: visitor.is_none(),
        can_log_out,
        role: visitor.as_ref().map(|visitor| visitor.role),
        csrf: visitor.as_ref().map(|visitor| visitor.csrf.clone()),
        user: visitor.map(|visitor| visitor.user),
        version: env!("CARGO_PKG_VERSION"),
    }
}

pub(super) async fn session(request: HttpRequest, access: web::Data<Access>) -> HttpResponse {
    let visitor = request.extensions().get::<Visitor>().cloned();
    HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(view(visitor, !access.needs_login()))
}

/// What somebody shows to log in: a name and a password, or a token.
#[derive(Deserialize)]
pub(super) struct Login {
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
}

pub(super) async fn log_in(request: HttpRequest, access: web::Data<Access>, login: web::Json<Login>) -> HttpResponse {
    use actix_web::http::StatusCode;
    if !access.needs_login() {
        return session(request, access).await;
    }
    let client = client_of(request.peer_addr(), request.headers(), &access).address;
    let now = access.clock.monotonic();
    let Login { user, password, token } = login.into_inner();
    let (user, role) = if token.is_empty() {
        if let Err(wait) = access.limits.login(client, &user, now) {
            access.limits.say(now, || tracing::warn!(%client, user = ?shortened(&user), "too many attempts to log in"));
            return slow_down("too many attempts to log in", wait);
        }
        let role = if password.len() > PASSWORD_BYTES_MAX { None } else { by_password(&access, &user, password).await };
        (user, role)
    } else {
        let role = access.role_of_token(token.trim());
        if role.is_none()
            && let Err(wait) = access.limits.wrong_token(client, now)
        {
            return slow_down("too many tokens that are wrong", wait);
        }
        ("token".to_owned(), role)
    };
    let Some(role) = role else {
        access.limits.say(now, || tracing::warn!(%client, user = ?shortened(&user), "a login was refused"));
        return refusal(StatusCode::UNAUTHORIZED, "these are not the credentials of anybody here");
    };
    let Ok((id, session)) = access.sessions.begin(user, role, access.clock.monotonic()) else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the system has no randomness for a session");
    };
    let Session { user, role, csrf, .. } = session;
    tracing::info!(%client, user, %role, "logged in");
    let cookie = Cookie::build(COOKIE, id)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(access.secure_cookies)
        .finish();
    let visitor = Visitor { user, role, csrf, by_token: false };
    HttpResponse::Ok().cookie(cookie).insert_header(("Cache-Control", "no-store")).json(view(Some(visitor), false))
}

async fn by_password(access: &web::Data<Access>, user: &str, password: String) -> Option<Role> {
    let user = user.to_owned();
    let _permit = Arc::clone(&access.verifications).acquire_owned().await.ok()?;
    let users = Arc::clone(&access.users);
    tokio::task::spawn_blocking(move || verify(&users, &user, &password)).await.ok().flatten()
}

pub(super) async fn log_out(request: HttpRequest, access: web::Data<Access>) -> HttpResponse {
    if let Some(cookie) = request.cookie(COOKIE) {
        access.sessions.end(cookie.value());
    }
    let mut gone = Cookie::build(COOKIE, "").path("/").http_only(true).same_site(SameSite::Strict).finish();
    gone.set_secure(access.secure_cookies);
    gone.make_removal();
    HttpResponse::Ok().cookie(gone).json(view(None, !access.needs_login()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_count_as_this_machine() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "LOCALHOST:1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8080", "10.0.0.1:8080", "127.0.0.1.evil.example"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
