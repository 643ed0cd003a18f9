//! Restarts between any two steps, and the balance of every account.

use proptest::prelude::*;

use std::collections::BTreeMap;

use super::*;
use crate::disk::beside;
use crate::layout;
use crate::seal;
use heartwatch_domain::notice::{AlarmState, GaveUp, RuleAlarm};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::rule::Severity;
use heartwatch_domain::verdict::{Change, Trigger, Verdict};

fn notice(number: i64) -> Notice {
    Notice::GaveUp(GaveUp {
        publisher: PublisherId::parse("light").unwrap(),
        host: HostName::parse("here").unwrap(),
        at: Timestamp::from_nanos(number * 1_000_000),
        summary: number.to_string(),
    })
}

/// The oldest ones, all of which are urgent.
const fn oldest(notices: u64) -> Selection {
    Selection { urgent: true, notices, notices_max: notices }
}

fn open(directory: &Path, last_epoch: u64) -> Notifications {
    let (store, damage) = Notifications::open(&directory.join("notifications.sqlite"), last_epoch).unwrap();
    assert_eq!(damage, Vec::<String>::new());
    store
}

fn account(store: &Notifications) -> Account {
    store.accounts().unwrap().into_iter().find(|account| account.target == "a").unwrap_or_default()
}

#[test]
fn what_was_taken_is_there_after_a_restart_with_its_message_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 7);
    assert_eq!(store.mark(), Ok(7), "what happened before the first start is not told");
    store.take_between(7, 9, &[("a".into(), notice(1)), ("a".into(), notice(2)), ("b".into(), notice(2))]).unwrap();
    let message = store.begin_message("a", oldest(1), None).unwrap().unwrap();
    assert_eq!(message.notices, [notice(1)]);
    drop(store);
    let store = open(directory.path(), 12);
    assert_eq!(store.mark(), Ok(9));
    store.take_between(7, 10, &[("a".into(), notice(3))]).unwrap();
    assert_eq!(store.mark(), Ok(9), "taken by someone else already");
    store.take_between(9, 10, &[("a".into(), notice(3))]).unwrap();
    assert_eq!(store.begin_message("a", oldest(100), None).unwrap(), Some(message.clone()), "the same message again");
    store.delivered("a", message.number, Timestamp::from_nanos(5), &[]).unwrap();
    let digest = store.begin_message("a", oldest(100), None).unwrap().unwrap();
    assert_eq!(digest.notices, [notice(2), notice(3)]);
    assert_ne!(digest.number, message.number);
    store.failed("a", "no route", &[]).unwrap();
    assert_eq!((account(&store).failures, account(&store).last_error.as_str()), (1, "no route"));
    assert_eq!(store.give_up_message("a", digest.number, "refused", &[]), Ok(2));
    let account = account(&store);
    assert_eq!((account.taken, account.sent, account.given_up, account.waiting), (3, 1, 2, 0));
    assert_eq!((account.recent_urgent, account.recent), (vec![Timestamp::from_nanos(5)], vec![]));
    assert_eq!(store.give_up_others(&["a".into()], "removed"), Ok(vec![("b".into(), 1)]));
}

