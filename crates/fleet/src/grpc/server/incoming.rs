//! The connections of agents, as tonic takes them. The idlest one that has sent nothing makes room when there are too many,
//! or when the system has no descriptor left.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

use heartwatch_system::connections::{Connection, Connections};

/// A connection that ends when it is to make room.
pub(super) struct AgentStream {
    stream: TcpStream,
    client: Client,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_closed: bool,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(super) struct Client {
    connection: Arc<Connection>,
}

impl Connected for AgentStream {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

/// All that come.
pub(super) fn incoming(listener: TcpListener, connections: Connections) -> impl Stream<Item = io::Result<AgentStream>> {
    stream::unfold((listener, connections), |(listener, connections)| async move {
        // agents behind one address, such as those in containers, are not bounded by it
        let (stream, _, connection) = connections.accept(&listener, |_| false).await;
        let _ = stream.set_nodelay(true);
        let connection = Arc::new(connection);
        let noticed = connection.clone();
        let closing = Box::pin(async move { noticed.closing().await });
        let stream = AgentStream { stream, client: Client { connection }, closing, is_closed: false };
        Some((Ok(stream), (listener, connections)))
    })
}

/// Who has sent a request, with TLS or without.
fn client(extensions: &Extensions) -> Option<Client> {
    let with_tls = || extensions.get::<TlsConnectInfo<Client>>().map(|info| info.get_ref().clone());
    extensions.get::<Client>().cloned().or_else(with_tls)
}

/// A stream of an agent: as long as it lasts, and once something has come over it, its connection is not closed for
/// another one.
pub(super) struct Use {
    client: Option<Client>,
    has_begun: bool,
}

impl Use {
    /// Of the connection of this request.
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self { client: client(extensions), has_begun: false }
    }

    /// Something has come that can be read.
    pub(super) fn begins(&mut self) {
        if let Some(client) = self.client.as_ref().filter(|_| !self.has_begun) {
            client.connection.is_known();
            client.connection.serves();
        }
        self.has_begun = true;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.connection.idles();
        }
    }
}

impl AgentStream {
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_closed = self.is_closed || self.closing.as_mut().poll(cx).is_ready();
        if self.is_closed { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_closed(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
