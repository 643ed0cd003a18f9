//! Publishers on other hosts and in containers, whom only somebody there can look at.

use super::*;

#[test]
fn one_on_another_host_is_unreachable() {
    let (home, observer) = (home(), hearing_since(0));
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let mut far = heartbeat(0, 1);
    far.host = HostName::parse("far").unwrap();
    if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
    }
    hear(&mut watch, &far);
    watch.look(around(&home, &observer), at(1_500));
    let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
    assert_eq!(change.judgement.verdict, Verdict::Unreachable);
}

#[test]
fn one_on_another_host_is_asked_after_where_there_is_an_agent() {
    let (home, observer) = (home(), hearing_since(0));
    let agent = PublisherId::parse("agent-7").unwrap();
    let there = WatchContext { agent: Some(&agent), ..around(&home, &observer) };
    let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
    let mut far = heartbeat(0, 1);
    far.host = HostName::parse("there").unwrap();
    if let BeatKind::Heartbeat(heartbeat) = &mut far.kind {
        heartbeat.process.as_mut().unwrap().boot_id = "another boot".into();
    }
    hear(&mut watch, &far);
    assert!(watch.look(there, at(1_500)).ask.is_some(), "for its CPU time, as here");
    assert!(watch.answered(there, &answer(ProcessState::Running), at(1_510)).is_none());
    let outcome = watch.look(there, at(5_000));
    assert!(outcome.ask.is_some() && outcome.change.is_none(), "nothing is said before the agent has answered");
    let silent = ProcessState::Unreachable { reason: "no answer".to_owned() };
    let change = watch.answered(there, &answer(silent), at(7_000)).unwrap();
    assert_eq!(change.judgement.verdict, Verdict::Unreachable);
    // The broker tells of a lost connection: the agent, back again, is asked at once.
    let will = watch.hear(&beat(7_100, BeatKind::LastWill { incarnation: Incarnation(1) }), there);
    assert!(will.ask.is_some());
    let change = watch.answered(there, &answer(ProcessState::Gone), at(7_110)).unwrap();
    assert_eq!(change.judgement.verdict, Verdict::Dead);
    assert!(change.judgement.summary.contains("agent-7 on there"), "{}", change.judgement.summary);
}

#[test]
fn one_in_a_container_is_not_the_process_with_its_number_here() {
    let (home, observer) = (home(), hearing_since(0));
    for host in ["here", "container"] {
        let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
        let mut inside = heartbeat(0, 1);
        inside.host = HostName::parse(host).unwrap();
        if let BeatKind::Heartbeat(heartbeat) = &mut inside.kind {
            heartbeat.process.as_mut().unwrap().boot_id = "boot/4026532178".into();
        }
        hear(&mut watch, &inside);
        assert_eq!(watch.process_here(&home), None, "nobody waits for the end of another's process");
        watch.look(around(&home, &observer), at(1_500));
        let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
        assert_eq!(change.judgement.verdict, Verdict::Unreachable, "{host}");
        assert!(change.judgement.summary.contains("container"), "{}", change.judgement.summary);
    }
}

#[test]
fn one_in_a_container_is_looked_at_by_a_monitor_on_its_host() {
    let boot = "0d9fe8ae-5a0f-4e4f-8b7c-9a3c5d1e2f60";
    let observer = hearing_since(0);
    for (ours, is_seen) in [(boot.to_owned(), true), (format!("{boot}/4026531999"), false)] {
        let home = LocalHost { boot_id: Some(ours.as_str().into()), ..home() };
        let mut watch = Watch::expected(home.host.clone(), DEADLINE, at(0));
        let mut inside = heartbeat(0, 1);
        inside.host = HostName::parse("container").unwrap();
        if let BeatKind::Heartbeat(heartbeat) = &mut inside.kind {
            let boot_id = format!("{boot}/4026532178").as_str().into();
            heartbeat.process = Some(ProcessIdentity { pid: 1, start_ticks: 7, boot_id });
        }
        watch.hear(&inside, around(&home, &observer));
        assert_eq!(watch.process_here(&home).is_some(), is_seen, "the first process of a container is its own");
        let late = watch.look(around(&home, &observer), at(1_500));
        assert_eq!(late.ask.is_some(), is_seen);
        if is_seen {
            let gone = ProbeAnswer { host_pid: Some(48_213), ..answer(ProcessState::Gone) };
            let change = watch.answered(around(&home, &observer), &gone, at(1_510)).unwrap();
            let summary = change.judgement.summary;
            assert_eq!(change.judgement.verdict, Verdict::Dead);
            assert!(summary.contains("PID 1 of its container (PID 48213 on the host)"), "{summary}");
        } else {
            let Some(change) = watch.look(around(&home, &observer), at(5_000)).change else { panic!("no change") };
            assert!(change.judgement.summary.contains("pid: host"), "{}", change.judgement.summary);
        }
    }
}

#[test]
fn a_reboot_of_our_host_is_not_another_host() {
    let (home, observer) = (home(), hearing_since(0));
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "the boot before".into() };
    let mut watch = Watch::remembered(home.host.clone(), DEADLINE, Verdict::Alive, Some(process), at(0));
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
}
