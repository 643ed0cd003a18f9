//! Kinds of values that many keys have, and what a key has in the end.

use std::time::Duration;

use heartwatch_domain::restart::RestartPolicy;

use super::document::Given;
use super::reader::{Origin, Sourced};
use heartwatch_formats::values;

pub(super) const RESTART: [(&str, RestartPolicy); 3] =
    [("on-failure", RestartPolicy::OnFailure), ("never", RestartPolicy::Never), ("always", RestartPolicy::Always)];

/// Every key that only a publisher with a source has, and where it stands.
pub(super) type FeedKeys = Vec<(&'static str, Option<Origin>)>;

pub(super) fn duration(given: Given<'_>) -> Result<Duration, String> {
    given.text("5s", values::duration)
}

pub(super) fn positive_duration(given: Given<'_>) -> Result<Duration, String> {
    given.text("5s", values::positive_duration)
}

pub(super) fn boolean(given: Given<'_>) -> Result<bool, String> {
    given.boolean()
}

pub(super) fn name(given: Given<'_>) -> Result<String, String> {
    given.text("name", values::name)
}

pub(super) fn origin<T>(sourced: &Option<Sourced<T>>) -> Option<Origin> {
    sourced.as_ref().map(|sourced| sourced.origin.clone())
}

pub(super) fn same_layer(one: &Origin, other: &Origin) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// What a key has in the end.
pub(super) trait Settled<T> {
    /// The value, or the default.
    fn or_default(self, default: T) -> T;
    /// The value, if any.
    fn value(self) -> Option<T>;
}

impl<T> Settled<T> for Option<Sourced<T>> {
    fn or_default(self, default: T) -> T {
        self.map_or(default, |sourced| sourced.value)
    }
    fn value(self) -> Option<T> {
        self.map(|sourced| sourced.value)
    }
}