#[test]
fn a_target_that_fails_is_said_to_the_others_once_and_once_more_when_it_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path(), 0);
    let (failing, again) = ([("b".to_owned(), notice(1))], [("b".to_owned(), notice(2))]);
    let told = |store: &Notifications| store.waiting("b", None).unwrap().notices;
    let now = Timestamp::from_nanos(5);
    store.take(&[("a".into(), notice(3)), ("a".into(), notice(4)), ("a".into(), notice(5))]).unwrap();
    let begin = |store: &Notifications| store.begin_message("a", oldest(1), None).unwrap().unwrap().number;

    let first = begin(&store);
    for failures in 1..=2 * REPORTED_FAILURES {
        assert_eq!(store.failed("a", "no route", &failing), Ok(failures == REPORTED_FAILURES), "{failures}");
        // How often it has failed is on disk.
        drop(store);
        store = open(directory.path(), 0);
    }
    assert_eq!((told(&store), account(&store).last_error.as_str()), (1, "no route"));
    assert_eq!(store.give_up_message("a", first, "too bad", &failing), Ok(1));
    assert_eq!((told(&store), account(&store).last_error.as_str()), (1, "too bad"), "it is known already");
    let second = begin(&store);
    assert_eq!(store.delivered("a", second, now, &again), Ok(true));
    assert_eq!((told(&store), account(&store).last_error.as_str()), (2, ""));

    let third = begin(&store);
    assert_eq!(store.give_up_message("a", third, "refused", &failing), Ok(1), "at the first attempt");
    assert_eq!((told(&store), account(&store).last_error.as_str()), (3, "refused"));
    store.take(&[("a".into(), notice(6)), ("a".into(), notice(7))]).unwrap();
    let fourth = begin(&store);
    assert_eq!(store.delivered("a", fourth, now, &again), Ok(true));
    let fifth = begin(&store);
    assert_eq!(store.failed("a", "busy", &failing), Ok(false), "one failed attempt is nobody's business");
    assert_eq!(store.delivered("a", fifth, now, &again), Ok(false));
    assert_eq!(told(&store), 4);
    store.take(&[("a".into(), notice(8))]).unwrap();
    assert_eq!(store.give_up_older("a", Timestamp::from_nanos(9_000_000), "too old", &failing), Ok(1));
    assert_eq!((told(&store), account(&store).last_error.as_str()), (5, "too old"));
}

#[test]
fn a_mark_beyond_the_journal_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), 7).take_between(7, 20, &[]).unwrap();
    assert_eq!(open(directory.path(), 11).mark(), Ok(11));
}

#[test]
fn a_second_monitor_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path(), 0);
    let error = Notifications::open(&directory.path().join("notifications.sqlite"), 0).unwrap_err();
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

fn change(epoch: u64, publisher: &str, to: Verdict) -> Notice {
    Notice::Change(Change {
        epoch,
        publisher: PublisherId::parse(publisher).unwrap(),
        host: HostName::parse("here").unwrap(),
        from: Verdict::Late,
        to,
        at: Timestamp::from_nanos(0),
        decided_at: Timestamp::from_nanos(epoch.cast_signed() * 1_000_000),
        trigger: Trigger::Deadline,
        summary: "because".to_owned(),
        evidence: Vec::new(),
        process: None,
        maintenance: false,
        flapping: None,
        because: None,
    })
}

fn alarm(rule: &str, publisher: &str, state: AlarmState) -> Notice {
    Notice::Alarm(RuleAlarm {
        rule: rule.to_owned(),
        state,
        severity: Severity::Warning,
        publisher: PublisherId::parse(publisher).unwrap(),
        host: HostName::parse("here").unwrap(),
        measurement: "m".to_owned(),
        tags: BTreeMap::new(),
        since: Timestamp::from_nanos(0),
        at: Timestamp::from_nanos(0),
        number: None,
        summary: "too high".to_owned(),
        link: String::new(),
    })
}

#[test]
fn what_is_urgent_goes_first_with_what_came_before_of_the_same_publisher_and_alarms_of_one_rule_go_together() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 0);
    let alarms = [
        alarm("load", "s1", AlarmState::Firing),
        alarm("heat", "s1", AlarmState::Firing),
        alarm("load", "s2", AlarmState::Firing),
        alarm("load", "s1", AlarmState::Resolved),
    ];
    let changes = [
        change(1, "light", Verdict::Silent),
        change(2, "water", Verdict::Silent),
        change(3, "light", Verdict::Dead),
        change(4, "light", Verdict::Alive),
    ];
    let taken = changes.iter().chain(&alarms).map(|notice| ("a".to_owned(), notice.clone())).collect::<Vec<_>>();
    store.take(&taken).unwrap();
    let waiting = store.waiting("a", None).unwrap();
    assert_eq!((waiting.notices, waiting.urgent, waiting.begun), (8, 1, false));
    let tell = |urgent, notices_max| {
        let of = Selection { urgent, notices: 1, notices_max };
        let message = store.begin_message("a", of, None).unwrap().unwrap();
        store.delivered("a", message.number, Timestamp::from_nanos(5), &[]).unwrap();
        message.notices
    };
    assert_eq!(tell(true, 100), [changes[0].clone(), changes[2].clone()], "what came after it waits");
    assert_eq!(tell(false, 100), [changes[1].clone()]);
    assert_eq!(tell(false, 100), [changes[3].clone()]);
    assert_eq!(tell(false, 1), [alarms[0].clone()], "no more than may be in a message");
    assert_eq!(tell(false, 100), [alarms[1].clone()]);
    assert_eq!(tell(false, 100), [alarms[2].clone()], "what is over is another message");
    assert_eq!(tell(false, 100), [alarms[3].clone()]);
    let account = account(&store);
    assert_eq!((account.recent_urgent.len(), account.recent.len()), (1, 6));
}

