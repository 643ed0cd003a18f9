//! Bugs that tests plant, to see that somebody notices.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The monitor does not notice that it stood still.
    Standstill,
    /// Nobody asks whether a whole host is silent.
    HostLoss,
    /// A crowd that falls silent is no reason for doubt.
    MassSilence,
    /// Flapping is never steady again.
    Flapping,
    /// What a maintenance window has kept from being told is not told at its end.
    Suppression,
    /// A restart forgets what was told of whom.
    Restart,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for as long as this runs, on this thread.
#[cfg(test)]
pub fn with<T>(mutant: Mutant, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(mutant));
    let result = run();
    PLANTED.set(None);
    result
}

/// Whether it is there: never in a program that is not a test.
#[cfg(test)]
pub(super) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

#[cfg(not(test))]
pub(super) const fn is_planted(_: Mutant) -> bool {
    false
}
