//! `heartwatch prove --rows`, as long as a test may take: 200 faults on every part, and each row is in the
//! store once or lost by name. The run with 1,000 is in `docs/reliability.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::process::Command;

use serde_json::Value;

/// About 90 s with an optimised program.
const FAULTS: u64 = 200;

/// Rounds of these kinds destroy rows, and then their loss has a name.
fn destroys(kind: &str) -> bool {
    let damages = ["-torn", "-flipped", "-cut", "-header"].iter().any(|end| kind.ends_with(end));
    kind == "outbox-full" || (damages && (kind.starts_with("outbox-") || kind.starts_with("journal-")))
}

#[test]
fn every_row_is_stored_once_or_lost_by_name() {
    let output = Command::new(env!("CARGO_BIN_EXE_heartwatch"))
        .args(["prove", "--rows", "--seed", "1", "--json", "--faults", &FAULTS.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    println!("{report:#}");
    assert!(output.status.success() && report["passed"] == true, "{report:#}");
    let total = &report["total"];
    let number = |key: &str| total[key].as_u64().unwrap();
    assert_eq!(number("injected"), FAULTS);
    assert_eq!((number("doubled"), number("lost_unnamed"), number("unexpected")), (0, 0, 0), "{total:#}");
    assert_eq!(number("produced"), number("stored") + number("lost_named") + number("expired"), "{total:#}");
    assert!(number("stored") > 10 * FAULTS, "{total:#}");
    for (kind, of_kind) in report["kinds"].as_object().unwrap() {
        let lost = of_kind["lost_named"].as_u64().unwrap();
        assert!(lost == 0 || destroys(kind), "{kind}: {of_kind:#}");
    }
    let skipped = report["skipped"].as_object().unwrap();
    if std::env::var_os("HEARTWATCH_REQUIRE_SERVICES").is_some() {
        assert!(skipped.is_empty(), "{skipped:#?}");
    }
    for (kind, reason) in skipped {
        println!("skipped: {kind}: {reason}");
    }
}

/// A server that cannot be started is named, and takes away its own stage alone.
#[test]
fn what_the_laboratory_cannot_do_is_said_and_the_rest_is_counted() {
    let output = Command::new(env!("CARGO_BIN_EXE_heartwatch"))
        .args(["prove", "--rows", "--json", "--faults", "6", "--mosquitto", "/bin/false"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = report["stages"].as_array().unwrap().len() as u64;
    let (injected, left_out) =
        (report["total"]["injected"].as_u64().unwrap(), report["not_injected"].as_u64().unwrap());
    assert_eq!((injected + left_out, left_out), (6, 6 / stages), "{report:#}");
    let told = report["laboratory"][0].as_str().unwrap();
    assert!(told.contains("stage mosquitto could not be started") && told.contains("mosquitto ended"), "{told}");
    assert_eq!(report["complaints"].as_array().unwrap().len(), 0, "{report:#}");
    assert_eq!((report["passed"].as_bool(), output.status.code()), (Some(false), Some(3)), "{report:#}");
}

#[test]
fn what_only_the_verdicts_know_is_refused() {
    for option in [["--deadline", "1s"], ["--heartbeat", "1s"], ["--only", "kill"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwatch"));
        let output = command.args(["prove", "--rows"]).args(option).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(option[0]), "{option:?}");
    }
}
