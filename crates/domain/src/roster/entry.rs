//! One publisher in the roster, as small as it can be: there may be a million.
//!
//! Nearly everybody was heard once and is alive ever since. Of such a change only its number is kept, because its words,
//! its evidence and all else can be made again from what is known of the publisher; whatever else happened to it is
//! behind one pointer, which the others pay eight bytes for.

use std::borrow::Cow;
use std::time::Duration;

use crate::flapping::Flapping;
use crate::judge::{HEARD_AGAIN_AFTER, Judgement, judge_heard_after};
use crate::process::ProcessIdentity;
use crate::publisher::{HostName, PublisherId};
use crate::time::{Monotonic, Timestamp};
use crate::verdict::{Change, Trigger, Verdict};
use crate::watch::{Watch, Whereabouts};

/// One publisher.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: PublisherId,
    pub(super) watch: Watch,
    /// Since when its verdict stands: the time of its last change, where it has one.
    pub(super) since: Timestamp,
    /// The number of its last change; 0 before the first.
    epoch: u64,
    /// How long after `since` that change was decided, in nanoseconds.
    decided_after: u32,
    /// The verdict before that change.
    from: Verdict,
    /// The last verdict that people were notified of.
    pub(super) last_notified: Verdict,
    /// Whether it is counted among those who are well.
    pub(super) is_well: bool,
    /// When it is to be looked at.
    pub(super) armed: Option<Monotonic>,
    past: Option<Box<Past>>,
}

/// What only those have to whom more happened than to be heard.
#[derive(Debug, Default)]
struct Past {
    change: Said,
    /// The steps of one publisher between well and not well.
    flapping: Option<Flapping>,
    /// PID and start of the process whose end is waited for.
    exit_awaited: Option<(u32, u64)>,
}

/// The words of a change.
#[derive(Debug, Default)]
enum Said {
    /// It was heard for the first time.
    #[default]
    First,
    /// It was heard again after a silence of so long, in words.
    Again(Box<str>),
    /// Any other one, with all that it said.
    All(Box<Change>),
}

impl Entry {
    pub(super) fn new(id: PublisherId, watch: Watch, since: Timestamp) -> Self {
        let last_notified = watch.verdict();
        Self {
            id,
            watch,
            since,
            epoch: 0,
            decided_after: 0,
            from: Verdict::Unknown,
            last_notified,
            is_well: false,
            armed: None,
            past: None,
        }
    }

    fn past(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }

    /// Has the processor fetch all of it: it takes more than one line of its cache.
    pub(super) fn prefetch(&self) {
        self.watch.prefetch();
        std::hint::black_box((self.armed, self.is_well));
    }

