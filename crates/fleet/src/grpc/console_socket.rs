//! The socket of a server's console: only its own user, and root, can say something there.
//!
//! It is a file in a folder of that user's, named after the port where agents connect, so that whoever knows the port finds it:
//! `$RUNTIME_DIRECTORY` (systemd's `RuntimeDirectory=`), else `$XDG_RUNTIME_DIR/heartwatch`, else
//! `/tmp/heartwatch-UID`. The mode of the socket is 0600 and that of a folder that we make 0700; in any case who connects
//! is asked of the system, and another user is refused. A proxy on this host that speaks for others reaches no file.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::{Stream, stream};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

use heartwatch_system::connections::ACCEPT_PAUSE;

/// Where systemd puts it when its unit says `RuntimeDirectory=heartwatch`.
const SYSTEM_FOLDER: &str = "/run/heartwatch";
const ROOT: u32 = 0;

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server has it.
    #[error("another server's console answers at {}: end that server, or listen on another port", .0.display())]
    Taken(PathBuf),
    /// Others could put something else there.
    #[error("{} belongs to another user, or others can write to it: remove it, or set XDG_RUNTIME_DIR to a folder of your own", .0.display())]
    Foreign(PathBuf),
    /// The system does not want it.
    #[error("cannot make {}: {reason}", .path.display())]
    System {
        /// The socket, or its folder.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where sockets of this user are, the first one where a server makes its own.
fn folders() -> Vec<PathBuf> {
    // several ones stand there with colons between them
    let by_systemd = std::env::var("RUNTIME_DIRECTORY").ok();
    let by_systemd = by_systemd.and_then(|folders| folders.split(':').next().map(PathBuf::from));
    let of_user = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("heartwatch"));
    let fallback = PathBuf::from(format!("/tmp/heartwatch-{}", geteuid().as_raw()));
    // for a unit with a user of its own it may be a link
    let by_systemd = by_systemd.filter(|folder| folder.is_absolute());
    let by_systemd = by_systemd.map(|folder| fs::canonicalize(&folder).unwrap_or(folder));
    by_systemd.into_iter().chain(of_user).chain([fallback]).collect()
}

fn name(port: u16) -> String {
    format!("console-{port}.sock")
}

/// The socket of the server whose agents connect to this port; the one that was looked for first when there is none.
#[must_use]
pub fn find(port: u16) -> PathBuf {
    let mut folders = folders();
    let first = folders.first().cloned().unwrap_or_default();
    // what another user has put there is no server of ours
    folders.retain(|folder| is_private(folder));
    // nobody but root makes it
    folders.push(PathBuf::from(SYSTEM_FOLDER));
    let mut sockets = folders.into_iter().map(|folder| folder.join(name(port)));
    let found = sockets.find(|socket| fs::symlink_metadata(socket).is_ok_and(|file| file.file_type().is_socket()));
    found.unwrap_or_else(|| first.join(name(port)))
}

/// Whether it is a folder of our user's, and nobody else can write to it.
fn is_private(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

/// A console's socket; its file is gone with it.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket of ours, until this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // a later server may have made it anew, or an orderly system removed it
        let _ = fs::remove_file(&self.0);
    }
}

impl ConsoleSocket {
    /// Makes it, for the server whose agents connect to this port.
    ///
    /// # Errors
    /// [`SocketError`], which names the file.
    pub async fn listen(port: u16) -> Result<Self, SocketError> {
        let folder = folders().into_iter().next().unwrap_or_default();
        Self::listen_in(&folder, port).await
    }

    async fn listen_in(folder: &Path, port: u16) -> Result<Self, SocketError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |reason| SocketError::System { path, reason }
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(folder)(error)),
            _ => {}
        }
        if !is_private(folder) {
            return Err(SocketError::Foreign(folder.to_owned()));
        }
        let path = folder.join(name(port));
        if UnixStream::connect(&path).await.is_ok() {
            return Err(SocketError::Taken(path));
        }
        // left by one that was killed
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(&path)(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(fail(&path))?;
        let file = SocketFile(path);
        fs::set_permissions(&file.0, Permissions::from_mode(0o600)).map_err(fail(&file.0))?;
        Ok(Self { listener, file })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// The connections of those who may say something, and the file, which is to be kept as long as they are taken.
    pub(super) fn incoming(self) -> (SocketFile, impl Stream<Item = io::Result<UnixStream>>) {
        let Self { listener, file } = self;
        let connections = stream::unfold(listener, |listener| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if is_ours(&stream) => return Some((Ok(stream), listener)),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the console cannot be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        (file, connections)
    }
}

/// Whether our own user is at the other end, or root.
fn is_ours(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if may_speak(peer.uid(), geteuid().as_raw()) => true,
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "another user wanted to speak at the console and was refused"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "who speaks at the console cannot be found out, and was refused");
            false
        }
    }
}

const fn may_speak(peer: u32, ours: u32) -> bool {
    peer == ours || peer == ROOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_its_user_alone_and_gone_with_its_server() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("heartwatch");
        let socket = ConsoleSocket::listen_in(&folder, 50_052).await.unwrap();
        let path = socket.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let taken = ConsoleSocket::listen_in(&folder, 50_052).await.unwrap_err().to_string();
        assert!(taken.contains("console-50052.sock") && taken.contains("another port"), "{taken}");
        drop(socket);
        assert!(!path.exists());
        // one that was killed leaves its file
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        ConsoleSocket::listen_in(&folder, 50_052).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_others_can_write_to_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let refused = ConsoleSocket::listen_in(directory.path(), 1).await.unwrap_err().to_string();
        assert!(
            refused.contains(directory.path().to_str().unwrap()) && refused.contains("XDG_RUNTIME_DIR"),
            "{refused}"
        );
    }

    #[test]
    fn the_own_user_and_root_may_speak_and_nobody_else() {
        assert!(may_speak(1_000, 1_000) && may_speak(0, 1_000) && may_speak(0, 0));
        assert!(!may_speak(1_001, 1_000) && !may_speak(1_000, 0));
    }
}
