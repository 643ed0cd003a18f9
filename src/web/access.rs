//! Who may see the page and who may change something: every request passes here.
//!
//! On a loopback address without credentials everybody on this machine is an operator, and only a
//! request for this machine by name is answered, so that no page of another site reaches the monitor
//! through its visitor's browser (DNS rebinding). Otherwise a request shows a token or the cookie of
//! a session. A changing request from a browser also shows that it comes from our own page.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::WebConfig;
use super::rate::Rate;
use super::sessions::{Session, Sessions, random_secret};
use super::users::{PASSWORD_BYTES_MAX, Role, User, verify};
use crate::formats::api::ErrorView;
use crate::runtime::clock::Clock;

/// What a changing request of a browser carries besides its cookie.
pub(super) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-heartwatch-csrf");
const COOKIE: &str = "heartwatch_session";
/// Requests of one client: 50 a second, 200 at once (a page with its files and a fast reader).
const REQUEST_EVERY: Duration = Duration::from_millis(20);
const REQUEST_BURST: u32 = 200;
/// Attempts of one client to log in: ten a minute.
const LOGIN_EVERY: Duration = Duration::from_secs(6);
const LOGIN_BURST: u32 = 10;
/// Passwords that are verified at once; each takes a core for tens of milliseconds and 19 MiB.
const VERIFICATIONS_AT_ONCE_MAX: usize = 2;

/// Everything that decides about access.
pub(super) struct Access {
    operator_token: Option<String>,
    read_only_token: Option<String>,
    users: Arc<Vec<User>>,
    loopback: bool,
    /// Whether a browser may send its session over HTTPS only.
    secure_cookies: bool,
    /// What a changing request shows where there is no login.
    open_csrf: String,
    sessions: Sessions,
    requests: Rate,
    logins: Rate,
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
            requests: Rate::new(REQUEST_EVERY, REQUEST_BURST),
            logins: Rate::new(LOGIN_EVERY, LOGIN_BURST),
            verifications: Arc::new(Semaphore::new(VERIFICATIONS_AT_ONCE_MAX)),
            clock,
        })
    }

    fn needs_login(&self) -> bool {
        self.operator_token.is_some() || self.read_only_token.is_some() || !self.users.is_empty()
    }

    fn role_of_token(&self, token: &str) -> Option<Role> {
        let is = |known: &Option<String>| {
            known.as_ref().is_some_and(|known| bool::from(known.as_bytes().ct_eq(token.as_bytes())))
        };
        let (operator, read_only) = (is(&self.operator_token), is(&self.read_only_token));
        if operator { Some(Role::Operator) } else { read_only.then_some(Role::ReadOnly) }
    }

    fn visitor(&self, headers: &HeaderMap, cookie: Option<&str>) -> Option<Visitor> {
        if !self.needs_login() {
            let (user, csrf) = ("this machine".to_owned(), self.open_csrf.clone());
            return Some(Visitor { user, role: Role::Operator, csrf, by_token: false });
        }
        if let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            let role = self.role_of_token(token.strip_prefix("Bearer ")?.trim())?;
            return Some(Visitor { user: "token".to_owned(), role, csrf: String::new(), by_token: true });
        }
        let Session { user, role, csrf, .. } = self.sessions.find(cookie?, self.clock.monotonic())?;
        Some(Visitor { user, role, csrf, by_token: false })
    }
}

fn refusal(status: actix_web::http::StatusCode, error: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(ErrorView { error: error.into() })
}

/// What everybody may have: the page's own files, the way to log in, and whether the monitor lives.
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/favicon.ico" | "/favicon.svg" | "/healthz" | "/readyz" | "/api/session")
        || path.starts_with("/assets/")
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

/// Lets a request through, or answers it.
pub(super) async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match refused(&request) {
        Some(answer) => Ok(request.into_response(answer).map_into_right_body()),
        None => next.call(request).await.map(ServiceResponse::map_into_left_body),
    }
}

fn refused(request: &ServiceRequest) -> Option<HttpResponse> {
    use actix_web::http::StatusCode;
    let access = request.app_data::<web::Data<Access>>()?;
    let client = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
    if let Err(wait) = access.requests.take(client, access.clock.monotonic()) {
        let mut answer = refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests: slow down");
        answer.headers_mut().insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
        return Some(answer);
    }
    let headers = request.headers();
    let open = !access.needs_login();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if open && access.loopback && !is_this_machine(host) {
        let words = "without a login the page answers for localhost and 127.0.0.1 alone: configure a token or users under [web]";
        return Some(refusal(StatusCode::FORBIDDEN, words));
    }
    let cookie = request.cookie(COOKIE);
    let visitor = access.visitor(headers, cookie.as_ref().map(Cookie::value));
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
    let client = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
    if let Err(wait) = access.logins.take(client, access.clock.monotonic()) {
        tracing::warn!(%client, "too many attempts to log in");
        let seconds = wait.as_secs() + 1;
        let mut answer = refusal(StatusCode::TOO_MANY_REQUESTS, format!("too many attempts: try again in {seconds} s"));
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        return answer;
    }
    let Login { user, password, token } = login.into_inner();
    let (user, role) = if token.is_empty() {
        (
            user.clone(),
            if password.len() > PASSWORD_BYTES_MAX { None } else { by_password(&access, user, password).await },
        )
    } else {
        ("token".to_owned(), access.role_of_token(token.trim()))
    };
    let Some(role) = role else {
        tracing::warn!(%client, "a login was refused");
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

async fn by_password(access: &web::Data<Access>, user: String, password: String) -> Option<Role> {
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
