//! What an operator does: a backup of a monitor that runs, put back, where what came after it is named lost and nothing else
//! is wrong; and the page for a report.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::path::Path;

use support::eventually;
use support::heartwatch::{Finished, PATIENCE, RunOptions, Running, finished, fixture};

async fn heartwatch(directory: &Path, arguments: &[&str]) -> Finished {
    finished(directory, arguments, PATIENCE).await
}

async fn stored(monitor: &Running, at_least: u64) -> u64 {
    eventually("readings are stored", PATIENCE, async || monitor.ledger().await.total.stored >= at_least).await;
    monitor.ledger().await.total.stored
}

#[tokio::test]
async fn what_came_after_a_backup_is_named_lost_when_it_is_put_back() {
    let csv = fixture("light-1.csv");
    let config = format!("[[publisher]]\nid = 'light'\ncsv = '{}'\ninterval = '5ms'\n", csv.display());
    let mut monitor = Running::start(RunOptions { config, ..RunOptions::default() }).await;
    let directory = monitor.directory().to_owned();
    let backed_up = stored(&monitor, 50).await;

    let done = heartwatch(&directory, &["backup", "copy"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("heartwatch restore copy"), "{}", done.stdout);
    let again = heartwatch(&directory, &["backup", "copy"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("is not empty"), "{again:?}");
    stored(&monitor, backed_up + 200).await;
    let in_use = heartwatch(&directory, &["restore", "copy"]).await;
    assert!(in_use.code == Some(1) && in_use.stderr.contains("in use by process"), "{in_use:?}");

    monitor.program.signal(rustix::process::Signal::TERM);
    assert!(monitor.program.exit(PATIENCE).await.success());
    let done = heartwatch(&directory, &["restore", "copy"]).await;
    assert!(done.code == Some(0) && done.stdout.contains("data.before-restore-"), "{done:?}");

    monitor.restart().await;
    eventually("what is gone is named", PATIENCE, async || monitor.ledger().await.total.lost >= 150).await;
    let before = monitor.ledger().await.total;
    assert!(before.stored < backed_up + 200, "{before:?}");
    stored(&monitor, before.stored + 50).await;
    eventually("nothing is missing", PATIENCE, async || monitor.ledger().await.total.missing == 0).await;
    let counted = heartwatch(&directory, &["ledger", "--reconcile", "--url", monitor.page()]).await;
    assert_eq!(counted.code, Some(0), "{}{}", counted.stdout, counted.stderr);
}

#[tokio::test]
async fn the_page_for_a_report_names_what_is_wrong_and_nothing_secret() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[mqtt]\nurl = 'mqtt://127.0.0.1:1'\nuser = 'u'\npassword_file = 'password'\n[influx]\n\
                  url = 'http://127.0.0.1:1'\n[[notify]]\nname = 'chat'\nwebhook = 'http://127.0.0.1:1/hunter2'\n";
    std::fs::write(directory.path().join("password"), "hunter2\n").unwrap();
    std::fs::write(directory.path().join("heartwatch.toml"), config).unwrap();
    std::fs::create_dir(directory.path().join("data")).unwrap();
    std::fs::write(directory.path().join("data/journal.sqlite.damaged-1"), "x").unwrap();
    let said = heartwatch(directory.path(), &["doctor", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in
        ["**127.0.0.1:1: ", "InfluxDB", "webhook", "journal.sqlite.damaged-1", "none answers", "4 things are wrong"]
    {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{said:?}");

    let monitor = Running::start(RunOptions::default()).await;
    let said = heartwatch(monitor.directory(), &["doctor", "--url", monitor.page()]).await;
    assert!(
        said.code == Some(0) && said.stdout.contains("answers at") && said.stdout.contains("Nothing is wrong."),
        "{said:?}"
    );
}
