//! The connections of a listener, while they last: what [`ConnectionTable`] decides, done, counted and said.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::clock::Clock;
use super::log_rate_limit::LogRateLimit;
use heartwatch_domain::connections::{ConnectionLimits, ConnectionTable, Refusal};
use heartwatch_domain::time::Monotonic;

/// How long nothing is accepted after the system had no descriptor for it: without a pause that is a busy loop, because
/// the connection stays in line.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the limit that may be about to close.
const CLOSING_MAX: usize = 8;
/// How often slow clients are looked for; a deadline is kept to within it.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of a listener about connections that it closed or refused.
const LINES_MAX: u64 = 10;
const LINES_PERIOD: Duration = Duration::from_secs(60);

/// What a listener counts.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were closed for another one, or because the system had no descriptor left.
    pub evicted: AtomicU64,
    /// Connections that were refused.
    pub refused: AtomicU64,
    /// Connections that were closed because their client was too slow.
    pub slow: AtomicU64,
}

impl ConnectionCounts {
    /// How many there are.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// All connections of a listener. Clones are the same.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    /// In a log line: whose connections they are.
    of: &'static str,
    clock: Clock,
    counts: Arc<ConnectionCounts>,
    /// The most that are open, with those that are told to close and have not yet done so.
    open_max: usize,
    /// Tells whoever accepts that one has closed.
    closed: Notify,
    state: Mutex<State>,
}

struct State {
    table: ConnectionTable,
    /// Tells a connection that it is to be closed.
    close: HashMap<u64, (SocketAddr, watch::Sender<bool>)>,
    lines: LogRateLimit,
    /// Of their own, so that the others can't keep them away.
    error_lines: LogRateLimit,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections of {}", self.0.of)
    }
}

