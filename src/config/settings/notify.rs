//! Who is told, by which way, and who watches the monitor itself: `[[notify]]` and `[monitor]`.

use url::Url;

use crate::actors::self_monitor::SelfMonitorPace;
use heartwatch_adapters::command::CommandConfig;
use heartwatch_adapters::mail::MailConfig;
use heartwatch_adapters::webhook::WebhookConfig;
use heartwatch_domain::notice::TargetConfig;
use heartwatch_domain::publisher::PublisherId;

/// Someone who is told of verdict changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyEntry {
    /// Who, and what it is told.
    pub target: TargetConfig,
    /// How it is reached.
    pub way: Way,
}

/// A way to reach someone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A POST.
    Webhook(WebhookConfig),
    /// A local command.
    Command(CommandConfig),
    /// Mail.
    Email(Box<MailConfig>),
}

/// How the monitor itself is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Monitor {
    /// The id under which another monitor can watch it; none: made of the host's name.
    pub id: Option<PublisherId>,
    /// What is asked for while it is well; none: nothing.
    pub ping_url: Option<Url>,
    /// How often it beats, pings and asks its own actors.
    pub pace: SelfMonitorPace,
}
