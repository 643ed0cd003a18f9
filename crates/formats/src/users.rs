//! A file of users: a line for each, `NAME:ROLE:HASH`, where the hash is argon2id in the PHC string format. Empty lines and lines
//! that start with `#` are left out.

use std::fmt::{self, Display};
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

/// Most users in a file.
const USERS_MAX: usize = 10_000;
/// Longest name of a user, in bytes.
const NAME_BYTES_MAX: usize = 96;
/// Shortest password, in characters.
const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// What users of a kind may do.
pub trait UserRole: Copy + Display + FromStr<Err = String> {
    /// The command that prints their lines.
    const COMMAND: &'static str;
}

/// Somebody who logs in with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct User<R> {
    /// As it is typed at the login.
    pub name: String,
    /// What it may do.
    pub role: R,
    hash: String,
}

impl<R: Display> fmt::Debug for User<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({}, {})", self.name, self.role)
    }
}

impl<R: UserRole> User<R> {
    /// The hash of its password, as it stands in the file.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether this is its password. Blocks for tens of milliseconds.
    #[must_use]
    pub fn has_password(&self, password: &[u8]) -> bool {
        is_of(&self.hash, password)
    }
}

/// Reads a file of users.
///
/// # Errors
/// The number of the line and what would be right. No part of a hash is repeated.
pub fn parse_users<R: UserRole>(text: &str) -> Result<Vec<User<R>>, String> {
    let mut users: Vec<User<R>> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let user = parse_line::<R>(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        if !names.insert(user.name.clone()) {
            return Err(format!("line {}: the user '{}' is there twice", number + 1, user.name));
        }
        if users.len() >= USERS_MAX {
            return Err(format!("has more than {USERS_MAX} users"));
        }
        users.push(user);
    }
    if users.is_empty() {
        return Err(format!("has no user: add a line that `heartwatch {} NAME` prints", R::COMMAND));
    }
    Ok(users)
}

fn parse_line<R: UserRole>(line: &str) -> Result<User<R>, String> {
    let command = R::COMMAND;
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("is not NAME:ROLE:HASH, as `heartwatch {command} NAME` prints it"));
    };
    check_name(name)?;
    let parsed =
        PasswordHash::new(hash).map_err(|_| format!("the hash cannot be read: make it with `heartwatch {command}`"))?;
    if !parsed.algorithm.as_str().starts_with("argon2") {
        return Err(format!("the hash is not argon2: make it with `heartwatch {command}`"));
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
pub fn user_line<R: UserRole>(name: &str, role: R, password: &str) -> Result<String, String> {
    check_name(name)?;
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
        ));
    }
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|error| error.to_string())?;
    Ok(format!("{name}:{role}:{hash}"))
}

/// The role of a user whose password this is. It takes as long for a name that does not exist, so that names cannot be found
/// out by the time of the answer. Blocks for tens of milliseconds.
#[must_use]
pub fn verify<R: UserRole>(user: Option<&User<R>>, password: &[u8]) -> Option<R> {
    let right = is_of(user.map_or(NOBODY, |user| user.hash.as_str()), password);
    user.filter(|_| right).map(|user| user.role)
}

/// A hash that no password is known for.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9i$m3h0zZ8X1nSAnyLC0KQ6m1J7v2wC4yq8h5Z0k2nV9sA";

fn is_of(hash: &str, password: &[u8]) -> bool {
    // what is longer than any password is not worth the time
    let password = password.get(..PASSWORD_BYTES_MAX).unwrap_or(password);
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker_user::Role;

    #[test]
    fn a_line_that_was_made_lets_its_user_in_and_nobody_else() {
        let line = user_line("ada", Role::Agent, "correct horse").unwrap();
        assert!(line.starts_with("ada:agent:$argon2id$v=19$"), "{line}");
        let users = parse_users::<Role>(&format!("# people\n\n{line}\n")).unwrap();
        assert_eq!(verify(users.first(), b"correct horse"), Some(Role::Agent));
        assert_eq!(verify(users.first(), b"correct horsf"), None);
        assert!(!format!("{users:?}").contains("argon2"));
        let twice = parse_users::<Role>(&format!("{line}\n{line}")).unwrap_err();
        assert!(twice.contains("line 2") && twice.contains("twice"), "{twice}");
    }

    #[test]
    fn a_wrong_file_names_its_line_and_no_hash() {
        for (text, said) in [
            ("", "has no user"),
            ("ada", "line 1: is not NAME:ROLE:HASH"),
            ("\nada:king:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "line 2"),
            ("ada:agent:secret-in-clear", "line 1: the hash cannot be read"),
        ] {
            let error = parse_users::<Role>(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret-in-clear"), "{error}");
        }
        assert!(user_line("a b", Role::Agent, "long enough").unwrap_err().contains("no user name"));
        assert!(user_line("ada", Role::Agent, "short").unwrap_err().contains("at least 8"));
    }

    #[test]
    fn the_hash_of_nobody_can_be_read_so_that_it_takes_its_time() {
        assert_eq!(verify::<Role>(None, b"x"), None);
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let error = Argon2::default().verify_password(b"x", &nobody).unwrap_err();
        assert!(error.to_string().contains("password"), "it was not computed: {error}");
    }
}