    /// The number of its last change; 0 before the first.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its last change.
    pub(super) fn change(&self) -> Option<Cow<'_, Change>> {
        if self.epoch == 0 {
            return None;
        }
        let silence = match self.past.as_deref().map(|past| &past.change) {
            Some(Said::All(change)) => return Some(Cow::Borrowed(change)),
            Some(Said::Again(silence)) => Some(&**silence),
            Some(Said::First) | None => None,
        };
        Some(Cow::Owned(self.heard(silence, self.watch.host(), self.watch.process())))
    }

    /// The verdict of its last change.
    pub(super) fn verdict_before(&self) -> Verdict {
        match self.past.as_deref().map(|past| &past.change) {
            Some(Said::All(change)) => change.to,
            _ if self.epoch == 0 => Verdict::Unknown,
            Some(Said::Again(_) | Said::First) | None => Verdict::Alive,
        }
    }

    /// The host whose loss spoke for its last change.
    pub(super) fn because(&self) -> Option<&PublisherId> {
        match &self.past.as_deref()?.change {
            Said::All(change) => change.because.as_ref(),
            Said::First | Said::Again(_) => None,
        }
    }

    /// Whether people were not told of its last change.
    pub(super) fn is_untold(&self) -> bool {
        match self.past.as_deref().map(|past| &past.change) {
            Some(Said::All(change)) => !change.is_told(),
            Some(Said::First | Said::Again(_)) | None => false,
        }
    }

    /// Its verdict has changed, or had changed before this run.
    pub(super) fn changed(&mut self, change: &Change) {
        (self.since, self.epoch, self.from) = (change.at, change.epoch, change.from);
        let decided_after = u32::try_from(change.decided_at.as_nanos() - change.at.as_nanos());
        self.decided_after = decided_after.unwrap_or_default();
        // In few words only when they are exactly those that it is made again from.
        let silence = change.summary.strip_prefix(HEARD_AGAIN_AFTER);
        let is_heard = self.heard(silence, self.watch.host(), self.watch.process()) == *change;
        match (is_heard, silence) {
            (true, None) => {
                if let Some(past) = &mut self.past {
                    past.change = Said::First;
                }
            }
            (true, Some(silence)) => self.past().change = Said::Again(silence.into()),
            (false, _) => self.past().change = Said::All(Box::new(change.clone())),
        }
    }

    /// Its host or process is another one from now on: its last change still speaks of the one before.
    pub(super) fn moved(&mut self, was: &Whereabouts) {
        let silence = match self.past.as_deref().map(|past| &past.change) {
            Some(Said::All(_)) => return,
            _ if self.epoch == 0 => return,
            Some(Said::Again(silence)) => Some(&**silence),
            Some(Said::First) | None => None,
        };
        let change = self.heard(silence, &was.host, was.process.as_ref());
        self.past().change = Said::All(Box::new(change));
    }

    fn heard(&self, silence: Option<&str>, host: &HostName, process: Option<&ProcessIdentity>) -> Change {
        let Judgement { verdict, summary, evidence } = judge_heard_after(silence);
        Change {
            epoch: self.epoch,
            publisher: self.id.clone(),
            host: host.clone(),
            from: self.from,
            to: verdict,
            at: self.since,
            decided_at: self.since + Duration::from_nanos(u64::from(self.decided_after)),
            trigger: Trigger::Heartbeat,
            summary,
            evidence,
            process: process.cloned(),
            maintenance: false,
            flapping: None,
            because: None,
        }
    }

    /// Its steps, where it has had some.
    pub(super) fn flapping(&mut self) -> Option<&mut Flapping> {
        self.past.as_mut()?.flapping.as_mut()
    }

    /// Its steps, from now on where it has had none.
    pub(super) fn steps(&mut self) -> &mut Flapping {
        self.past().flapping.get_or_insert_default()
    }

    /// Whether its changes are held back at the moment.
    pub(super) fn flaps(&self) -> bool {
        self.past.as_ref().and_then(|past| past.flapping.as_ref()).is_some_and(Flapping::flaps)
    }

    /// Whether the end of this process is waited for from now on; not when it was already.
    pub(super) fn awaits_exit_of(&mut self, process: (u32, u64)) -> bool {
        self.past().exit_awaited.replace(process) != Some(process)
    }

    /// The end of its process is not waited for any more.
    pub(super) fn awaits_no_exit(&mut self) {
        if let Some(past) = &mut self.past {
            past.exit_awaited = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Evidence, EvidenceKind};
    use crate::judge::judge_heard;

    /// 250 bytes a publisher are wanted with all that belongs to it: this, 8 for the count of the silent, 8 for
    /// its timer and 5 to 11 for the way from its id to here.
    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Watch>() <= 152, "{}", size_of::<Watch>());
        assert!(size_of::<Entry>() <= 216, "{}", size_of::<Entry>());
    }

    fn entry() -> Entry {
        let host = HostName::parse("h").unwrap();
        let watch = Watch::expected(host, Duration::from_secs(5), Monotonic::START);
        Entry::new(PublisherId::parse("light").unwrap(), watch, Timestamp::from_nanos(0))
    }

    fn heard(silence: Option<Duration>) -> Change {
        let Judgement { verdict, summary, evidence } = judge_heard(silence);
        Change {
            epoch: 7,
            publisher: PublisherId::parse("light").unwrap(),
            host: HostName::parse("h").unwrap(),
            from: Verdict::Late,
            to: verdict,
            at: Timestamp::from_nanos(1_000),
            decided_at: Timestamp::from_nanos(4_000),
            trigger: Trigger::Heartbeat,
            summary,
            evidence,
            process: None,
            maintenance: false,
            flapping: None,
            because: None,
        }
    }

    #[test]
    fn a_change_comes_out_as_it_went_in_however_it_is_kept() {
        let with = |edit: &dyn Fn(&mut Change)| {
            let mut change = heard(None);
            edit(&mut change);
            change
        };
        let process = ProcessIdentity { pid: 1, start_ticks: 2, boot_id: "b".into() };
        let changes = [
            heard(None),
            heard(Some(Duration::from_millis(3_214))),
            with(&|change| change.maintenance = true),
            with(&|change| change.evidence.push(Evidence::new(EvidenceKind::Maintenance, "x"))),
            with(&|change| change.decided_at = change.at + Duration::from_secs(5)),
            with(&|change| change.decided_at = change.at.earlier_by(Duration::from_secs(1))),
            with(&|change| change.host = HostName::parse("other").unwrap()),
            with(&|change| change.process = Some(process.clone())),
            with(&|change| change.to = Verdict::Silent),
            with(&|change| change.trigger = Trigger::Steady),
            heard(None),
        ];
        let mut entry = entry();
        assert_eq!(entry.change(), None);
        for change in changes {
            entry.changed(&change);
            assert_eq!(entry.change().as_deref(), Some(&change));
        }
        assert!(matches!(entry.past.as_deref(), Some(Past { change: Said::First, .. })));
    }

    #[test]
    fn a_change_speaks_of_the_host_and_process_of_its_time() {
        let mut entry = entry();
        for change in [heard(None), heard(Some(Duration::from_secs(3)))] {
            entry.changed(&change);
            let was = entry.watch.whereabouts();
            let host = HostName::parse("elsewhere").unwrap();
            entry.watch = Watch::expected(host, Duration::from_secs(5), Monotonic::START);
            entry.moved(&was);
            assert_eq!(entry.change().as_deref(), Some(&change));
            entry.watch = Watch::expected(change.host.clone(), Duration::from_secs(5), Monotonic::START);
        }
    }
}
