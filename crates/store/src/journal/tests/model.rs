//! The journal under random histories with a crash between any two steps, against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::disk::beside;

#[derive(Debug, Clone)]
enum Step {
    /// Readings of one of three publishers, in any order, with copies.
    Append(u8, Vec<Sequence>),
    /// Delivers some blocks; the flag: the sink has them, and the monitor dies before it says so.
    Deliver(u64, bool),
    Split,
    /// Closed in order and opened again.
    Reopen,
    /// The files as they are on disk now.
    Crash,
    /// The files as they are when the last commit had not reached the disk whole: its part of the log is cut.
    TornCommit(Vec<Sequence>, prop::sample::Index),
    DiskFull(Vec<Sequence>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let numbers = || prop::collection::vec(1..40_u64, 1..12);
    let step = prop_oneof![
        8 => (0..3_u8, numbers()).prop_map(|(who, numbers)| Step::Append(who, numbers)),
        3 => (1..30_u64, any::<bool>()).prop_map(|(rows, dies)| Step::Deliver(rows, dies)),
        1 => Just(Step::Split),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
        2 => (numbers(), any::<prop::sample::Index>()).prop_map(|(numbers, cut)| Step::TornCommit(numbers, cut)),
        1 => numbers().prop_map(Step::DiskFull),
    ];
    prop::collection::vec(step, 1..25)
}

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Default)]
struct Model {
    /// Confirmed by a resolved append.
    confirmed: BTreeSet<(usize, Sequence)>,
    /// Rows that the sink has, with how often it took them.
    sink: BTreeMap<String, u64>,
    /// Rows that the journal was told are delivered.
    told: BTreeSet<String>,
}

struct Run {
    directory: tempfile::TempDir,
    journal: Journal,
    model: Model,
}

impl Run {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(config(directory.path())).unwrap();
        Self { directory, journal, model: Model::default() }
    }

    /// The files as they are, in a new directory; the old journal goes on alone and is forgotten.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let from = beside(&config(self.directory.path()).path, suffix);
            if from.exists() {
                fs::copy(&from, beside(&config(copy.path()).path, suffix)).unwrap();
            }
        }
        copy
    }

    async fn continue_in(&mut self, directory: tempfile::TempDir) {
        let (journal, recovery) = Journal::open(config(directory.path())).unwrap();
        assert_eq!(recovery.damage, Vec::<String>::new());
        self.journal.close().await;
        (self.journal, self.directory) = (journal, directory);
    }

    async fn append(&mut self, who: usize, numbers: &[Sequence]) {
        let state = append(&self.journal, vec![readings(NAMES[who], numbers.iter().copied())]).await;
        self.model.confirmed.extend(numbers.iter().map(|&number| (who, number)));
        for number in 1..=state[0].highest {
            let safe = !state[0].gaps.iter().any(|&(first, last)| (first..=last).contains(&number));
            assert_eq!(safe, self.model.confirmed.contains(&(who, number)), "{number} in {state:?}");
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append(who, numbers) => self.append(usize::from(who), &numbers).await,
            Step::Deliver(rows_max, dies) => {
                let batch = self.journal.next_batch(rows_max, 1 << 20).await.unwrap();
                for row in Rows::of(&batch.lines) {
                    let row = String::from_utf8(row.to_vec()).unwrap();
                    assert!(!self.model.told.contains(&row), "delivered again: {row}");
                    *self.model.sink.entry(row.clone()).or_default() += 1;
                    if !dies {
                        self.model.told.insert(row);
                    }
                }
                if dies {
                    let copy = self.copy();
                    self.continue_in(copy).await;
                } else {
                    self.journal.delivered(batch.block_ids, Vec::new()).await.unwrap();
                }
            }
            Step::Split => self.journal.split_lanes().await,
            Step::Reopen => {
                self.journal.close().await;
                let (journal, recovery) = Journal::open(config(self.directory.path())).unwrap();
                assert_eq!(recovery.damage, Vec::<String>::new());
                self.journal = journal;
            }
            Step::Crash => {
                let copy = self.copy();
                self.continue_in(copy).await;
            }
            Step::TornCommit(numbers, cut) => self.torn_commit(&numbers, cut).await,
            Step::DiskFull(numbers) => {
                self.journal.execute("PRAGMA max_page_count = 1").await.unwrap();
                // a small one can still fit into a free page: then it is confirmed as any other
                if self.journal.append(Arc::new(vec![readings("a", numbers.iter().copied())])).await.is_ok() {
                    self.model.confirmed.extend(numbers.iter().map(|&number| (0, number)));
                }
                self.journal.execute("PRAGMA max_page_count = 1000000").await.unwrap();
            }
        }
        self.check().await;
    }

    /// A commit of which only the first part of its frames reached the disk, and which was not confirmed.
    async fn torn_commit(&mut self, numbers: &[Sequence], cut: prop::sample::Index) {
        let path = config(self.directory.path()).path;
        let log_bytes = || fs::metadata(beside(&path, "-wal")).map_or(0, |file| usize::try_from(file.len()).unwrap());
        let (file_before, log_before) = (fs::read(&path).unwrap(), log_bytes());
        append(&self.journal, vec![readings("a", numbers.iter().copied())]).await;
        let copy = self.copy();
        let log = beside(&config(copy.path()).path, "-wal");
        let log_after = fs::read(&log).unwrap();
        if fs::read(&path).unwrap() != file_before || log_after.len() <= log_before {
            // the log was folded into the file meanwhile: not a state that one cut can show
            self.model.confirmed.extend(numbers.iter().map(|&number| (0, number)));
            return;
        }
        let kept = log_before + cut.index(log_after.len() - log_before);
        fs::write(&log, &log_after[..kept]).unwrap();
        self.continue_in(copy).await;
    }

    /// Every confirmed reading is here or in the sink, exactly once, and the books balance.
    async fn check(&self) {
        let waiting_rows = waiting(&self.journal).await;
        let mut here: BTreeSet<String> = BTreeSet::new();
        for row in waiting_rows {
            assert!(!self.model.told.contains(&row), "waits again after its delivery: {row}");
            assert!(here.insert(row.clone()), "twice: {row}");
        }
        for &(who, number) in &self.model.confirmed {
            let row = String::from_utf8(line(NAMES[who], number)).unwrap();
            assert!(here.contains(&row) || self.model.told.contains(&row), "lost: {row}");
        }
        for ledger in self.journal.accounts().await.unwrap() {
            assert!(ledger.account.balances(), "{ledger:?}");
            let who = NAMES.iter().position(|name| *name == ledger.publisher.as_str()).unwrap();
            let confirmed = self.model.confirmed.iter().filter(|(owner, _)| *owner == who).count() as u64;
            assert_eq!(ledger.account.received, confirmed, "{ledger:?}");
            let tag = format!("publisher={}", NAMES[who]);
            let told = self.model.told.iter().filter(|row| row.contains(&tag)).count() as u64;
            assert_eq!(ledger.account.stored, told, "{ledger:?}");
            assert_eq!(ledger.account.lost, 0);
        }
    }
}

