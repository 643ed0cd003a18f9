//! The log: what this program says to standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Where the log tells each number that is kept; off unless asked for (`RUST_LOG=heartwatch::kept=trace`).
/// `heartwatch prove --rows` reads it: what was produced, by a witness that is not the outbox.
pub const KEPT_LOG: &str = "heartwatch::kept";

/// Whether a log line says when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// It does: a person reads it.
    Told,
    /// Whoever reads it (the monitor, of its children) notes the time itself.
    LeftOut,
}

/// Logs to standard error; `RUST_LOG` says more, or less. The embedded broker's own words and the
/// HTTP client's are left out unless asked for.
///
/// Returns what changes the level from then on.
pub fn log(level: LevelFilter, time: Time) -> LogLevel {
    let to_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let (filter_layer, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(to_terminal).with_target(false);
    let lines = match time {
        Time::Told => lines.boxed(),
        Time::LeftOut => lines.without_time().boxed(),
    };
    tracing_subscriber::registry().with(filter_layer).with(lines).init();
    LogLevel(handle)
}

/// What changes how much is logged, while it is.
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// From now on lines of this level and above are logged.
    pub fn set(&self, level: LevelFilter) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "the log's level was not changed");
        }
    }
}

fn filter(level: LevelFilter) -> EnvFilter {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let quiet = [
        "rdkafka=off",
        "librdkafka=off",
        "rumqttc=off",
        "hyper=warn",
        "hyper_util=warn",
        "reqwest=warn",
        // an error for each request of a stranger that is none, which is answered all the same
        "actix_http=off",
    ];
    match std::env::var("RUST_LOG") {
        Ok(asked) if !asked.is_empty() => filter,
        _ => quiet.iter().filter_map(|directive| directive.parse().ok()).fold(filter, EnvFilter::add_directive),
    }
}
