//! What is behind a judgement besides the publisher itself.

use crate::boot::BootId;
use crate::publisher::{HostName, PublisherId};
use crate::self_check::SelfCheck;

/// The host and boot that the monitor itself runs on: only processes there can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHost {
    /// Our host's name.
    pub host: HostName,
    /// Our boot; none where the system does not tell.
    pub boot_id: Option<BootId>,
    /// The monitor's own process; none where the system does not tell.
    pub pid: Option<u32>,
}

/// What is behind a judgement besides the publisher itself.
#[derive(Debug, Clone, Copy)]
pub struct WatchContext<'a> {
    /// Our host and boot.
    pub home: &'a LocalHost,
    /// What the monitor knows of its own ears.
    pub observer: &'a SelfCheck,
    /// Why silence of many at once is rather our fault; none when it is not.
    pub doubt: Option<&'a str>,
    /// The agent of the publisher's own boot, where there is one that can be asked.
    pub agent: Option<&'a PublisherId>,
    /// Another agent that speaks for the same boot: one of them may not be what it says.
    pub other_agent: Option<&'a PublisherId>,
}