/// Without a sink and with little room: who sends how many, and whether the journal is opened again or dies then.
fn stored_here_steps() -> impl Strategy<Value = Vec<(usize, u64, u8)>> {
    prop::collection::vec((0..3_usize, 1..60_u64, 0..12_u8), 1..60)
}

const LITTLE_ROOM: u64 = 12_000;

async fn what_is_stored_here_is_in_the_file(steps: Vec<(usize, u64, u8)>) {
    let little = |directory: &Path| JournalConfig { bytes_max: LITTLE_ROOM, has_sink: false, ..config(directory) };
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(little(directory.path())).unwrap();
    let mut run = Run { directory, journal, model: Model::default() };
    let mut sent = [0; 3];
    for (who, count, what) in steps {
        let first = sent[who] + 1;
        sent[who] += count;
        let state = append(&run.journal, vec![readings(NAMES[who], first..=sent[who])]).await;
        assert_eq!((state[0].refused, state[0].through), (0, sent[who]));
        if what < 2 {
            let copy = run.copy();
            if what == 0 {
                run.journal.close().await;
            }
            let directory = if what == 0 { run.directory } else { copy };
            let (journal, recovery) = Journal::open(little(directory.path())).unwrap();
            assert_eq!(recovery.damage, Vec::<String>::new());
            run = Run { directory, journal, model: Model::default() };
        }
        assert!(run.journal.level().bytes <= LITTLE_ROOM);
        for (who, sent) in sent.iter().enumerate().filter(|(_, sent)| **sent > 0) {
            let account = account(&run.journal, NAMES[who]).await;
            let in_file = rows_in_file(run.directory.path(), NAMES[who]);
            assert_eq!((account.received, account.stored, account.expired), (*sent, in_file, sent - in_file));
            // a row takes 60 bytes and its place in an index, and a share is a sixth of the room
            assert!(in_file == *sent || in_file >= 16, "less than its share: {account:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_makes_room_is_counted_and_nobody_loses_what_is_within_its_share(steps in stored_here_steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(what_is_stored_here_is_in_the_file(steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn confirmed_readings_survive_a_crash_between_any_two_steps(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::start();
            for step in steps {
                run.step(step).await;
            }
            deliver_all(&run.journal).await;
        });
    }
}
