//! The server's console for a program of the same user: over a socket of its own, not where agents connect.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::console_socket::ConsoleSocket;

use crate::wire::monitoring as wire;
use crate::wire::monitoring::console_service_client::ConsoleServiceClient;
use crate::wire::monitoring::console_service_server::{ConsoleService, ConsoleServiceServer};

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
    /// What was typed, without its end.
    pub line: String,
    /// Who waits.
    pub answer: oneshot::Sender<Answer>,
}

/// Lines that may wait for their answers.
const LINES_MAX: usize = 64;

/// The service.
struct Lines(mpsc::Sender<SaidLine>);

/// What stands in its place where agents connect: an earlier `heartwatch` asks there.
pub(super) struct Moved;

/// Serves what is said over the socket, until the answer is dropped.
pub fn serve(socket: ConsoleSocket) -> mpsc::Receiver<SaidLine> {
    let (lines, lines_end) = mpsc::channel(LINES_MAX);
    let ended = lines.clone();
    tokio::spawn(async move {
        let (_file, incoming) = socket.incoming();
        let serving = Server::builder().add_service(ConsoleServiceServer::new(Lines(lines)));
        let served = serving.serve_with_incoming_shutdown(incoming, async move { ended.closed().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the console has ended");
        }
    });
    lines_end
}

#[tonic::async_trait]
impl ConsoleService for Moved {
    async fn say(&self, _: Request<wire::ConsoleLine>) -> Result<Response<wire::ConsoleAnswer>, Status> {
        Err(Status::permission_denied(
            "the console is a socket of the server's user: ask with a heartwatch of the server's version",
        ))
    }
}

#[tonic::async_trait]
impl ConsoleService for Lines {
    async fn say(&self, request: Request<wire::ConsoleLine>) -> Result<Response<wire::ConsoleAnswer>, Status> {
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

/// Says a line at the console whose socket this is.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn say(socket: &Path, line: String) -> Result<Answer, String> {
    let at = socket.display();
    let endpoint = Endpoint::from_shared(format!("unix:{at}")).map_err(|error| format!("{at}: {error}"))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| {
        let reason = super::innermost(&error);
        format!(
            "no server's console answers at {at} ({reason}): start one with `heartwatch server`, ask as the user that it runs as, \
             or name its socket with --socket"
        )
    })?;
    let answer = ConsoleServiceClient::new(channel).say(wire::ConsoleLine { line }).await;
    let wire::ConsoleAnswer { success, text, json } =
        answer.map_err(|status| format!("{at}: {}", status.message()))?.into_inner();
    Ok(Answer { success, text, json })
}
