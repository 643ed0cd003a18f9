//! The layer of `HEARTWATCH_…` variables.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "HEARTWATCH_";

/// Keys whose flag has a shorter name than their table: the variable may be named after the flag, too.
const AFTER_THE_FLAG: [(&str, &str); 5] = [
    ("etcd.endpoints", "HEARTWATCH_ETCD"),
    ("kafka.brokers", "HEARTWATCH_KAFKA"),
    ("mqtt.url", "HEARTWATCH_MQTT"),
    ("watch.deadline", "HEARTWATCH_DEADLINE"),
    ("web.listen", "HEARTWATCH_WEB"),
];

/// Variables that are read elsewhere: by the command line and by the tests.
pub(super) const READ_ELSEWHERE: [&str; 13] = [
    "HEARTWATCH_DESCENT",
    "HEARTWATCH_CONFIG",
    "HEARTWATCH_URL",
    "HEARTWATCH_TOKEN",
    "HEARTWATCH_TOKEN_FILE",
    "HEARTWATCH_REQUIRE_SERVICES",
    "HEARTWATCH_KAFKA_LIBS",
    "HEARTWATCH_SERVER",
    "HEARTWATCH_SERVER_LISTEN",
    "HEARTWATCH_SERVER_SOCKET",
    "HEARTWATCH_SERVER_CA_FILE",
    "HEARTWATCH_SERVER_CERTIFICATE_FILE",
    "HEARTWATCH_SERVER_KEY_FILE",
];

/// The variables that start with `HEARTWATCH_` and have a value. An empty one counts as not set,
/// because that is how shells and container files leave one out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
    }

    /// A variable's value.
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }

    /// The names of the variables that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(variables.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()).collect())
    }
}

/// The variables that set a key: named after it, and after its flag where that is shorter.
pub(super) fn variables_of(key: &str) -> Vec<String> {
    let mut names = vec![format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))];
    names.extend(AFTER_THE_FLAG.iter().filter(|(of, _)| *of == key).map(|(_, name)| (*name).to_owned()));
    names
}
