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
    /// The first of them, in words.
    pub first_missed: Option<String>,
}

impl fmt::Display for SimulationResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publisher_hours, signs_of_life, just_in_time, stalls, cuts, hold_ups, deaths, .. } = self;
        write!(
            f,
            "{publisher_hours} simulated publisher-hours (seed {}): {signs_of_life} signs of life, {just_in_time} just in \
             time, {stalls} stalls of the monitor, {cuts} losses of its broker, {hold_ups} hold-ups by its disk, {deaths} \
             deaths; {} false verdicts, {} missed deaths",
            self.seed, self.false_verdicts, self.missed_deaths
        )?;
        self.first_false.as_ref().map_or(Ok(()), |first| write!(f, "; the first false one: {first}"))?;
        self.first_missed.as_ref().map_or(Ok(()), |first| write!(f, "; the first missed one: {first}"))
    }
}
