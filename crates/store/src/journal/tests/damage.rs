//! Files that were torn or changed on disk: what is whole is saved, what isn't is named, and it starts.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::disk::beside;

const READINGS: u64 = 2_000;

/// A closed journal with undelivered readings of three publishers, in blocks of different sizes.
fn filled(directory: &Path) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(config(directory)).unwrap();
        let mut next = 1;
        for size in [1, 10, 500, 3, 1, 1, 1, 2, 700, 20].iter().cycle() {
            let last = (next + size - 1).min(READINGS);
            append(&journal, vec![readings("a", next..=last), readings("b", next..=last), readings("c", next..=last)])
                .await;
            next = last + 1;
            if next > READINGS {
                break;
            }
        }
        journal
            .record_changes(Arc::new(vec![change(1, "a", Verdict::Dead), change(2, "b", Verdict::Late)]))
            .await
            .unwrap();
        journal.close().await;
    });
    fs::read(config(directory).path).unwrap()
}

/// Opens a journal whose file has these bytes, and checks that nothing disappears without a word.
fn opens_and_accounts(bytes: &[u8]) -> Recovery {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    fs::write(&config.path, bytes).unwrap();
    let (journal, recovery) = Journal::open(config.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let rows = waiting(&journal).await;
        let distinct: BTreeSet<_> = rows.iter().collect();
        assert_eq!(distinct.len(), rows.len(), "a row is there twice");
        let whole: BTreeSet<_> = ["a", "b", "c"]
            .iter()
            .flat_map(|who| (1..=READINGS).map(|sequence| String::from_utf8(line(who, sequence)).unwrap()))
            .collect();
        let found = rows.iter().filter(|row| !row.starts_with("heartwatch_verdict")).collect::<Vec<_>>();
        for row in &found {
            assert!(whole.contains(*row), "not what was written: {row}");
        }
        for line in journal.accounts().await.unwrap() {
            assert!(line.account.balances(), "{line:?}");
        }
        if (found.len() as u64) < 3 * READINGS {
            assert!(!recovery.damage.is_empty(), "{} rows are gone without a word", 3 * READINGS - found.len() as u64);
        }
        // and it goes on
        let state = append(&journal, vec![readings("new", 1..=3)]).await;
        assert_eq!(state[0].through, 3);
        journal.close().await;
    });
    let (_, second) = Journal::open(config).unwrap();
    assert!(second.damage.is_empty(), "damage is found once: {:?}", second.damage);
    recovery
}

#[test]
fn an_undamaged_file_has_nothing_to_report() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(opens_and_accounts(&filled(directory.path())).damage, Vec::<String>::new());
}

#[test]
fn a_file_cut_at_any_length_starts() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = filled(directory.path());
    for length in [bytes.len() - 1, bytes.len() - 5_000, bytes.len() / 2, bytes.len() / 7, 5_000, 700, 90] {
        let recovery = opens_and_accounts(&bytes[..length]);
        assert!(recovery.damage.iter().any(|damage| damage.contains("damaged-1")), "{length}: {:?}", recovery.damage);
    }
    let half = opens_and_accounts(&bytes[..bytes.len() / 2]);
    assert!(
        half.undelivered_rows > READINGS / 2,
        "only {} rows of half a file: {:?}",
        half.undelivered_rows,
        half.damage
    );
}

#[test]
fn a_changed_row_is_taken_out_and_its_neighbours_stay() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = filled(directory.path());
    let row = line("b", 1_000);
    let at = bytes.windows(row.len()).position(|window| window == row).unwrap();
    bytes[at + 20] ^= 1;
    let recovery = opens_and_accounts(&bytes);
    assert_eq!(recovery.undelivered_rows, 3 * READINGS + 2 - 1);
    assert!(recovery.damage.iter().any(|damage| damage.starts_with("1 readings of b")), "{:?}", recovery.damage);
}

#[test]
fn what_changes_while_it_waits_is_found_when_its_turn_comes() {
    for (sql, rows) in [
        ("UPDATE blocks SET lines_checksum = lines_checksum + 1", 3 * READINGS + 2),
        (
            "UPDATE blocks SET lines = CAST(replace(CAST(lines AS TEXT), 'value=1000i ', 'value=1001i ') AS BLOB)",
            3 * READINGS - 1,
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
        assert_eq!(recovery.undelivered_rows, 3 * READINGS + 2);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            journal.execute(sql).await.unwrap();
            assert_eq!(waiting(&journal).await.len() as u64, rows, "{sql}");
            journal.close().await;
        });
    }
}

#[test]
fn a_crash_in_the_middle_of_a_salvage_is_finished_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path()).path;
    let bytes = filled(directory.path());
    // as it is after the log was moved aside and before the new file is in place
    fs::rename(&path, beside(&path, ".salvaged")).unwrap();
    fs::write(&path, &bytes[..3_000]).unwrap();
    let (_journal, recovery) = Journal::open(config(directory.path())).unwrap();
    assert_eq!((recovery.undelivered_rows, recovery.damage), (3 * READINGS + 2, vec![]));
    assert_eq!(fs::read(beside(&path, ".damaged-1")).unwrap().len(), 3_000);
}

#[test]
fn a_damaged_log_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(config(directory.path())).unwrap();
        for sequence in 1..=20 {
            append(&journal, vec![readings("a", [sequence])]).await;
        }
        for suffix in ["", "-wal"] {
            let from = beside(&config(directory.path()).path, suffix);
            fs::copy(&from, beside(&config(crashed.path()).path, suffix)).unwrap();
        }
    });
    let log = beside(&config(crashed.path()).path, "-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let (_journal, recovery) = Journal::open(config(crashed.path())).unwrap();
    assert!(recovery.damage.iter().any(|damage| damage.contains("commits from there on are lost")), "{recovery:?}");
    assert!((1..20).contains(&recovery.undelivered_rows), "{recovery:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_changed_bytes_are_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = filled(directory.path());
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            // the marks of whose file it is (offsets 60 and 68) are believed: changed, it is not our file
            if !(60..72).contains(&at) {
                bytes[at] ^= flip;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(1));
        }
        opens_and_accounts(&bytes);
    }
}