#[test]
fn a_file_of_version_2_is_taken_over_whole() {
    let (made, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(made.path(), 3);
    store.take(&[("a".into(), notice(1)), ("a".into(), notice(2)), ("a".into(), notice(3))]).unwrap();
    let message = store.begin_message("a", oldest(1), None).unwrap().unwrap();
    store.delivered("a", message.number, Timestamp::from_nanos(5), &[]).unwrap();
    drop(store);
    let path = |directory: &Path| directory.join("notifications.sqlite");
    let mut connection = layout::connect(&path(old.path())).unwrap();
    layout::make_tables(&mut connection, &LAYOUT.earlier[0]).map_err(String::from).unwrap();
    connection.execute("ATTACH ?1 AS made", [path(made.path()).to_str().unwrap()]).unwrap();
    seal::add_function(&connection).unwrap();
    let transaction = connection.transaction().unwrap();
    for table in LAYOUT.tables {
        let columns = seal::names(&transaction, "main", table).unwrap().join(", ");
        transaction.execute(&format!("INSERT INTO main.{table} SELECT {columns} FROM made.{table}"), []).unwrap();
        seal::seal_all(&transaction, table).unwrap();
    }
    transaction.commit().unwrap();
    connection.close().unwrap();

    let store = open(old.path(), 3);
    assert_eq!(store.mark(), Ok(3));
    let of = Selection { urgent: false, notices: 10, notices_max: 10 };
    let message = store.begin_message("a", of, None).unwrap().unwrap();
    assert_eq!((message.notices, message.number), (vec![notice(2), notice(3)], 2));
    assert_eq!((account(&store).sent, account(&store).recent.len()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever is urgent and whatever its messages are made of, each publisher's course is told in its order.
    #[test]
    fn no_course_is_told_out_of_order(
        acts in prop::collection::vec((0_u8..3, 0_u8..3, any::<bool>(), 1_u64..4, 1_u64..5), 1..60),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 0);
        let mut told: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for (number, (publisher, verdict, urgent, notices, notices_max)) in acts.into_iter().enumerate() {
            let to = [Verdict::Alive, Verdict::Silent, Verdict::Dead][usize::from(verdict)];
            store.take(&[("a".into(), change(number as u64 + 1, &format!("p{publisher}"), to))]).unwrap();
            if number % 3 > 0 {
                continue;
            }
            let Some(message) = store.begin_message("a", Selection { urgent, notices, notices_max }, None).unwrap() else {
                continue;
            };
            prop_assert!(message.notices.len() as u64 <= notices_max);
            for notice in &message.notices {
                told.entry(notice.publisher().to_string()).or_default().push(notice.known_at());
            }
            store.delivered("a", message.number, Timestamp::from_nanos(5), &[]).unwrap();
        }
        for (publisher, told) in told {
            prop_assert!(told.is_sorted(), "{publisher}: {told:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Take(u8),
    Begin(u64),
    Deliver,
    GiveUp,
    GiveUpOlder(u8),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1_u8..5).prop_map(Act::Take),
        (1_u64..4).prop_map(Act::Begin),
        Just(Act::Deliver),
        Just(Act::GiveUp),
        any::<u8>().prop_map(Act::GiveUpOlder),
        Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever happens, also over restarts, the account balances, and notices come in order.
    #[test]
    fn the_account_balances(acts in prop::collection::vec(act(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path(), 0);
        let (mut next, mut told) = (0_i64, Vec::new());
        for act in acts {
            let begun = store.waiting("a", None).unwrap().begun;
            match act {
                Act::Take(count) => for _ in 0..count {
                    next += 1;
                    let (from, to) = (next.cast_unsigned() - 1, next.cast_unsigned());
                    store.take_between(from, to, &[("a".into(), notice(next))]).unwrap();
                },
                Act::Begin(most) => { store.begin_message("a", oldest(most), None).unwrap(); }
                Act::Deliver if begun => {
                    let message = store.begin_message("a", oldest(1), None).unwrap().unwrap();
                    told.extend(message.notices.iter().map(Notice::known_at));
                    store.delivered("a", message.number, Timestamp::from_nanos(next), &[]).unwrap();
                }
                Act::GiveUp if begun => {
                    let message = store.begin_message("a", oldest(1), None).unwrap().unwrap();
                    store.give_up_message("a", message.number, "refused", &[]).unwrap();
                }
                Act::Deliver | Act::GiveUp => {}
                Act::GiveUpOlder(than) => {
                    store.give_up_older("a", Timestamp::from_nanos(i64::from(than) * 1_000_000), "too old", &[]).unwrap();
                }
                Act::Reopen => {
                    drop(store);
                    store = open(directory.path(), next.cast_unsigned());
                    prop_assert_eq!(store.mark(), Ok(next.cast_unsigned()));
                }
            }
            let account = account(&store);
            prop_assert_eq!(account.taken, next.cast_unsigned());
            prop_assert_eq!(account.taken, account.sent + account.waiting + account.given_up);
            prop_assert_eq!(account.sent, told.len() as u64);
        }
        prop_assert!(told.is_sorted());
    }
}

#[test]
fn whatever_is_changed_or_cut_on_disk_is_said() {
    const TAKEN: i64 = 24;
    let directory = tempfile::tempdir().unwrap();
    let path = |directory: &Path| directory.join("notifications.sqlite");
    let store = open(directory.path(), 0);
    for number in 1..=TAKEN {
        store.take(&[("a".into(), notice(number))]).unwrap();
        if number == TAKEN / 2 {
            let message = store.begin_message("a", oldest(10), None).unwrap().unwrap();
            store.delivered("a", message.number, Timestamp::from_nanos(5), &[]).unwrap();
            let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
            store.lock().ready().unwrap().connection.query_row(checkpoint, [], |_| Ok(())).unwrap();
        }
    }
    let names = ["", "-wal", ".witness"];
    let files = names.map(|suffix| (suffix, std::fs::read(beside(&path(directory.path()), suffix)).unwrap()));
    let opens = |files: &[(&str, Vec<u8>)], what: &str| {
        let directory = tempfile::tempdir().unwrap();
        for (suffix, bytes) in files {
            std::fs::write(beside(&path(directory.path()), suffix), bytes).unwrap();
        }
        let (store, damage) = Notifications::open(&path(directory.path()), 0).unwrap();
        let waiting = account(&store).waiting;
        let told =
            store.begin_message("a", oldest(1_000), None).unwrap().map(|message| message.notices).unwrap_or_default();
        assert!(told.iter().all(|told| (1..=TAKEN).any(|number| *told == notice(number))), "{what}: {told:?}");
        let came_out = waiting.min(told.len() as u64);
        assert!(
            came_out >= (TAKEN - 10).unsigned_abs() || !damage.is_empty(),
            "{what}: {came_out} and nothing is said"
        );
        damage
    };
    assert_eq!(opens(&files, "whole"), Vec::<String>::new());
    for (number, (suffix, whole)) in files.iter().enumerate() {
        let step = if *suffix == ".witness" { 3 } else { 1_000 };
        for at in (0..whole.len()).step_by(step) {
            let mut changed = files.clone();
            changed[number].1[at] ^= 1 << (at / step % 8);
            opens(&changed, &format!("byte {at} of notifications.sqlite{suffix}"));
        }
        for tenth in 0..10 {
            let mut changed = files.clone();
            changed[number].1.truncate(whole.len() * tenth / 10);
            opens(&changed, &format!("notifications.sqlite{suffix} cut at {tenth} tenths"));
        }
    }
}
