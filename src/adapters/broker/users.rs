//! The users of the broker: who is let in, and what a client may say and hear. They can change while it runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::formats::broker_user::Authority;
use crate::formats::users::verify;

/// Passwords that are computed at a time: each takes a core for tens of milliseconds.
const VERIFICATIONS_MAX: usize = 2;
/// Passwords that wait for that; a further client is refused, and tries again.
const WAITING_MAX: usize = 4_096;
/// A wrong password is answered so late.
const WRONG_PASSWORD_WAIT: Duration = Duration::from_secs(1);
/// Users whose right password is known again without its hash being computed: after a restart of the broker all come at once.
const KNOWN_MAX: usize = 10_000;

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

/// The users, where there are any; then everybody has to be one.
#[derive(Debug)]
pub(super) struct Users {
    authority: RwLock<Option<Arc<Authority>>>,
    places: Semaphore,
    waiting: Semaphore,
    /// Digests of passwords that were right, with a key that nobody knows.
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
            places: Semaphore::new(VERIFICATIONS_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            known: Mutex::default(),
            key: is_random.then_some(key),
        }
    }

    /// Others from now on. Who is no user any more is refused with the next thing that it says.
    pub(super) fn set(&self, authority: Option<Arc<Authority>>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = authority;
    }

    /// What users may say and hear; none where everybody may everything.
    pub(super) fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is the password of a user. A wrong one takes its time.
    pub(super) async fn log_in(&self, authority: &Arc<Authority>, name: &str, password: &[u8]) -> Login {
        let digest = self.digest(name, password);
        let is_known = digest.is_some_and(|digest| self.known().get(name) == Some(&digest));
        if is_known {
            return Login::Right;
        }
        let (Ok(_waiting), Ok(_place)) = (self.waiting.try_acquire(), self.places.acquire().await) else {
            return Login::Busy;
        };
        let (of, user, given) = (authority.clone(), name.to_owned(), password.to_owned());
        let role = tokio::task::spawn_blocking(move || verify(of.user(&user), &given)).await;
        if role.ok().flatten().is_none() {
            tokio::time::sleep(WRONG_PASSWORD_WAIT).await;
            return Login::Wrong;
        }
        if let Some(digest) = digest {
            let mut known = self.known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(name.to_owned(), digest);
        }
        Login::Right
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, [u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, name: &str, password: &[u8]) -> Option<[u8; 32]> {
        let mut digest = Sha256::new();
        digest.update(self.key?);
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name.as_bytes());
        digest.update(password);
        Some(digest.finalize().into())
    }
}
