//! What stands between the monitor and InfluxDB, and can answer in its place: 500, half of a batch, nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Largest body.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the server itself may take.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server's own.
    Own,
    /// The connection is broken off before anything is read.
    Refused,
    /// None, for as long as this lasts.
    Never,
    /// Status 500, and nothing is stored.
    Error,
    /// Half of the lines are stored, and the answer is 400, partial write. A single line is stored.
    Partial,
    /// The server stores it, and the connection breaks off before its answer.
    Lost,
}

/// An HTTP proxy before one InfluxDB.
#[derive(Debug)]
pub(super) struct InfluxLine {
    address: SocketAddr,
    answer: Arc<watch::Sender<Answer>>,
    task: JoinHandle<()>,
}

impl InfluxLine {
    /// Starts it on a port of its own.
    ///
    /// # Errors
    /// When no port is free.
    pub(super) async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let answer = Arc::new(watch::Sender::new(Answer::Own));
        let answers = answer.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                if *answers.borrow() != Answer::Refused {
                    tokio::spawn(serve(near, server, answers.subscribe()));
                }
            }
        });
        Ok(Self { address, answer, task })
    }

    /// Where it listens.
    #[must_use]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of writes.
    pub(super) fn set(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }
}

impl Drop for InfluxLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, one request: the answer ends it.
async fn serve(near: TcpStream, server: SocketAddr, mut answer: watch::Receiver<Answer>) {
    let mut near = BufReader::new(near);
    let Ok(Some((head, body))) = read_request(&mut near).await else { return };
    let is_write = head.starts_with("POST /write") || head.starts_with("POST /api/v2/write");
    let now = *answer.borrow();
    let lines = body.split_inclusive(|byte| *byte == b'\n').count();
    let reply = match now {
        Answer::Refused => return,
        Answer::Never => {
            let _ = answer.wait_for(|answer| *answer != Answer::Never).await;
            return;
        }
        Answer::Error if is_write => response("500 Internal Server Error", r#"{"error":"engine: write failed"}"#),
        Answer::Partial if is_write && lines > 1 => {
            let half: Vec<u8> = body.split_inclusive(|byte| *byte == b'\n').step_by(2).flatten().copied().collect();
            if ask(server, &head, &half).await.is_none() {
                return;
            }
            let dropped = lines / 2;
            let error = format!(
                r#"{{"error":"partial write: field type conflict: input field \"value\" on measurement \"m\" is type float, already exists as type integer dropped={dropped}"}}"#
            );
            response("400 Bad Request", &error)
        }
        Answer::Lost if is_write => {
            let _ = ask(server, &head, &body).await;
            return;
        }
        Answer::Own | Answer::Error | Answer::Partial | Answer::Lost => match ask(server, &head, &body).await {
            Some(reply) => reply,
            None => return,
        },
    };
    let _ = near.write_all(&reply).await;
    let _ = near.shutdown().await;
}

async fn read_request(near: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    let mut length = 0_usize;
    loop {
        let before = head.len();
        if near.read_line(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        let line = head.get(before..).unwrap_or_default().trim();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    if length > BODY_BYTES_MAX {
        return Ok(None);
    }
    let mut body = vec![0; length];
    near.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}

/// The server's whole answer; none when it gave none.
async fn ask(server: SocketAddr, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut request = String::new();
    for line in head.lines().filter(|line| !line.trim().is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if !["connection", "content-length"].iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            request.push_str(line);
            request.push_str("\r\n");
        }
    }
    request.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    let talk = async {
        let mut far = TcpStream::connect(server).await?;
        far.write_all(request.as_bytes()).await?;
        far.write_all(body).await?;
        let mut reply = Vec::new();
        far.read_to_end(&mut reply).await?;
        std::io::Result::Ok(reply)
    };
    let reply = tokio::time::timeout(SERVER_TIMEOUT, talk).await.ok()?.ok()?;
    (!reply.is_empty()).then_some(reply)
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
