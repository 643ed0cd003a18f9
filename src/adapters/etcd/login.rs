//! Who we are at etcd: a user and a password, for which a member gives a token.
//!
//! A token is good for some minutes without use, only at a member that has not started again since, and only while the
//! rights are as they were. One that is no longer good is answered with UNAUTHENTICATED, or with INVALID_ARGUMENT
//! for an old revision of the rights (etcd, api/v3rpc/rpctypes/error.go); then a new one is asked for, once.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::wire::etcd::AuthenticateRequest;
use crate::wire::etcd::auth_client::AuthClient;

/// The metadata key of a token (etcd, api/v3rpc/rpctypes/metadatafields.go).
const TOKEN_KEY: &str = "token";

/// A password. Its `Debug` shows no part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password that was read from a file or the environment.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A user and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Password,
}

/// Puts the token into every request, where there is one.
#[derive(Debug, Clone, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        Ok(request)
    }
}

/// A connection to a member, as whom we are.
pub(super) type Line = InterceptedService<Channel, Token>;

/// The token of the moment. All members take it.
#[derive(Debug, Default)]
pub(super) struct Session {
    login: Option<Login>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login, token: Mutex::default() }
    }

    /// A line over this channel; the first one logs in.
    pub(super) async fn line(&self, channel: Channel) -> Result<Line, Status> {
        let Some(login) = &self.login else { return Ok(Line::new(channel, Token::default())) };
        let known = self.token().clone();
        let token = match known {
            Some(token) => token,
            None => {
                let Login { user, password } = login.clone();
                let request = AuthenticateRequest { name: user, password: password.0 };
                let answer = AuthClient::new(channel.clone()).authenticate(request).await?.into_inner();
                let token = answer.token.parse::<MetadataValue<Ascii>>();
                let mut token = token.map_err(|_| Status::internal("etcd gave a token that cannot be sent"))?;
                token.set_sensitive(true);
                self.token().replace(token.clone());
                token
            }
        };
        Ok(Line::new(channel, Token(Some(token))))
    }

    /// Whether this says that a token is no longer good; then the next line logs in again.
    pub(super) fn is_over(&self, status: &Status) -> bool {
        let old = status.code() == Code::Unauthenticated
            || (status.code() == Code::InvalidArgument && status.message().contains("auth"));
        old && self.token().take().is_some()
    }

    fn token(&self) -> std::sync::MutexGuard<'_, Option<MetadataValue<Ascii>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
