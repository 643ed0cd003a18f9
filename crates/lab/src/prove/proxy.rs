//! The network between one publisher and its broker, as something that can fail.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that are carried at once.
const CARRIED_BYTES_MAX: usize = 16 * 1024;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkMode {
    /// It arrives.
    Open,
    /// Nothing arrives, in neither direction, and nobody is told: a cable that was pulled.
    Frozen,
    /// Connections are broken off, and new ones too.
    Cut,
    /// Half of the next bytes arrives, and with that the connection breaks off; new ones do at once.
    Torn,
    /// What the server says arrives, and nothing that is said to it.
    Unheard,
}

/// A TCP proxy on a port of its own on 127.0.0.1.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    line: Arc<watch::Sender<LinkMode>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Carries everything to `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let line = Arc::new(watch::Sender::new(LinkMode::Open));
        let task = tokio::spawn(accept(listener, target, line.clone()));
        Ok(Self { address, line, task })
    }

    /// Where it listens.
    #[must_use]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of what is sent.
    pub(super) fn set(&self, line: LinkMode) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        // The connections end with the line.
        self.line.send_replace(LinkMode::Cut);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, line: Arc<watch::Sender<LinkMode>>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        if !matches!(*line.borrow(), LinkMode::Cut | LinkMode::Torn) {
            tokio::spawn(connect(near, target, line.subscribe()));
        }
    }
}

async fn connect(near: TcpStream, target: SocketAddr, mut line: watch::Receiver<LinkMode>) {
    // A connection that is made while the line is frozen gets no answer until it is open again.
    let opened = line.wait_for(|line| *line != LinkMode::Frozen).await;
    if opened.is_ok_and(|line| !matches!(*line, LinkMode::Open | LinkMode::Unheard)) {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let out = carry(near_read, far_write, line.clone(), |line| matches!(line, LinkMode::Frozen | LinkMode::Unheard));
    let back = carry(far_read, near_write, line.clone(), |line| line == LinkMode::Frozen);
    // Either end's end is the end of both.
    tokio::select! {
        () = out => {}
        () = back => {}
        _ = line.wait_for(|line| *line == LinkMode::Cut) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<LinkMode>,
    holds: impl Fn(LinkMode) -> bool,
) {
    let mut held = vec![0; CARRIED_BYTES_MAX];
    loop {
        if line.wait_for(|line| *line != LinkMode::Cut && !holds(*line)).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut held) => read,
            _ = line.wait_for(|line| *line == LinkMode::Cut || holds(*line)) => continue,
        };
        let Ok(count @ 1..) = read else { return };
        let torn = *line.borrow() == LinkMode::Torn;
        let Some(carried) = held.get(..if torn { count.div_ceil(2) } else { count }) else { return };
        if to.write_all(carried).await.is_err() || torn {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn next(stream: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut byte)).await;
        read.ok().map(|read| if read.unwrap_or(0) == 1 { byte[0] } else { 0 })
    }

    #[tokio::test]
    async fn a_line_carries_freezes_thaws_and_is_cut() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"a").await.unwrap();
        assert_eq!(next(&mut far).await, Some(b'a'));
        far.write_all(b"b").await.unwrap();
        assert_eq!(next(&mut near).await, Some(b'b'));
        proxy.set(LinkMode::Frozen);
        near.write_all(b"c").await.unwrap();
        assert_eq!(next(&mut far).await, None, "nothing arrives, and it is not closed");
        proxy.set(LinkMode::Open);
        assert_eq!(next(&mut far).await, Some(b'c'));
        proxy.set(LinkMode::Unheard);
        near.write_all(b"x").await.unwrap();
        far.write_all(b"y").await.unwrap();
        assert_eq!([next(&mut far).await, next(&mut near).await], [None, Some(b'y')], "in one direction only");
        proxy.set(LinkMode::Cut);
        assert_eq!(next(&mut near).await, Some(0), "closed");
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(next(&mut refused).await, Some(0), "closed at once");

        proxy.set(LinkMode::Open);
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        proxy.set(LinkMode::Torn);
        near.write_all(b"defg").await.unwrap();
        let came = [next(&mut far).await, next(&mut far).await, next(&mut far).await];
        assert_eq!(came, [Some(b'd'), Some(b'e'), Some(0)], "half of it, then the end");
    }
}
