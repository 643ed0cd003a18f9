//! The hot paths in instructions, counted by callgrind: the same on a busy machine as on an idle one, so
//! CI can hold them to `benches/instructions.csv`.
//!
//! `make instructions` compares, `make instructions ACCEPT=--accept` writes the file anew. Each path is run with few
//! and with many steps, and the difference counts: what prepares it is in both. Counted is the program as the
//! tests build it, without optimisation: an optimised one would have CI build every dependency a second time, and
//! work that is done twice, or by the wrong algorithm, is counted twice in both. For time there is `benches/time.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement stops where it cannot go on")]

mod hot_paths;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Where the accepted figures are.
const ACCEPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.csv");
/// A path may need so many per cent more than accepted, unless the file says otherwise: the seeds of hash tables differ from run
/// to run (below 1 %), the system's libraries from machine to machine.
const TOLERANCE_PERCENT: f64 = 10.0;
/// What tells this program that it is being counted.
const COUNTED: &str = "HEARTWATCH_COUNTED";

/// A line of the file.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Accepted {
    path: String,
    instructions: u64,
    tolerance_percent: f64,
    compiler: String,
}

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
    let compiler = compiler();
    let accepted = accepted();
    let mut counted = Vec::new();
    let mut is_good = true;
    for (name, _, steps) in hot_paths::PATHS {
        let [few, many] = [steps, steps * 3].map(|steps| count(name, steps)).map(|child| instructions(name, child));
        let each = many.saturating_sub(few) / (steps * 2);
        let known = accepted.get(name);
        let tolerance = known.map_or(TOLERANCE_PERCENT, |known| known.tolerance_percent);
        let verdict = match known {
            None => {
                is_good = false;
                "new".to_owned()
            }
            Some(known) if known.compiler != compiler => {
                format!(
                    "not compared: {} were accepted with {}, this is {compiler}",
                    known.instructions, known.compiler
                )
            }
            Some(known) => {
                let change = (as_float(each) / as_float(known.instructions) - 1.0) * 100.0;
                is_good &= change <= tolerance;
                let said = if change > tolerance { "TOO MANY" } else { "ok" };
                format!("{said}: {change:+.1} % of {}, {tolerance} % more are tolerated", known.instructions)
            }
        };
        println!("{name:32} {each:>10} instructions  {verdict}");
        counted.push(Accepted {
            path: name.to_owned(),
            instructions: each,
            tolerance_percent: tolerance,
            compiler: compiler.clone(),
        });
    }
    if std::env::args().any(|argument| argument == "--accept") {
        let mut writer = csv::Writer::from_path(ACCEPTED).unwrap();
        counted.iter().for_each(|line| writer.serialize(line).unwrap());
        writer.flush().unwrap();
        return ExitCode::SUCCESS;
    }
    if is_good {
        return ExitCode::SUCCESS;
    }
    println!("a hot path became slower, or is new: see why, or accept it with `make instructions ACCEPT=--accept`");
    ExitCode::FAILURE
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

fn run(name: &str, steps: u64) -> ExitCode {
    let (_, prepare, _) = hot_paths::PATHS.into_iter().find(|(known, ..)| *known == name).unwrap();
    let mut step = prepare();
    let sum = (0..steps).fold(0_usize, |sum, _| sum.wrapping_add(step()));
    assert!(std::hint::black_box(sum) > 0 || steps == 0);
    // Not the way down: what ends a journal's thread differs from run to run.
    std::process::exit(0);
}

/// Begins to count; both runs of a path go on at the same time.
fn count(name: &str, steps: u64) -> Child {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe().unwrap()).env(COUNTED, format!("{name}:{steps}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn instructions(name: &str, mut counting: Child) -> u64 {
    let mut said = String::new();
    counting.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(counting.wait().unwrap().success(), "{name}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    line.1.trim().parse().unwrap()
}

/// The compiler that cargo uses, like `rustc 1.95.0`.
fn compiler() -> String {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(program).arg("--version").output().unwrap().stdout;
    String::from_utf8_lossy(&said).split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn accepted() -> BTreeMap<String, Accepted> {
    if !Path::new(ACCEPTED).exists() {
        return BTreeMap::new();
    }
    let mut reader = csv::Reader::from_path(ACCEPTED).unwrap();
    reader.deserialize().map(|line| line.map(|line: Accepted| (line.path.clone(), line)).unwrap()).collect()
}
