//! Signals as a stream: the first SIGTERM or SIGINT asks for an end in order, a second one ends the
//! program at once (also when nothing else runs any more), SIGHUP asks for a reload.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// The exit code of a program that was told twice to stop.
pub const EXIT_AT_ONCE: i32 = 1;

/// What a person or the service manager asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// End in order.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Waits until a program is asked to end that reads no configuration: SIGHUP is no reload for it, its terminal has gone.
pub async fn told_to_end(requests: &mut mpsc::Receiver<Request>) {
    // None: nobody listens any more, which is an end as well.
    let _ = requests.recv().await;
}

/// Starts to listen. Call it once, before anything is started that would have to be stopped.
///
/// # Errors
/// When the system refuses the signal handlers.
pub fn listen() -> io::Result<mpsc::Receiver<Request>> {
    let told_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, told_before.clone())?;
        signal_hook::flag::register(signal, told_before.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = mpsc::channel(8);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let request = if signal == SIGHUP { Request::Reload } else { Request::Stop };
            if sender.blocking_send(request).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
