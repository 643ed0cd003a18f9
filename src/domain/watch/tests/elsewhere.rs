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
    let there = Surroundings { agent: Some(&agent), ..around(&home, &observer) };
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
fn a_reboot_of_our_host_is_not_another_host() {
    let (home, observer) = (home(), hearing_since(0));
    let process = ProcessIdentity { pid: 812, start_ticks: 7, boot_id: "the boot before".into() };
    let mut watch = Watch::remembered(home.host.clone(), DEADLINE, Verdict::Alive, Some(process), at(0));
    assert!(watch.look(around(&home, &observer), at(5_000)).ask.is_some());
}
