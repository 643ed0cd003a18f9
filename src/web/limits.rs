//! How often anybody may ask. Whoever shows a credential has a pace of its own, so that nobody without one can use it up;
//! everybody else is counted by address.
//!
//! A right token always gets in, also from an address from which wrong ones are slowed down: whoever shares the
//! operator's address (this machine, a proxy, a company's network) could lock the operator out otherwise. Tokens have
//! to be long for it; passwords, which people choose, are slowed down, right or wrong.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::rate::Rate;
use heartwatch_domain::connections::client_network;
use heartwatch_domain::time::Monotonic;
use heartwatch_system::log_rate_limit::LogRateLimit;

/// Requests of one credential, and of one address without any: 50 a second, 200 at once (a page with its files and a fast
/// reader).
const REQUEST_EVERY: Duration = Duration::from_millis(20);
const REQUEST_BURST: u32 = 200;
/// Attempts of one address to log in as one user: ten a minute.
const LOGIN_EVERY: Duration = Duration::from_secs(6);
const LOGIN_BURST: u32 = 10;
/// Attempts of one address to log in, as whoever: thirty a minute. Each takes a core for tens of milliseconds.
const LOGINS_EVERY: Duration = Duration::from_secs(2);
const LOGINS_BURST: u32 = 30;
/// Names are told apart by so many bytes: no user has more.
const NAME_BYTES_MAX: usize = 64;
/// Lines about who was refused.
const LINES_MAX: u64 = 30;
const LINES_PERIOD: Duration = Duration::from_secs(60);

/// The paces of all clients.
#[derive(Debug)]
pub(super) struct Limits {
    credentials: Rate<String>,
    /// What everybody may have is counted apart, so that it takes nothing from the rest.
    files: Rate<IpAddr>,
    requests: Rate<IpAddr>,
    wrong_tokens: Rate<IpAddr>,
    logins: Rate<(IpAddr, String)>,
    logins_by_address: Rate<IpAddr>,
    lines: Mutex<LogRateLimit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            credentials: Rate::new(REQUEST_EVERY, REQUEST_BURST),
            files: Rate::new(REQUEST_EVERY, REQUEST_BURST),
            requests: Rate::new(REQUEST_EVERY, REQUEST_BURST),
            wrong_tokens: Rate::new(LOGIN_EVERY, LOGIN_BURST),
            logins: Rate::new(LOGIN_EVERY, LOGIN_BURST),
            logins_by_address: Rate::new(LOGINS_EVERY, LOGINS_BURST),
            lines: Mutex::new(LogRateLimit::new(LINES_MAX, LINES_PERIOD)),
        }
    }
}

/// How long it takes until there is room for one more.
pub(super) type Wait = Duration;

impl Limits {
    /// A request of somebody who has shown this credential.
    pub(super) fn known(&self, credential: &str, now: Monotonic) -> Result<(), Wait> {
        self.credentials.take(credential.to_owned(), now)
    }

    /// A request without a credential.
    pub(super) fn stranger(&self, client: IpAddr, wants_file: bool, now: Monotonic) -> Result<(), Wait> {
        let rate = if wants_file { &self.files } else { &self.requests };
        rate.take(client_network(client), now)
    }

    /// A request with a token that is wrong.
    pub(super) fn wrong_token(&self, client: IpAddr, now: Monotonic) -> Result<(), Wait> {
        self.wrong_tokens.take(client_network(client), now)
    }

    /// An attempt to log in with a password.
    pub(super) fn login(&self, client: IpAddr, user: &str, now: Monotonic) -> Result<(), Wait> {
        let network = client_network(client);
        self.logins.take((network, shortened(user).to_owned()), now)?;
        self.logins_by_address.take(network, now)
    }

    /// Logs that somebody was refused; not more often than a person can read.
    pub(super) fn say(&self, now: Monotonic, line: impl FnOnce()) {
        let Ok(mut lines) = self.lines.lock() else { return };
        if let Some(lines) = lines.left_out(now) {
            tracing::warn!(lines, "lines about credentials that were refused were left out");
        }
        if lines.admits(now) {
            line();
        }
    }
}

/// A name as long as one may be.
pub(super) fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn nobody_uses_up_the_pace_of_who_has_a_credential() {
        let limits = Limits::default();
        while limits.stranger(HERE, false, Monotonic::START).is_ok() {}
        while limits.stranger(HERE, true, Monotonic::START).is_ok() {}
        while limits.wrong_token(HERE, Monotonic::START).is_ok() {}
        while limits.known("ada", Monotonic::START).is_ok() {}
        assert_eq!(limits.known("token", Monotonic::START), Ok(()));
    }

    #[test]
    fn files_that_everybody_may_have_take_nothing_from_the_rest() {
        let limits = Limits::default();
        while limits.stranger(HERE, true, Monotonic::START).is_ok() {}
        assert_eq!(limits.stranger(HERE, false, Monotonic::START), Ok(()));
    }

    #[test]
    fn guessing_at_one_user_leaves_others_a_login_and_guessing_at_all_of_them_does_not() {
        let limits = Limits::default();
        let tried = (0..100).filter(|_| limits.login(HERE, "ada", Monotonic::START).is_ok()).count();
        assert_eq!(tried, 10);
        assert_eq!(limits.login(HERE, "eve", Monotonic::START), Ok(()));
        let tried = (0..100).filter(|n| limits.login(HERE, &format!("user-{n}"), Monotonic::START).is_ok()).count();
        assert_eq!(tried, 19);
        assert_eq!(limits.login(IpAddr::from([10, 0, 0, 1]), "ada", Monotonic::START), Ok(()));
    }

    #[test]
    fn a_name_is_cut_where_a_character_ends() {
        assert_eq!(shortened("ada"), "ada");
        assert_eq!(shortened(&"ä".repeat(100)), "ä".repeat(32));
    }
}