impl Connections {
    /// None yet. `of` says in log lines whose they are.
    #[must_use]
    pub fn new(of: &'static str, limits: ConnectionLimits, counts: Arc<ConnectionCounts>, clock: Clock) -> Self {
        let limit = || LogRateLimit::new(LINES_MAX, LINES_PERIOD);
        let state =
            State { table: ConnectionTable::new(limits), close: HashMap::new(), lines: limit(), error_lines: limit() };
        let open_max = limits.connections_max.saturating_add(CLOSING_MAX);
        Self(Arc::new(Inner { of, clock, counts, open_max, closed: Notify::new(), state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next connection that is taken. `counted` says whether those of an address are counted together.
    ///
    /// It never fails: where the system has no descriptor left, the connection of least use is closed and it is tried
    /// again after a pause.
    pub async fn accept(
        &self,
        listener: &TcpListener,
        counted: impl Fn(IpAddr) -> bool,
    ) -> (TcpStream, SocketAddr, Connection) {
        loop {
            if self.state().close.len() >= self.0.open_max {
                // those that make room need a moment: their descriptors are not to add up
                let _ = tokio::time::timeout(ACCEPT_PAUSE, self.0.closed.notified()).await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let address = peer.ip().to_canonical();
                    if let Some(connection) = self.admit(peer, counted(address)) {
                        return (stream, peer, connection);
                    }
                }
                Err(error) => {
                    self.could_not_accept(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, peer: SocketAddr, counted: bool) -> Option<Connection> {
        let now = self.0.clock.monotonic();
        let mut state = self.state();
        let admission = match state.table.admit(counted.then(|| peer.ip()), now) {
            Ok(admission) => admission,
            Err(refusal) => {
                self.0.counts.refused.fetch_add(1, Ordering::Relaxed);
                let (of, open) = (self.0.of, state.table.len());
                let why = match refusal {
                    Refusal::Full => "there are as many as it takes, and all are in use",
                    Refusal::Address => "its address has as many as one may have, and all are in use",
                };
                state.say(now, of, || tracing::warn!(%peer, open, of, why, "a connection was refused"));
                return None;
            }
        };
        if let Some(evicted) = admission.evicts {
            self.close_for_another(&mut state, evicted, now);
        }
        let (close, closing) = watch::channel(false);
        state.close.insert(admission.id, (peer, close));
        self.0.counts.open.store(state.close.len() as u64, Ordering::Relaxed);
        Some(Connection { id: admission.id, connections: self.clone(), closing })
    }

    fn close_for_another(&self, state: &mut State, id: u64, now: Monotonic) {
        self.0.counts.evicted.fetch_add(1, Ordering::Relaxed);
        let Some((peer, close)) = state.close.get(&id) else { return };
        let _ = close.send(true);
        let (peer, of) = (*peer, self.0.of);
        state.say(now, of, || {
            tracing::warn!(%peer, of, "a connection was closed to make room: its client has not shown who it is, or only waits, for the longest time");
        });
    }

    fn could_not_accept(&self, error: &io::Error) {
        let now = self.0.clock.monotonic();
        let mut state = self.state();
        let of = self.0.of;
        if state.error_lines.admits(now) {
            tracing::error!(%error, of, "a connection cannot be taken: raise LimitNOFILE of the unit, or `ulimit -n`, if it is too many open files");
        }
        if is_out_of_descriptors(error)
            && let Some(evicted) = state.table.evict()
        {
            self.close_for_another(&mut state, evicted, now);
        }
    }

    /// Closes the connections whose clients are too slow: called every [`SWEEP_INTERVAL`].
    pub fn sweep(&self) {
        let now = self.0.clock.monotonic();
        let mut state = self.state();
        for id in state.table.overdue(now) {
            self.0.counts.slow.fetch_add(1, Ordering::Relaxed);
            let Some((peer, close)) = state.close.get(&id) else { continue };
            let _ = close.send(true);
            let (peer, of) = (*peer, self.0.of);
            state.say(now, of, || tracing::info!(%peer, of, "a connection was closed: its client is too slow"));
        }
    }
}

impl State {
    /// So that a flood does not fill the log.
    fn say(&mut self, now: Monotonic, of: &'static str, line: impl FnOnce()) {
        if let Some(lines) = self.lines.left_out(now) {
            tracing::warn!(lines, of, "lines about connections were left out, like those before");
        }
        if self.lines.admits(now) {
            line();
        }
    }
}

/// Whether this process or the system has no descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One connection, until this is dropped.
pub struct Connection {
    id: u64,
    connections: Connections,
    closing: watch::Receiver<bool>,
}

impl Connection {
    /// Resolves when it is to be closed: its client is too slow, or it makes room for another one.
    pub async fn closing(&self) {
        let mut closing = self.closing.clone();
        // the sender is dropped with this
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// Its client has so long to send what is missing.
    pub fn waits(&self, at_most: Duration) {
        let until = self.now() + at_most;
        self.connections.state().table.waits(self.id, until);
    }

    /// It waits for its client, which may take its time.
    pub fn idles(&self) {
        self.connections.state().table.idles(self.id);
    }

    /// A whole request has come, which is being served.
    pub fn serves(&self) {
        let now = self.now();
        self.connections.state().table.serves(self.id, now);
    }

    /// Its client has shown who it is.
    pub fn is_known(&self) {
        self.connections.state().table.is_known(self.id);
    }

    /// Its client takes nothing of what is sent to it, and has so long to do so.
    pub fn write_blocked(&self, at_most: Duration) {
        let until = self.now() + at_most;
        self.connections.state().table.write_blocked(self.id, until);
    }

    /// Its client has taken something, and has so long for what it has to send next.
    pub fn wrote(&self, at_most: Duration) {
        let until = self.now() + at_most;
        self.connections.state().table.wrote(self.id, until);
    }

    fn now(&self) -> Monotonic {
        self.connections.0.clock.monotonic()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection {} of {}", self.id, self.connections.0.of)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.table.remove(self.id);
        state.close.remove(&self.id);
        self.connections.0.counts.open.store(state.close.len() as u64, Ordering::Relaxed);
        drop(state);
        self.connections.0.closed.notify_one();
    }
}
