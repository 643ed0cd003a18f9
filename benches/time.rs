//! The hot paths in time: `cargo bench --bench time`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement stops where it cannot go on")]

mod hot_paths;

use criterion::{Criterion, criterion_group, criterion_main};

fn measure(criterion: &mut Criterion) {
    for (name, prepare, _) in hot_paths::PATHS {
        criterion.bench_function(name, |bencher| {
            let mut step = prepare();
            bencher.iter(&mut step);
        });
    }
}

criterion_group!(benches, measure);
criterion_main!(benches);
