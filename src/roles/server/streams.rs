//! The thread of the agents' streams: one of their own, because that of the actors has enough to do with what they say.

use anyhow::Context as _;
use tokio::sync::oneshot;

/// The thread, while it runs.
pub(super) struct StreamsThread {
    /// Runs what is spawned on it there.
    pub runtime: tokio::runtime::Handle,
    /// It ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl StreamsThread {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start() -> anyhow::Result<Self> {
        let why = "cannot start the thread of the agents' streams";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(why)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(ended);
        };
        std::thread::Builder::new().name("streams".to_owned()).spawn(run).context(why)?;
        Ok(Self { runtime: handle, _end: end })
    }
}
