//! Data directories of released versions, kept for ever: today's program opens each, loses nothing, and calls nothing damaged. A file
//! of a version that is newer than the program is refused with a sentence, and stays as it is.
//!
//! `tests/data/VERSION` was written by that version: 20 readings of `light` and 7 of `gone` were confirmed, and 5 more of `light` wait in its outbox.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, command, fixture};
use support::{eventually, free_port};
use tempfile::TempDir;

/// The data directories of every version.
fn versions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!found.is_empty());
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(path, to).map(|_| ()).unwrap() }
    }
}

fn with_data_of(version: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(version, &directory.path().join("data"));
    directory
}

#[tokio::test]
async fn the_data_of_every_version_is_opened_and_nothing_of_it_is_lost() {
    for version in versions() {
        let monitor = Running::start_in(with_data_of(&version), RunOptions::default()).await;
        let csv = fixture("light-1.csv");
        let mut publish = command(monitor.directory());
        publish.args([
            "publish",
            "--id",
            "light",
            "--interval",
            "0",
            "--limit",
            "1",
            "--mqtt",
            monitor.mqtt_url(),
            "--csv",
        ]);
        publish.arg(csv);
        assert!(Program::start(publish).exit(PATIENCE).await.success());
        let shown = version.display();
        eventually(&format!("what waited in the outbox of {shown} is stored"), PATIENCE, async || {
            monitor.ledger().await.total.stored == 20 + 7 + 5 + 1
        })
        .await;
        let (ledger, status) = (monitor.ledger().await, monitor.status().await);
        assert_eq!((ledger.total.lost, ledger.total.missing, status.damage.total), (0, 0, 0), "{shown}: {status:?}");
        let gone = monitor.explain("gone").await;
        assert_eq!(gone.publisher.verdict.to_string(), "ended", "{shown}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_with_a_sentence_and_stays() {
    for file in ["journal.sqlite", "notifications.sqlite"] {
        let directory = with_data_of(versions().first().unwrap());
        let path = directory.path().join("data").join(file);
        let newer = "CREATE TABLE of_tomorrow (x); PRAGMA user_version = 99";
        Connection::open(&path).unwrap().execute_batch(newer).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut run = command(directory.path());
        run.args(["run", "--web", "off", "--mqtt-listen", &format!("127.0.0.1:{}", free_port())]);
        let mut run = Program::start(run);
        let status = run.exit(PATIENCE).await;
        let said = run.stderr();
        assert!(
            status.code() == Some(1) && said.contains("has version 99") && said.contains("use a newer heartwatch"),
            "{said}"
        );
        assert!(std::fs::read(&path).unwrap() == before, "{file} was changed");
    }
}
