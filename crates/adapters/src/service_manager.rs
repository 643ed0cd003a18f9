//! systemd, or whoever else set `NOTIFY_SOCKET`
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>). Without it every call
//! does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use heartwatch_ports::ServiceManager;

/// The service manager that started this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemdNotify;

impl SystemdNotify {
    fn tell(states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, ?states, "the service manager could not be told (NOTIFY_SOCKET)");
        }
    }
}

impl ServiceManager for SystemdNotify {
    fn ready(&self) {
        Self::tell(&[NotifyState::Ready]);
    }

    fn reloading(&self) {
        // With Type=notify-reload both come in one message.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Self::tell(&[NotifyState::Reloading, now]),
            Err(_) => Self::tell(&[NotifyState::Reloading]),
        }
    }

    fn stopping(&self) {
        Self::tell(&[NotifyState::Stopping]);
    }

    fn alive(&self) {
        Self::tell(&[NotifyState::Watchdog]);
    }

    fn patience(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    }
}
