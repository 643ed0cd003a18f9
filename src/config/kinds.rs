//! Kinds of values that many keys have, and what a key has in the end.

use std::path::PathBuf;
use std::time::Duration;

use heartwatch_domain::restart::RestartPolicy;

use super::document::Given;
use super::reader::{Origin, Reader, Scope, Sourced};
use heartwatch_formats::values;
use heartwatch_ports::credentials::{KeyPair, Secret};

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

/// What several parts read in the same way.
impl<'a> Reader<'a> {
    /// The waits between attempts, in order.
    pub(super) fn backoff(&mut self, scope: &Scope<'a>, default: (Duration, Duration)) -> (Duration, Duration) {
        let min = self.read(scope, "backoff_min", None, positive_duration);
        let max = self.read(scope, "backoff_max", None, positive_duration);
        let (low, high) =
            (min.as_ref().map_or(default.0, |min| min.value), max.as_ref().map_or(default.1, |max| max.value));
        if low > high
            && let Some(culprit) = max.or(min)
        {
            let message = "the shortest wait (backoff_min) is longer than the longest one (backoff_max)";
            self.mistake(&culprit.origin, &scope.key("backoff_max"), message);
        }
        (low, high)
    }

    /// The password, when there is a user for it. One in the environment may be meant for another program
    /// that runs in the same shell, so without a user it is only left alone.
    pub(super) fn password_of(
        &mut self,
        user: &Option<Sourced<String>>,
        password: Option<Sourced<Secret>>,
        table: &str,
        notes: &mut Vec<String>,
    ) -> Option<Sourced<Secret>> {
        match password? {
            password if user.is_some() => return Some(password),
            Sourced { origin: Origin::Variable(name), .. } => {
                notes.push(format!("{name} is not used, because {table}.user is not set"));
            }
            Sourced { origin, .. } => {
                self.mistake(&origin, &format!("{table}.password_file"), format!("is of no use without {table}.user"));
            }
        }
        None
    }

    /// A certificate and its key; one without the other is a mistake.
    pub(super) fn pair(
        &mut self,
        table: &Scope<'_>,
        certificate: Option<Sourced<PathBuf>>,
        key: Option<Sourced<PathBuf>>,
    ) -> Option<KeyPair> {
        match (&certificate, &key) {
            (Some(file), None) => {
                self.mistake(&file.origin, &table.key("client_certificate_file"), "needs client_key_file, too");
            }
            (None, Some(file)) => {
                self.mistake(&file.origin, &table.key("client_key_file"), "needs client_certificate_file, too");
            }
            _ => {}
        }
        let (certificate_file, key_file) = (certificate.value()?, key.value()?);
        self.note_readable(table, "client_key_file", &key_file);
        Some(KeyPair { certificate_file, key_file })
    }

    /// Remembers that a value asks for another one that is missing.
    pub(super) fn missing_for<T>(&mut self, value: &Sourced<T>, key: &str, message: String) {
        self.mistake(&value.origin, key, message);
    }
}

/// A flag's value with its name.
pub(super) fn named<T: Clone>(flag: &'static str, value: &Option<T>) -> Option<(&'static str, T)> {
    value.clone().map(|value| (flag, value))
}
