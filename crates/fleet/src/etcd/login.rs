//! Who we are at etcd: a user and a password, for which a member gives a token.
//!
//! A token is good for some minutes without use, only at a member that has not started again since, and only while the
//! rights are as they were. One that is no longer good is answered with UNAUTHENTICATED, or with INVALID_ARGUMENT
//! for an old revision of the rights (etcd, api/v3rpc/rpctypes/error.go); then a new one is asked for, once.

use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::wire::etcd::AuthenticateRequest;
use crate::wire::etcd::auth_client::AuthClient;
use heartwatch_ports::credentials::Login;

/// The metadata key of a token (etcd, api/v3rpc/rpctypes/metadatafields.go).
const TOKEN_KEY: &str = "token";

/// Puts the token into every request, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        Ok(request)
    }
}

/// A connection to a member, as whom we are.
pub(super) type AuthedChannel = InterceptedService<Channel, Token>;

/// The token of the moment. All members take it. It is locked for as long as one logs in: a member computes a slow
/// hash for each login (bcrypt), and one is enough for all who wait.
#[derive(Debug, Default)]
pub(super) struct Session {
    login: Option<Login>,
    token: Mutex<Token>,
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login, token: Mutex::default() }
    }

    /// What to send over this channel; the first who asks logs in.
    pub(super) async fn token(&self, channel: &Channel) -> Result<Token, Status> {
        let Some(Login { user, password }) = self.login.clone() else { return Ok(Token::default()) };
        let mut known = self.token.lock().await;
        if known.0.is_none() {
            let request = AuthenticateRequest { name: user, password: password.expose().to_owned() };
            let answer = AuthClient::new(channel.clone()).authenticate(request).await?.into_inner();
            let token = answer.token.parse::<MetadataValue<Ascii>>();
            let mut token = token.map_err(|_| Status::internal("etcd gave a token that cannot be sent"))?;
            token.set_sensitive(true);
            *known = Token(Some(token));
        }
        Ok(known.clone())
    }

    /// Whether this says that the token that was sent is no longer good; then it is forgotten, unless another
    /// question has done so (and perhaps logged in again) meanwhile.
    pub(super) async fn is_over(&self, sent: &Token, status: &Status) -> bool {
        let over = sent.0.is_some() && says_over(status);
        if over {
            let mut known = self.token.lock().await;
            if *known == *sent {
                *known = Token::default();
            }
        }
        over
    }
}

fn says_over(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || (status.code() == Code::InvalidArgument && status.message().contains("auth"))
}
