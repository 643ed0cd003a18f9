//! The disk itself: full at the start, or its bytes changed. It is said wherever a person looks, and counted by publisher.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use heartwatch_domain::verdict::Verdict;
use reqwest::get;

use super::{ARRIVAL, all_stored, ends_with_nothing_left, publisher};
use crate::support::eventually;
use crate::support::heartwatch::{PATIENCE, RunOptions, Running, finished};

/// A small file system in memory, mounted at a directory and full.
struct FullDisk(PathBuf);

impl FullDisk {
    /// None, with the reason said, where this user may not mount one.
    fn at(directory: &Path) -> Option<Self> {
        fs::create_dir_all(directory).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(directory).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: this user may not mount a small file system");
            return None;
        }
        let disk = Self(directory.to_owned());
        let full = fs::write(disk.filler(), vec![0; 33 << 20]).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{full}");
        Some(disk)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("holiday.mp4")
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // whoever still has a file open there keeps it until its end
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_named_and_the_monitor_judges_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = FullDisk::at(&directory.path().join("data")) else { return };
    let monitor =
        Running::start_in(directory, RunOptions { deadline: Duration::from_secs(10), ..RunOptions::default() }).await;
    let disk = disk; // goes before the directory that it is mounted in
    let elsewhere = tempfile::tempdir().unwrap();
    let mut light =
        publisher(elsewhere.path(), "light-1", monitor.mqtt_url(), &["--interval", "20ms", "--limit", "300"]);
    monitor.until("light-1", Verdict::Alive).await;
    monitor.program.says("journal.sqlite").await;
    let said = monitor.program.stderr();
    assert!(said.contains("holiday.mp4") && said.contains("are free") && said.contains("are needed"), "{said}");
    assert!(light.runs(), "nothing of it is confirmed yet");
    assert_eq!(monitor.publisher("light-1").await.unwrap().ledger.stored, 0);

    disk.make_room();
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 300).await;
}

#[tokio::test]
async fn a_publisher_whose_disk_is_full_at_the_start_says_so_and_begins_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = FullDisk::at(&directory.path().join("light-1")) else { return };
    let monitor = Running::start(RunOptions::default()).await;
    let mut light = publisher(directory.path(), "light-1", monitor.mqtt_url(), &["--interval", "0", "--limit", "300"]);
    light.says("light-1.sqlite cannot be used").await;
    light.says("are needed; free some").await;
    assert!(light.runs(), "it waits");
    disk.make_room();
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 300).await;
    drop(disk);
}

#[tokio::test]
async fn a_changed_byte_of_the_journal_is_said_wherever_a_person_looks_and_lost_by_name() {
    let mut monitor = Running::start(RunOptions { deadline: Duration::from_secs(60), ..RunOptions::default() }).await;
    let mut light =
        publisher(monitor.directory(), "light-1", monitor.mqtt_url(), &["--interval", "0", "--limit", "5000"]);
    ends_with_nothing_left(&mut light).await;
    all_stored(&monitor, 5_000).await;
    monitor.program.kill();
    let log = monitor.directory().join("data/journal.sqlite-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();

    monitor.restart().await;
    monitor.program.says("damaged on disk").await;
    let status = monitor.status().await;
    assert!(status.damage.total > 0, "{status:?}");
    let ledger = monitor.ledger().await;
    let total = ledger.total;
    assert!(ledger.balances && total.lost > 0 && total.produced == 5_000, "{ledger:?}");
    assert_eq!(ledger.losses.iter().map(|loss| loss.count).sum::<u64>(), total.lost, "{ledger:?}");
    assert!(ledger.losses.iter().all(|loss| loss.publisher.as_str() == "light-1"), "{ledger:?}");
    let errors = get(format!("{}/api/errors", monitor.page())).await.unwrap().text().await.unwrap();
    assert!(errors.contains("journal.sqlite"), "{errors}");
    let metrics = get(format!("{}/metrics", monitor.page())).await.unwrap().text().await.unwrap();
    let counted = metrics.lines().find(|line| line.starts_with("heartwatch_damage_total"));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
    let printed = finished(monitor.directory(), &["status", "--url", monitor.page()], PATIENCE).await;
    assert!(printed.stdout.contains("damaged on disk"), "{printed:?}");

    // the ledger says what is there: as many rows come out as it calls stored
    let out = monitor.directory().join("out.csv");
    let exported = finished(monitor.directory(), &["export", "--out", "out.csv"], ARRIVAL).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let text = fs::read_to_string(&out).unwrap();
    eventually("the ledger stays as it is", PATIENCE, async || monitor.ledger().await.total == total).await;
    let rows = text.lines().filter(|line| line.contains("light-1") && !line.contains("heartwatch_")).count();
    assert_eq!(rows as u64, total.stored, "{}", text.lines().take(3).collect::<Vec<_>>().join("\n"));
}
