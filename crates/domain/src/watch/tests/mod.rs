//! One publisher's watch, a file a subject; here what all of them need: a home, beats, answers.

mod any_order;
mod doubt;
mod elsewhere;
mod probing;
mod rival;
mod schedule;
mod signals;

use super::*;
use crate::arrivals::Phi;
use crate::beat::{Beat, BeatKind, Heartbeat, Way};
use crate::deadline::DeadlineKind;
use crate::evidence::EvidenceKind;
use crate::process::{ProbeAnswer, ProcessState};
use crate::publisher::PublisherId;
use crate::self_check::{Reception, SelfCheck};

const DEADLINE: Duration = Duration::from_secs(5);

fn at(millis: u64) -> Monotonic {
    Monotonic::START + Duration::from_millis(millis)
}

fn home() -> LocalHost {
    LocalHost { host: HostName::parse("here").unwrap(), boot_id: Some("boot".into()), pid: Some(4_000) }
}

fn hearing_since(millis: u64) -> SelfCheck {
    let mut observer = SelfCheck::new(Duration::from_secs(3600), at(millis));
    observer.receives(Reception::Open, "", at(millis));
    observer
}

fn beat(millis: u64, kind: BeatKind) -> Beat {
    Beat {
        publisher: PublisherId::parse("light").unwrap(),
        host: home().host,
        at: at(millis),
        wall: Timestamp::from_nanos(i64::try_from(millis).unwrap() * 1_000_000),
        way: Way::Mqtt,
        kind,
    }
}

fn heartbeat(millis: u64, incarnation: u64) -> Beat {
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "boot".into() };
    let interval = Duration::from_secs(1);
    let incarnation = Incarnation(incarnation);
    let heartbeat = Heartbeat {
        is_agent: false,
        outbox_stalled: None,
        incarnation,
        process: Some(process),
        sequence: 0,
        cursor: millis,
        idle: false,
        interval,
    };
    beat(millis, BeatKind::Heartbeat(Box::new(heartbeat)))
}

fn readings(millis: u64, incarnation: u64) -> Beat {
    beat(millis, BeatKind::Readings { incarnation: Some(Incarnation(incarnation)) })
}

fn answer(state: ProcessState) -> ProbeAnswer {
    ProbeAnswer { state, cpu_time: None, looked_at: Timestamp::from_nanos(0), host_pid: None, user: None }
}

fn around<'a>(home: &'a LocalHost, observer: &'a SelfCheck) -> WatchContext<'a> {
    WatchContext { home, observer, doubt: None, agent: None, other_agent: None }
}

/// Hears, on a monitor that has nothing to doubt.
fn hear(watch: &mut Watch, beat: &Beat) -> Option<Box<Transition>> {
    watch.hear(beat, around(&home(), &hearing_since(0))).change
}

fn heard_once() -> Watch {
    let mut watch = Watch::expected(home().host, DEADLINE, at(0));
    let change = hear(&mut watch, &heartbeat(0, 1)).expect("the first sign of life is a change");
    assert_eq!((change.from, change.judgement.verdict), (Verdict::Unknown, Verdict::Alive));
    watch
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
