//! The users of the broker: who is let in, and what a client may say and hear. They can change while it runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use heartwatch_formats::broker_user::{Authority, BrokerUser};
use heartwatch_formats::users::verify;

/// Passwords that wait to be computed, one at a time, because each takes a core for tens of milliseconds; a further client is
/// refused, and tries again.
const WAITING_MAX: usize = 4_096;
/// A wrong password is answered so late, and so long no other one is tried for that name from that address.
const WRONG_PASSWORD_WAIT: Duration = Duration::from_secs(1);
/// Users whose right password is known again without its hash being computed: after a restart of the broker all come at once.
const KNOWN_MAX: usize = 10_000;
/// Names and addresses that are remembered as having somebody who tries, before those with nobody are forgotten.
const LANES_MAX: usize = 1_000;

/// What came of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// It is right.
    Right,
    /// It is wrong, or there is no such user.
    Wrong,
    /// Too many wait.
    Busy,
}

/// Who tries a password: for which user, none for all names that no user has, and from where.
type Lane = (Option<String>, IpAddr);

/// The users, where there are any; then everybody has to be one.
#[derive(Debug)]
pub(super) struct Users {
    authority: RwLock<Option<Arc<Authority>>>,
    /// For the one password that is computed.
    place: Semaphore,
    waiting: Semaphore,
    /// One try at a time in each: whoever guesses keeps nobody else waiting but those of the same name and address.
    lanes: Mutex<HashMap<Lane, Arc<Semaphore>>>,
    /// Digests of logins that were right, with a key that nobody knows.
    known: Mutex<HashMap<String, [u8; 32]>>,
    /// None where the system has no randomness: then nothing is remembered.
    key: Option<[u8; 32]>,
}

impl Users {
    pub(super) fn new(authority: Option<Arc<Authority>>) -> Self {
        let mut key = [0; 32];
        let is_random = getrandom::fill(&mut key).is_ok();
        Self {
            authority: RwLock::new(authority),
            place: Semaphore::new(1),
            waiting: Semaphore::new(WAITING_MAX),
            lanes: Mutex::default(),
            known: Mutex::default(),
            key: is_random.then_some(key),
        }
    }

    /// Others from now on. Who is no user any more is refused with the next thing that it says.
    pub(super) fn set(&self, authority: Option<Arc<Authority>>) {
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = authority;
    }

    /// What users may say and hear; none where everybody may everything.
    pub(super) fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is the password of a user. A wrong one takes its time.
    pub(super) async fn log_in(&self, authority: &Arc<Authority>, name: &str, password: &[u8], from: IpAddr) -> Login {
        let user = authority.user(name);
        let digest = user.and_then(|user| self.digest(user, password));
        let is_known = || digest.is_some_and(|digest| locked(&self.known).get(name) == Some(&digest));
        if is_known() {
            return Login::Right;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Login::Busy };
        let lane = self.lane((user.map(|user| user.name.clone()), from));
        let Ok(_turn) = lane.acquire().await else { return Login::Busy };
        // another client of the same user may have come first
        if is_known() {
            return Login::Right;
        }
        let is_right = {
            let Ok(_place) = self.place.acquire().await else { return Login::Busy };
            let (of, user, given) = (authority.clone(), name.to_owned(), password.to_owned());
            let role = tokio::task::spawn_blocking(move || verify(of.user(&user), &given)).await;
            role.is_ok_and(|role| role.is_some())
        };
        if !is_right {
            tokio::time::sleep(WRONG_PASSWORD_WAIT).await;
            return Login::Wrong;
        }
        if let Some(digest) = digest {
            let mut known = locked(&self.known);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(name.to_owned(), digest);
        }
        Login::Right
    }

    fn lane(&self, lane: Lane) -> Arc<Semaphore> {
        let mut lanes = locked(&self.lanes);
        if lanes.len() >= LANES_MAX {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry(lane).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }

    /// Of a login as it stands in the file: with another password there it is another one.
    fn digest(&self, user: &BrokerUser, password: &[u8]) -> Option<[u8; 32]> {
        let mut digest = Sha256::new();
        digest.update(self.key?);
        for part in [user.name.as_bytes(), user.hash().as_bytes(), password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Some(digest.finalize().into())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use heartwatch_formats::broker_user::Role;
    use heartwatch_formats::envelope::Prefix;
    use heartwatch_formats::users::{parse_users, user_line};

    fn authority(password: &str) -> Arc<Authority> {
        let line = |name| user_line(name, Role::Publisher, password).unwrap();
        let users = parse_users::<Role>(&format!("{}\n{}", line("light-1"), line("light-2"))).unwrap();
        Arc::new(Authority::new(Prefix::default(), users))
    }

    /// Guesses for one user, and for one that there is not, from one address keep nobody waiting who is another user or elsewhere.
    #[tokio::test]
    async fn who_guesses_keeps_nobody_else_waiting() {
        let authority = authority("a long password");
        let users = Users::new(Some(authority.clone()));
        let [here, there] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        let log_in = |name, password: &'static str, from| users.log_in(&authority, name, password.as_bytes(), from);
        let guesses = async {
            let guess = |_| async { tokio::join!(log_in("light-1", "guess", here), log_in("nobody", "guess", here)) };
            futures_util::future::join_all((0..20).map(guess)).await
        };
        let others = async {
            tokio::task::yield_now().await;
            tokio::join!(log_in("light-2", "a long password", here), log_in("light-1", "a long password", there))
        };
        tokio::select! {
            biased;
            _ = guesses => panic!("twenty guesses of one name take longer than two who know their password"),
            logins = others => assert_eq!(logins, (Login::Right, Login::Right)),
        }
        // from then on it is known, whoever guesses
        assert_eq!(log_in("light-1", "a long password", here).await, Login::Right);
    }

    #[tokio::test]
    async fn a_changed_password_is_not_known_any_more() {
        let (before, after) = (authority("a long password"), authority("another password"));
        let users = Users::new(Some(before.clone()));
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(users.log_in(&before, "light-1", b"a long password", here).await, Login::Right);
        assert_eq!(users.log_in(&after, "light-1", b"a long password", here).await, Login::Wrong);
        assert_eq!(users.log_in(&after, "light-1", b"another password", here).await, Login::Right);
    }
}
