//! The server's console for a program on the same host. From another host nobody may command: there is no login.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::server::incoming::client;
use crate::wire::monitoring as wire;
use crate::wire::monitoring::console_service_client::ConsoleServiceClient;
use crate::wire::monitoring::console_service_server::ConsoleService;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 65_536;
/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the console says to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it could be done.
    pub success: bool,
    /// For a person.
    pub text: String,
    /// For a program.
    pub json: String,
}

/// A line that a program said, and where its answer goes.
#[derive(Debug)]
pub struct SaidLine {
    /// The line.
    pub line: String,
    /// Who waits.
    pub answer: oneshot::Sender<Answer>,
}

/// The service.
pub(super) struct Lines(pub mpsc::Sender<SaidLine>);

#[tonic::async_trait]
impl ConsoleService for Lines {
    async fn say(&self, request: Request<wire::ConsoleLine>) -> Result<Response<wire::ConsoleAnswer>, Status> {
        let client = client(request.extensions());
        if !client.is_some_and(|client| client.peer().ip().to_canonical().is_loopback()) {
            return Err(Status::permission_denied("the console is for programs on the server's own host"));
        }
        let line = request.into_inner().line;
        if line.len() > LINE_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a line has at most {LINE_BYTES_MAX} bytes")));
        }
        let (answer, answered) = oneshot::channel();
        let ending = || Status::unavailable("the server is ending");
        self.0.send(SaidLine { line, answer }).await.map_err(|_| ending())?;
        let Answer { success, text, json } = answered.await.map_err(|_| ending())?;
        Ok(Response::new(wire::ConsoleAnswer { success, text, json }))
    }
}

/// Says a line at the console of a running server, `HOST:PORT` or `https://HOST:PORT`.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn say(server: &str, ca_file: Option<&Path>, line: String) -> Result<Answer, String> {
    let endpoint =
        super::address::endpoint(server, ca_file).map_err(|error| error.to_string())?.connect_timeout(CONNECT_TIMEOUT);
    let channel = endpoint.connect().await.map_err(|error| {
        let reason = super::innermost(&error);
        format!("no server answers at {server} ({reason}): start it with `heartwatch server`, or name it with --server")
    })?;
    let answer = ConsoleServiceClient::new(channel).say(wire::ConsoleLine { line }).await;
    let wire::ConsoleAnswer { success, text, json } =
        answer.map_err(|status| format!("{server}: {}", status.message()))?.into_inner();
    Ok(Answer { success, text, json })
}
