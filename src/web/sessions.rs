//! Who is logged in. Sessions live in memory: a restart of the monitor ends them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::users::Role;
use heartwatch_domain::time::Monotonic;

/// Most sessions at once; beyond it the one that ends first is ended.
const SESSIONS_MAX: usize = 1_000;
/// How long a session lasts after it was last used.
const IDLE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The name; `token` for somebody who showed one.
    pub(super) user: String,
    pub(super) role: Role,
    /// What a changing request must show besides the cookie.
    pub(super) csrf: String,
    ends: Monotonic,
}

/// All sessions, by the secret in the cookie.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

/// 256 random bits as hexadecimal digits.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn random_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

impl Sessions {
    /// Begins a session; the answer is the cookie's secret.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn begin(
        &self,
        user: String,
        role: Role,
        now: Monotonic,
    ) -> Result<(String, Session), getrandom::Error> {
        let (id, csrf) = (random_secret()?, random_secret()?);
        let session = Session { user, role, csrf, ends: now + IDLE_MAX };
        if let Ok(mut sessions) = self.0.lock() {
            sessions.retain(|_, session| session.ends > now);
            if sessions.len() >= SESSIONS_MAX
                && let Some(first) = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(id, _)| id.clone())
            {
                sessions.remove(&first);
            }
            sessions.insert(id.clone(), session.clone());
        }
        Ok((id, session))
    }

    /// The session of a cookie, which lives on by this.
    pub(super) fn find(&self, id: &str, now: Monotonic) -> Option<Session> {
        let mut sessions = self.0.lock().ok()?;
        let session = sessions.get_mut(id).filter(|session| session.ends > now)?;
        session.ends = now + IDLE_MAX;
        Some(session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, id: &str) {
        if let Ok(mut sessions) = self.0.lock() {
            sessions.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_while_it_is_used_and_their_number_is_bounded() {
        let sessions = Sessions::default();
        let (id, begun) = sessions.begin("ada".to_owned(), Role::Operator, Monotonic::START).unwrap();
        assert_eq!(id.len(), 64);
        assert_ne!(id, begun.csrf);
        let later = Monotonic::START + Duration::from_secs(11 * 3_600);
        assert_eq!(sessions.find(&id, later).unwrap().user, "ada");
        assert!(sessions.find(&id, later + Duration::from_secs(11 * 3_600)).is_some());
        assert!(sessions.find(&id, later + Duration::from_secs(40 * 3_600)).is_none());
        assert!(sessions.find("guess", later).is_none());
        sessions.end(&id);
        assert!(sessions.find(&id, later).is_none());
        for _ in 0..SESSIONS_MAX + 5 {
            sessions.begin("ada".to_owned(), Role::ReadOnly, later).unwrap();
        }
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
    }
}
