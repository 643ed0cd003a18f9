//! Paths, and secrets that stand in files of their own.

use std::path::{Path, PathBuf};

use super::document::{Given, read_at_most};
use super::environment::variables_of;
use super::kinds::same_layer;
use super::reader::{Reader, Scope, Sourced};
use heartwatch_formats::users::{User, UserRole, parse_users};
use heartwatch_ports::credentials::Secret;
use heartwatch_system::private_files::readable_by_everybody;

/// Longest password or token, in bytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;
/// Largest users file, in bytes.
const USERS_BYTES_MAX: u64 = 1024 * 1024;

impl<'a> Reader<'a> {
    /// A path; a relative one in the file starts at the file's directory.
    pub(super) fn path(
        &mut self,
        scope: &Scope<'a>,
        name: &str,
        flag: Option<(&'static str, PathBuf)>,
    ) -> Option<Sourced<PathBuf>> {
        let file = self.file();
        self.read(scope, name, flag, |given| {
            given.text("some/file", |text| {
                if text.is_empty() || text.contains('\0') {
                    return Err("is no path: write one, or leave the key out".to_owned());
                }
                Ok(if matches!(given, Given::Plain(_)) { PathBuf::from(text) } else { file.relative(text) })
            })
        })
    }

    /// A path to a file that can be read now.
    pub(super) fn existing_file(
        &mut self,
        scope: &Scope<'a>,
        name: &str,
        flag: Option<(&'static str, PathBuf)>,
    ) -> Option<Sourced<PathBuf>> {
        let path = self.path(scope, name, flag)?;
        let wrong = match std::fs::metadata(&path.value) {
            Err(error) => Some(format!("cannot read {}: {error}", path.value.display())),
            Ok(metadata) if metadata.is_dir() => Some(format!("{} is a directory, not a file", path.value.display())),
            // opening a pipe would wait for its other end
            Ok(metadata) if metadata.is_file() => match std::fs::File::open(&path.value) {
                Err(error) => Some(format!("cannot read {}: {error}", path.value.display())),
                Ok(_) if metadata.len() == 0 => Some(format!("{} is empty", path.value.display())),
                Ok(_) => None,
            },
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            self.mistake(&path.origin, &scope.key(name), wrong);
        }
        Some(path)
    }

    /// A secret: from the variable `…_NAME`, or from the file that the key `NAME_file` names.
    pub(super) fn secret(
        &mut self,
        scope: &Scope<'a>,
        name: &str,
        file_name: &str,
        flag: Option<(&'static str, PathBuf)>,
    ) -> Option<Sourced<Secret>> {
        let direct = self.read_variables(&variables_of(&scope.key(name)), |given| {
            given.text("", |text| secret_text(text).map_err(ToOwned::to_owned))
        });
        let path = self.path(scope, file_name, flag);
        match (direct, path) {
            (Some(direct), Some(path)) if same_layer(&direct.origin, &path.origin) => {
                let message =
                    format!("means the same as {}: set only one of them", variables_of(&scope.key(name)).join(" or "));
                self.mistake(&path.origin, &scope.key(file_name), message);
                Some(direct)
            }
            (Some(direct), Some(path)) if direct.origin > path.origin => Some(direct),
            (Some(direct), None) => Some(direct),
            (_, Some(path)) => self.secret_file(scope, file_name, path),
            (None, None) => None,
        }
    }

    /// The users of the file that this key names.
    pub(super) fn users<R: UserRole>(&mut self, scope: &Scope<'a>, name: &str) -> Option<Vec<User<R>>> {
        let path = self.path(scope, name, None)?;
        self.note_readable(scope, name, &path.value);
        let file = path.value.display();
        let text = read_at_most(&path.value, USERS_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{file} is not UTF-8 text")));
        match text.and_then(|text| parse_users(&text).map_err(|error| format!("{file} {error}"))) {
            Ok(users) => Some(users),
            Err(message) => {
                self.mistake(&path.origin, &scope.key(name), message);
                // there are some, only not readable: nothing else should complain that they are missing
                Some(Vec::new())
            }
        }
    }

    /// A secret that only a file may hold: the key names the file.
    pub(super) fn secret_in_file(&mut self, scope: &Scope<'a>, name: &str) -> Option<Sourced<Secret>> {
        let path = self.path(scope, name, None)?;
        self.secret_file(scope, name, path)
    }

    /// Says that everybody can read a file with a secret.
    pub(super) fn note_readable(&mut self, scope: &Scope<'_>, name: &str, path: &Path) {
        if let Some(what) = readable_by_everybody(path) {
            self.note(&scope.key(name), &what);
        }
    }

    fn secret_file(&mut self, scope: &Scope<'a>, name: &str, path: Sourced<PathBuf>) -> Option<Sourced<Secret>> {
        self.note_readable(scope, name, &path.value);
        let file = path.value.display();
        let text = read_at_most(&path.value, SECRET_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{file} is not UTF-8 text")));
        match text.and_then(|text| {
            secret_text(text.trim_end_matches(['\r', '\n'])).map_err(|error| format!("{file} {error}"))
        }) {
            Ok(value) => Some(Sourced { value, origin: path.origin }),
            Err(message) => {
                self.mistake(&path.origin, &scope.key(name), message);
                // there is one, only not readable: nothing else should complain that it is missing
                Some(Sourced { value: Secret::new(""), origin: path.origin })
            }
        }
    }
}

fn secret_text(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters");
    }
    Ok(Secret::new(text))
}
