//! Who is told, by which way, and who watches the monitor itself: `[[notify]]`, `[mail]` and `[monitor]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use url::Url;

use crate::config::secret::Secret;
use heartwatch_domain::notice::NoticeFilter;
use heartwatch_domain::publisher::PublisherId;

/// Someone who is told of verdict changes.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifySettings {
    /// Its name in logs, accounts and numbers.
    pub name: String,
    /// How it is reached.
    pub way: WaySettings,
    /// What it is told.
    pub filter: NoticeFilter,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Most messages a minute.
    pub per_minute_max: usize,
    /// What could not be delivered for so long is given up.
    pub age_max: Duration,
    /// Wait after the first failed attempt.
    pub backoff_min: Duration,
    /// Longest wait after a failed attempt.
    pub backoff_max: Duration,
}

impl Default for NotifySettings {
    /// What a table has where it says nothing; its name and way stand for none.
    fn default() -> Self {
        Self {
            name: String::new(),
            way: WaySettings::Email { to: Vec::new() },
            filter: NoticeFilter::default(),
            timeout: Duration::from_secs(10),
            per_minute_max: 10,
            age_max: Duration::from_secs(86_400),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
        }
    }
}

/// A way to reach someone.
#[derive(Clone, PartialEq)]
pub enum WaySettings {
    /// A POST.
    Webhook {
        /// Where. It may be a secret itself.
        url: Url,
        /// What signs it.
        secret: Option<Secret>,
    },
    /// A local command.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Mail.
    Email {
        /// To whom.
        to: Vec<Mailbox>,
    },
}

impl fmt::Debug for WaySettings {
    /// Without the path of a webhook, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook { url, .. } => write!(f, "Webhook({})", url.host_str().unwrap_or_default()),
            Self::Command { program, .. } => write!(f, "Command({})", program.display()),
            Self::Email { to } => write!(f, "Email({to:?})"),
        }
    }
}

/// The server that takes our mail.
#[derive(Debug, Clone, PartialEq)]
pub struct MailSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: MailEncryption,
    /// The user at the server.
    pub user: Option<String>,
    /// Its password, from a file or the environment.
    pub password: Option<Secret>,
    /// Certificates (PEM) that the server's must chain to; none uses the system's.
    pub ca_file: Option<PathBuf>,
    /// The sender.
    pub from: Mailbox,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// TLS from the first byte (`smtps://`).
    Tls,
    /// STARTTLS, or no mail.
    StartTls,
    /// Not at all.
    None,
}

/// How the monitor itself is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorSettings {
    /// The id under which another monitor can watch it; none: made of the host's name.
    pub id: Option<PublisherId>,
    /// Time between its own heartbeats.
    pub heartbeat: Duration,
    /// What is asked for while it is well; none: nothing.
    pub ping_url: Option<Url>,
    /// Time between two such requests.
    pub ping_interval: Duration,
    /// How often its own actors are asked whether they still handle messages, and how long they may take.
    pub check_interval: Duration,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            id: None,
            heartbeat: Duration::from_secs(5),
            ping_url: None,
            ping_interval: Duration::from_secs(60),
            check_interval: Duration::from_secs(5),
        }
    }
}
