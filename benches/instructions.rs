//! The hot paths in instructions, counted by callgrind: the same on a busy machine as on an idle one, so
//! CI can hold them to `benches/instructions.csv`.
//!
//! `cargo bench --bench instructions` compares, `-- --accept` writes the file anew. Each path is run with few
//! and with many steps, and the difference counts: what prepares it is in both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement stops where it cannot go on")]

mod hot_paths;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Where the accepted figures are.
const ACCEPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.csv");
/// A path may need so many more than accepted: libraries of the system differ between machines.
const TOLERANCE: f64 = 0.15;
/// Steps of the shorter and of the longer run.
const STEPS: [u64; 2] = [200, 1_200];
/// What tells this program that it is being counted.
const COUNTED: &str = "HEARTWATCH_COUNTED";

fn main() -> ExitCode {
    if let Ok(what) = std::env::var(COUNTED) {
        let (name, steps) = what.split_once(':').unwrap();
        return run(name, steps.parse().unwrap());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        let is_required = std::env::var_os("HEARTWATCH_REQUIRE_SERVICES").is_some_and(|value| value == "1");
        return if is_required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let accepted = accepted();
    let mut counted = BTreeMap::new();
    let mut is_good = true;
    for (name, _) in hot_paths::PATHS {
        let [few, many] = STEPS.map(|steps| instructions(name, steps));
        let each = (many - few) / (STEPS[1] - STEPS[0]);
        let verdict = match accepted.get(name) {
            None => "new".to_owned(),
            Some(&accepted) => {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                let change = each as f64 / accepted as f64 - 1.0;
                is_good &= change <= TOLERANCE;
                format!("{:+.1} % of {accepted}", change * 100.0)
            }
        };
        println!("{name:32} {each:>10} instructions  {verdict}");
        counted.insert(name, each);
    }
    if std::env::args().any(|argument| argument == "--accept") {
        let lines: String = counted.iter().map(|(name, count)| format!("{name},{count}\n")).collect();
        std::fs::write(ACCEPTED, format!("path,instructions\n{lines}")).unwrap();
        return ExitCode::SUCCESS;
    }
    if is_good && counted.keys().all(|name| accepted.contains_key(*name)) {
        return ExitCode::SUCCESS;
    }
    println!("a hot path became more than {:.0} % slower, or is new: see why, or accept it:", TOLERANCE * 100.0);
    println!("  cargo bench --bench instructions -- --accept");
    ExitCode::FAILURE
}

fn run(name: &str, steps: u64) -> ExitCode {
    let (_, prepare) = hot_paths::PATHS.into_iter().find(|(known, _)| *known == name).unwrap();
    let mut step = prepare();
    let sum = (0..steps).fold(0_usize, |sum, _| sum.wrapping_add(step()));
    assert!(std::hint::black_box(sum) > 0 || steps == 0);
    // Not the way down: what ends a journal's thread differs from run to run.
    std::process::exit(0);
}

fn instructions(name: &str, steps: u64) -> u64 {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe().unwrap()).env(COUNTED, format!("{name}:{steps}"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    line.1.trim().parse().unwrap()
}

fn accepted() -> BTreeMap<String, u64> {
    if !Path::new(ACCEPTED).exists() {
        return BTreeMap::new();
    }
    let mut reader = csv::Reader::from_path(ACCEPTED).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}
