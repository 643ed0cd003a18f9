//! The page's connections: each is taken, served as HTTP/1.1 and closed here.
//!
//! Whatever a client sends or does not send, the page stays open for others. A request has deadlines for its head and for its
//! body, an answer for being taken; connections are limited together and by address; and at the limit the idlest
//! stranger is closed, so that who has credentials always gets in ([`ConnectionTable`](heartwatch_domain::connections)).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::Protocol;
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Service;
use actix_web::web::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use heartwatch_domain::connections::ConnectionLimits;
use heartwatch_system::connections::{Connection, Connections, SWEEP_INTERVAL};

/// Of so many connections three eighths from one address: more than there are streams, so that pages that are open leave
/// room for requests.
pub(super) const fn limits(connections_max: usize) -> ConnectionLimits {
    ConnectionLimits { connections_max, connections_per_address_max: connections_max * 3 / 8 }
}
/// How long the head of a first request may take, answered with 408 (Request Timeout) then.
pub(super) const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept without a request.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a client has, after an answer, for the whole head of its next request; the connection is closed then.
const NEXT_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the body of a request may take, answered with 408 then.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that we close waits for its client to close it, too.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take nothing of what is sent to it; the connection is closed then.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's connection that notes how it goes.
pub(super) struct ClientStream {
    stream: TcpStream,
    pub(super) connection: Rc<Connection>,
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        match written {
            Poll::Pending => self.connection.write_blocked(WRITE_TIMEOUT),
            Poll::Ready(_) => self.connection.wrote(NEXT_HEAD_TIMEOUT),
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves until it is stopped; what is open then is closed.
pub(super) async fn run<S>(
    listener: TcpListener,
    connections: Connections,
    counted: impl Fn(IpAddr) -> bool,
    service: S,
    mut stopped: oneshot::Receiver<()>,
) where
    S: Service<(ClientStream, Protocol, Option<SocketAddr>)> + 'static,
    S::Error: std::fmt::Debug,
{
    let service = Rc::new(service);
    let mut clients = JoinSet::new();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            (stream, peer, connection) = connections.accept(&listener, &counted) => {
                clients.spawn_local(serve(stream, peer, connection, service.clone()));
            }
            _ = sweep.tick() => connections.sweep(),
            Some(ended) = clients.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a connection to the page has failed");
            },
        }
    }
}

async fn serve<S>(stream: TcpStream, peer: SocketAddr, connection: Connection, service: Rc<S>)
where
    S: Service<(ClientStream, Protocol, Option<SocketAddr>)>,
    S::Error: std::fmt::Debug,
{
    // Without it a change that follows another one waits up to 40 ms until the reader's system has acknowledged the first.
    let _ = stream.set_nodelay(true);
    let connection = Rc::new(connection);
    connection.waits(NEXT_HEAD_TIMEOUT);
    let client = ClientStream { stream, connection: connection.clone() };
    tokio::select! {
        served = service.call((client, Protocol::Http1, Some(peer))) => if let Err(error) = served {
            tracing::debug!(%peer, ?error, "a connection to the page has ended");
        },
        () = connection.closing() => {}
    }
}

/// An answer, at the end of which the connection waits for its client again.
pub(super) struct Answer {
    body: BoxBody,
    waits: Option<WaitsAgain>,
}

/// Says when it is dropped that the connection waits for its client again.
pub(super) struct WaitsAgain(Rc<Connection>);

impl WaitsAgain {
    pub(super) fn on(connection: Rc<Connection>) -> Self {
        Self(connection)
    }
}

impl Drop for WaitsAgain {
    fn drop(&mut self) {
        self.0.waits(NEXT_HEAD_TIMEOUT);
    }
}

impl Answer {
    pub(super) fn new(body: impl MessageBody + 'static, waits: Option<WaitsAgain>) -> Self {
        Self { body: body.boxed(), waits }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, waits } = self;
        body.try_into_bytes().map_err(|body| Self { body, waits })
    }
}
