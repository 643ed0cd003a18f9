//! Who may log in: a file with a line for each user, `NAME:ROLE:HASH`, where the hash is argon2id in the
//! PHC string format. `heartwatch web-user NAME` makes such a line.

use std::fmt;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use serde::{Deserialize, Serialize};

/// Most users in a file.
const USERS_MAX: usize = 1_000;
/// Longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Shortest password, in characters.
const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password, in bytes.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Look at everything, change nothing.
    ReadOnly,
    /// Probe and restart, too.
    Operator,
}

impl Role {
    /// The name in files and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read-only" => Ok(Self::ReadOnly),
            "operator" => Ok(Self::Operator),
            _ => Err(format!("'{text}' is no role: read-only or operator")),
        }
    }
}

/// Somebody who may log in with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    hash: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({}, {})", self.name, self.role)
    }
}

/// Reads a users file. Empty lines and lines that start with `#` are left out.
///
/// # Errors
/// The number of the line and what would be right. No part of a hash is repeated.
pub fn parse_users(text: &str) -> Result<Vec<User>, String> {
    let mut users: Vec<User> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let user = parse_line(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        if users.iter().any(|other| other.name == user.name) {
            return Err(format!("line {}: the user '{}' is there twice", number + 1, user.name));
        }
        if users.len() >= USERS_MAX {
            return Err(format!("has more than {USERS_MAX} users"));
        }
        users.push(user);
    }
    if users.is_empty() {
        return Err("has no user: add a line that `heartwatch web-user NAME` prints".to_owned());
    }
    Ok(users)
}

fn parse_line(line: &str) -> Result<User, String> {
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("is not NAME:ROLE:HASH, as `heartwatch web-user NAME` prints it".to_owned());
    };
    check_name(name)?;
    let parsed = PasswordHash::new(hash).map_err(|_| "the hash cannot be read: make it with `heartwatch web-user`")?;
    if !parsed.algorithm.as_str().starts_with("argon2") {
        return Err("the hash is not argon2: make it with `heartwatch web-user`".to_owned());
    }
    Ok(User { name: name.to_owned(), role: role.parse()?, hash: hash.to_owned() })
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_alphanumeric() || "._-@".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
        return Err(format!("'{name}' is no user name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_', '-' or '@'"));
    }
    Ok(())
}

/// The line of a users file for this user and password; slow on purpose (argon2id).
///
/// # Errors
/// What is wrong with the name or the password.
pub fn user_line(name: &str, role: Role, password: &str) -> Result<String, String> {
    check_name(name)?;
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
        ));
    }
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|error| error.to_string())?;
    Ok(format!("{name}:{role}:{hash}"))
}

/// The role of a user whose password this is. It takes as long for a name that does not exist, so that
/// names cannot be found out by the time of the answer. Blocks for tens of milliseconds.
#[must_use]
pub(super) fn verify(users: &[User], name: &str, password: &str) -> Option<Role> {
    /// A hash that no password is known for.
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9i$m3h0zZ8X1nSAnyLC0KQ6m1J7v2wC4yq8h5Z0k2nV9sA";
    let user = users.iter().find(|user| user.name == name);
    let hash = PasswordHash::new(user.map_or(NOBODY, |user| user.hash.as_str())).ok()?;
    let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
    user.filter(|_| right).map(|user| user.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_made_lets_its_user_in_and_nobody_else() {
        let line = user_line("ada", Role::Operator, "correct horse").unwrap();
        assert!(line.starts_with("ada:operator:$argon2id$v=19$"), "{line}");
        let users = parse_users(&format!("# people\n\n{line}\n")).unwrap();
        assert_eq!(verify(&users, "ada", "correct horse"), Some(Role::Operator));
        assert_eq!(verify(&users, "ada", "correct horsf"), None);
        assert_eq!(verify(&users, "eve", "correct horse"), None);
        assert!(!format!("{users:?}").contains("argon2"));
        let twice = parse_users(&format!("{line}\n{line}")).unwrap_err();
        assert!(twice.contains("line 2") && twice.contains("twice"), "{twice}");
    }

    #[test]
    fn a_wrong_file_names_its_line_and_no_hash() {
        for (text, said) in [
            ("", "has no user"),
            ("ada", "line 1: is not NAME:ROLE:HASH"),
            ("\nada:king:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "line 2"),
            ("ada:operator:secret-in-clear", "line 1: the hash cannot be read"),
        ] {
            let error = parse_users(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret-in-clear"), "{error}");
        }
        assert!(user_line("a b", Role::Operator, "long enough").unwrap_err().contains("no user name"));
        assert!(user_line("ada", Role::Operator, "short").unwrap_err().contains("at least 8"));
    }

    #[test]
    fn the_hash_of_nobody_can_be_read_so_that_it_takes_its_time() {
        let started = tokio::time::Instant::now();
        assert_eq!(verify(&[], "nobody", "x"), None);
        assert!(started.elapsed().as_millis() >= 1, "it was not computed");
    }
}
