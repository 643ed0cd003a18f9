//! What is told of a simulated world.

use std::fmt;

/// What happened in a simulated world, and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SimulationResult {
    /// What the world was made from; the same seed and hours give the same result.
    pub seed: u64,
    /// Hours times publishers.
    pub publisher_hours: u64,
    /// Signs of life that came.
    pub signs_of_life: u64,
    /// Signs of life that came within their publisher's last tenth before the deadline, or less.
    pub just_in_time: u64,
    /// Standstills of the monitor, from a third of a second to twenty minutes.
    pub stalls: u64,
    /// Losses of its broker.
    pub cuts: u64,
    /// Times at which its own disk held up what it hears, up to a minute each.
    pub hold_ups: u64,
    /// Questions to the probe.
    pub questions: u64,
    /// `late`, which is no accusation.
    pub late: u64,
    /// Publishers that lived and were silent for longer than their own adaptive deadline: told rightly.
    pub too_late: u64,
    /// Verdicts against a publisher that lived and was in time. The product promises none.
    pub false_verdicts: u64,
    /// The first of them, in words.
    pub first_false: Option<String>,
    /// Processes that ended without a word.
    pub deaths: u64,
    /// Deaths that were not told although their deadline had passed. The product promises none.
    pub missed_deaths: u64,
    /// The first of them, or of the missed notifications, in words.
    pub first_missed: Option<String>,
    /// Small fleets to which everything happens often.
    pub fleets: u64,
    /// Restarts of their monitors.
    pub restarts: u64,
    /// Hosts that were out of reach.
    pub host_losses: u64,
    /// Switches that failed, and with them most of a fleet.
    pub mass_silences: u64,
    /// Publishers that fell silent and came back, again and again.
    pub flaps: u64,
    /// Publishers in whose name somebody else spoke.
    pub rivals: u64,
    /// Windows of maintenance.
    pub windows: u64,
    /// Notifications: changes that people are told, and have to be.
    pub notifications: u64,
    /// Of these, those of what was not so, or was to be kept from people. The product promises none.
    pub false_notifications: u64,
    /// What nobody was told although it had lasted. The product promises none.
    pub missed_notifications: u64,
    /// What was told twice, or of one that flaps as if it did not. The product promises none.
    pub doubled_notifications: u64,
}

impl SimulationResult {
    /// Takes another world in.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            seed: _,
            publisher_hours,
            signs_of_life,
            just_in_time,
            stalls,
            cuts,
            hold_ups,
            questions,
            late,
            too_late,
            false_verdicts,
            first_false,
            deaths,
            missed_deaths,
            first_missed,
            fleets,
            restarts,
            host_losses,
            mass_silences,
            flaps,
            rivals,
            windows,
            notifications,
            false_notifications,
            missed_notifications,
            doubled_notifications,
        } = other;
        for (sum, more) in [
            (&mut self.publisher_hours, publisher_hours),
            (&mut self.signs_of_life, signs_of_life),
            (&mut self.just_in_time, just_in_time),
            (&mut self.stalls, stalls),
            (&mut self.cuts, cuts),
            (&mut self.hold_ups, hold_ups),
            (&mut self.questions, questions),
            (&mut self.late, late),
            (&mut self.too_late, too_late),
            (&mut self.false_verdicts, false_verdicts),
            (&mut self.deaths, deaths),
            (&mut self.missed_deaths, missed_deaths),
            (&mut self.fleets, fleets + 1),
            (&mut self.restarts, restarts),
            (&mut self.host_losses, host_losses),
            (&mut self.mass_silences, mass_silences),
            (&mut self.flaps, flaps),
            (&mut self.rivals, rivals),
            (&mut self.windows, windows),
            (&mut self.notifications, notifications),
            (&mut self.false_notifications, false_notifications),
            (&mut self.missed_notifications, missed_notifications),
            (&mut self.doubled_notifications, doubled_notifications),
        ] {
            *sum += more;
        }
        self.first_false = self.first_false.take().or(first_false);
        self.first_missed = self.first_missed.take().or(first_missed);
    }

    /// How much of what is promised never to happen has happened.
    #[must_use]
    pub const fn wrong(&self) -> u64 {
        self.false_verdicts
            + self.missed_deaths
            + self.false_notifications
            + self.missed_notifications
            + self.doubled_notifications
    }
}

impl fmt::Display for SimulationResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publisher_hours, signs_of_life, just_in_time, stalls, cuts, hold_ups, deaths, .. } = self;
        let Self { fleets, restarts, host_losses, mass_silences, flaps, rivals, windows, notifications, .. } = self;
        write!(
            f,
            "{publisher_hours} simulated publisher-hours (seed {}): {signs_of_life} signs of life, {just_in_time} just in \
             time, {stalls} stalls of the monitor, {cuts} losses of its broker, {hold_ups} hold-ups by its disk, {deaths} \
             deaths; in {fleets} of its worlds a small fleet: {restarts} restarts of the monitor, {host_losses} lost hosts, \
             {mass_silences} failed switches, {flaps} that flapped, {rivals} impostors, {windows} windows of maintenance, \
             {notifications} notifications; {} false verdicts, {} missed; {} false notifications, {} missed, {} doubled",
            self.seed,
            self.false_verdicts,
            self.missed_deaths,
            self.false_notifications,
            self.missed_notifications,
            self.doubled_notifications
        )?;
        self.first_false.as_ref().map_or(Ok(()), |first| write!(f, "; the first false one: {first}"))?;
        self.first_missed.as_ref().map_or(Ok(()), |first| write!(f, "; the first missed one: {first}"))
    }
}
