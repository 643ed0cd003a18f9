//! A thread with a runtime of its own, for what must not wait until the actors have done what they do.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread, while it runs; with it ends all that was spawned on it.
#[derive(Debug)]
pub struct DedicatedThread {
    /// Runs what is spawned on it there.
    pub runtime: Handle,
    /// It ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl DedicatedThread {
    /// Starts it; the name is what a person sees in `top -H`.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(ended);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { runtime: handle, _end: end })
    }
}
