//! `heartwatch prove`, short: every fault that can be injected here, and no verdict wrong. How fast it
//! was is not asserted: the machine that runs tests has other things to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::process::Command;

use serde_json::Value;

fn prove(arguments: &[&str]) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_heartwatch"))
        .args(["prove", "--json", "--kill-p99-max", "0", "--deadline-p99-max", "0", "--simulated-hours", "2000"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (report, output.status.success())
}

/// Everybody is well, and the monitor itself is not.
const DISTURBED: &str = "disturbed";

/// How often this was true and that was said.
fn count(report: &Value, truth: &str, verdict: &str) -> u64 {
    let lines = report["matrix"].as_array().unwrap();
    let line = lines.iter().find(|line| line["truth"] == truth);
    line.and_then(|line| line["verdicts"][verdict].as_u64()).unwrap_or(0)
}

#[test]
fn no_verdict_is_wrong_and_none_is_missed() {
    let (report, passed) = prove(&["--faults", "40", "--seed", "1"]);
    let wrong = serde_json::to_string_pretty(&report["wrong"]).unwrap();
    assert_eq!(report["wrong"].as_array().map(Vec::len), Some(0), "{wrong}");
    assert!(passed, "{:#}", report["limits"]);
    for line in report["matrix"].as_array().unwrap() {
        let mut verdicts = line["verdicts"].as_object().unwrap().clone();
        if line["truth"] == DISTURBED {
            // While its own disk stalls the monitor doubts itself, about the living too: no verdict on anyone.
            verdicts.remove("unknown");
        }
        assert_eq!(verdicts.len(), 1, "off the diagonal: {line}");
    }
    let skipped = report["skipped"].as_object().unwrap();
    // Two each of the kinds for single ones at least; several of them end in a death.
    for (truth, verdict, at_least) in [
        ("alive", "alive", 40),
        ("dead", "dead", 12),
        ("silent", "silent", 2),
        ("hung", "hung", 6),
        ("stopped", "stopped", 2),
        ("ended", "ended", 2),
        ("conflict", "conflict", 2),
        ("not-to-be-known", "unknown", if skipped.contains_key("kafka-away") { 15 } else { 18 }),
    ] {
        let found = count(&report, truth, verdict);
        assert!(found >= at_least, "{truth}: {found} of at least {at_least}");
    }
    assert!(skipped.contains_key("clock-step"));
    // What else this machine has not: Kafka, mosquitto, PID namespaces.
    let required = std::env::var("HEARTWATCH_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required || skipped.len() == 1, "{skipped:?}");
}

#[test]
fn a_monitor_that_stands_still_for_three_deadlines_says_nothing_false_about_fifty() {
    let (report, passed) = prove(&["--faults", "1", "--only", "monitor-stop", "--publishers", "50"]);
    assert!(passed, "{report:#}");
    // Doubt about itself is in order; a verdict against one of them is not.
    let said = [count(&report, DISTURBED, "alive"), count(&report, DISTURBED, "unknown")];
    assert_eq!((said.iter().sum::<u64>(), count(&report, "alive", "alive")), (50, 0), "{report:#}");
}
