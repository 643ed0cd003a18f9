//! What a user's script costs a reading, beside a plugin that comes with heartwatch: `cargo bench --bench scripts`.

#![allow(clippy::unwrap_used, reason = "a measurement stops where it cannot go on")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_fleet::plugins::{Chain, Now, Sample};
use heartwatch_ports::ScriptFile;

/// Turns of the loop that says what a step costs.
const TURNS: u32 = 1_000;

fn chain(plugins: &[&str], script: Option<&str>) -> Chain {
    let plugins: Vec<_> = plugins.iter().map(|&name| name.to_owned()).collect();
    let script = script.map(|text| ScriptFile { name: "mine".to_owned(), text: Ok(text.to_owned()) });
    Chain::build(&plugins, &BTreeMap::new(), script.as_slice())
}

fn measure(criterion: &mut Criterion) {
    let loops = format!("fn run(r) {{ let turns = 0; while turns < {TURNS} {{ turns += 1 }} r }}");
    let now = Now { monotonic: Monotonic::START, wall: Timestamp::from_nanos(0) };
    for (name, mut chain) in [
        ("a reading through no plugin", chain(&[], None)),
        ("a reading through the threshold alert", chain(&["threshold_alert"], None)),
        ("a reading through a script of one line", chain(&[], Some("fn run(r) { r.value *= 2; r }"))),
        ("a reading through a loop of 1,000 turns", chain(&[], Some(&loops))),
    ] {
        assert!(chain.report().iter().all(|plugin| plugin.state == "running"), "{:?}", chain.report());
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let sample = Sample { metric: "cpu".to_owned(), value: 21.5, tags: Vec::new(), time: now.wall };
                let passed = chain.run(black_box(sample), now).pass;
                assert_eq!(passed.len(), 1);
            });
        });
    }
}

criterion_group!(benches, measure);
criterion_main!(benches);
