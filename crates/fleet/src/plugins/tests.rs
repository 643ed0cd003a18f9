use heartwatch_ports::ScriptFile;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const fn at(seconds: u64) -> Now {
    let nanos = seconds * 1_000_000_000;
    Now { monotonic: Monotonic::from_nanos(nanos), wall: Timestamp::from_nanos(nanos as i64) }
}

fn sample(metric: &str, value: f64, seconds: u64) -> Sample {
    Sample { metric: metric.to_owned(), value, tags: Vec::new(), time: at(seconds).wall }
}

fn chain(names: &[&str], configs: Value) -> Chain {
    chain_with(names, configs, &[])
}

fn chain_with(names: &[&str], configs: Value, scripts: &[ScriptFile]) -> Chain {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let configs: BTreeMap<String, PluginConfig> = serde_json::from_value(configs).unwrap();
    Chain::build(&names, &configs, scripts)
}

fn values(chain: &mut Chain, readings: &[(f64, u64)]) -> Vec<(String, f64)> {
    let run =
        readings.iter().flat_map(|(value, seconds)| chain.run(sample("cpu", *value, *seconds), at(*seconds)).pass);
    run.map(|sample| (sample.metric, sample.value)).collect()
}

fn kept(chain: &mut Chain, readings: &[(f64, u64)]) -> Vec<f64> {
    values(chain, readings).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn the_names_of_existing_configurations_and_short_ones() {
    for name in ["plugins.duplicate_filter.DuplicateFilterPlugin", "DuplicateFilterPlugin", "duplicate_filter"] {
        assert_eq!(built_in(name), Some("DuplicateFilterPlugin"), "{name}");
    }
    assert_eq!(built_in("plugins.threshold_alert.ThresholdAlertPlugin"), Some("ThresholdAlertPlugin"));
    assert_eq!(built_in("plugins.logger.LoggerPlugin"), Some("LoggerPlugin"));
    assert_eq!(built_in("os.system"), None);
}

#[test]
fn a_duplicate_is_left_out_until_its_keep_alive_is_due() {
    let mut filter = chain(
        &["plugins.duplicate_filter.DuplicateFilterPlugin"],
        json!({ "DuplicateFilterPlugin": { "tolerance": 1.0, "keep_alive": 30 } }),
    );
    let readings = [(5.0, 0), (5.5, 10), (6.0, 20), (6.0, 30), (6.0, 40), (7.1, 41), (7.2, 42)];
    assert_eq!(kept(&mut filter, &readings), [5.0, 6.0, 7.1]);
    // A drift is compared with what was sent.
    let mut filter = chain(&["duplicate_filter"], json!({ "DuplicateFilterPlugin": { "tolerance": 1.0 } }));
    assert_eq!(kept(&mut filter, &[(0.0, 0), (0.9, 1), (1.8, 2), (2.7, 3)]), [0.0, 1.8]);
}

#[test]
fn an_alert_is_raised_once_and_cleared_with_hysteresis() {
    let mut alerts = chain(&["plugins.threshold_alert.ThresholdAlertPlugin"], json!({}));
    let mut kinds = Vec::new();
    for (second, value) in [79.0, 80.0, 80.1, 99.0, 78.0, 81.0, 75.0, 90.0].into_iter().enumerate() {
        let decisions = alerts.run(sample("cpu", value, second as u64), at(second as u64));
        assert_eq!(decisions.pass.len(), 1, "an alert holds nothing back");
        kinds.extend(decisions.events.into_iter().map(|event| (event.kind, event.value, event.threshold)));
    }
    let told = |kind: &str, value| (kind.to_owned(), value, Some(80.0));
    assert_eq!(kinds, [told("raised", 80.1), told("cleared", 75.0), told("raised", 90.0)]);
}

#[test]
fn thresholds_match_parts_of_names_and_no_rate_by_default() {
    let mut alerts = chain(&["ThresholdAlertPlugin"], json!({ "ThresholdAlertPlugin": { "cpu": 50, "net in": 7 } }));
    let mut raised = |metric: &str, value| !alerts.run(sample(metric, value, 0), at(0)).events.is_empty();
    assert!(raised("cpu_core_7", 51.0) && raised("memory", 86.0) && raised("disk", 91.0) && raised("net_in", 8.0));
    assert!(!raised("disk_read", 500.0), "90 per cent of a disk is not 90 MiB a second");
    assert!(!raised("net_out", 500.0));
    let off = chain(&["ThresholdAlertPlugin"], json!({ "ThresholdAlertPlugin": { "cpu": null } }));
    assert_eq!(off.report()[0].state, "running");
}

#[test]
fn limit_aggregate_rename_and_delta() {
    let mut limit = chain(&["RateLimitPlugin"], json!({ "RateLimitPlugin": { "every": 10 } }));
    assert_eq!(kept(&mut limit, &[(1.0, 0), (2.0, 9), (3.0, 10), (4.0, 11), (5.0, 25)]), [1.0, 3.0, 5.0]);

    let mut window = chain(&["AggregatePlugin"], json!({ "AggregatePlugin": { "window": 10 } }));
    assert_eq!(kept(&mut window, &[(1.0, 0), (5.0, 5), (3.0, 9)]), [0.0; 0]);
    assert_eq!(kept(&mut window, &[(7.0, 10)]), [1.0, 3.0, 5.0]);
    let last = window.finalize(at(12)).pass;
    let tags: Vec<_> = last.iter().map(|sample| (sample.tags[0].1.as_str(), sample.value)).collect();
    assert_eq!(tags, [("min", 7.0), ("avg", 7.0), ("max", 7.0)], "what was held back goes on at the end");

    let config = json!({ "RenamePlugin": { "names": { "cpu": "load" }, "tags": { "rack": "7" } } });
    let renamed = chain(&["rename"], config).run(sample("cpu", 1.0, 0), at(0)).pass;
    assert_eq!((renamed[0].metric.as_str(), &renamed[0].tags[0]), ("load", &("rack".to_owned(), "7".to_owned())));

    let mut delta = chain(&["DeltaPlugin"], json!({}));
    let both = values(&mut delta, &[(5.0, 0), (7.5, 1)]);
    assert_eq!(both, [("cpu".into(), 5.0), ("cpu".into(), 7.5), ("cpu_delta".into(), 2.5)]);
}

#[test]
fn the_order_of_the_configuration_is_the_order_of_the_chain() {
    let config = json!({ "RenamePlugin": { "names": { "cpu": "load" } }, "ThresholdAlertPlugin": { "load": 1 } });
    let events = |names: &[&str]| chain(names, config.clone()).run(sample("cpu", 50.0, 0), at(0)).events.len();
    assert_eq!(events(&["RenamePlugin", "ThresholdAlertPlugin"]), 1);
    assert_eq!(events(&["ThresholdAlertPlugin", "RenamePlugin"]), 0);
}

#[test]
fn an_unknown_or_misconfigured_plugin_is_named_and_stops_nothing() {
    let config = json!({ "DuplicateFilterPlugin": { "tolerence": 1 }, "RateLimitPlugin": { "every": "often" } });
    let names = ["plugins.gone.GonePlugin", "DuplicateFilterPlugin", "RateLimitPlugin", "LoggerPlugin"];
    let mut chain = chain(&names, config);
    let states: Vec<_> = chain.report().into_iter().map(|report| report.state).collect();
    assert!(states[0].contains("'plugins.gone.GonePlugin'") && states[0].contains("LoggerPlugin"), "{states:?}");
    assert!(states[1].contains("'tolerence'") && states[1].contains("tolerance"), "{states:?}");
    assert!(states[2].contains("\"often\"") && states[2].contains("number"), "{states:?}");
    assert_eq!(states[3], "running");
    let decisions = chain.run(sample("cpu", 1.0, 0), at(0));
    assert_eq!((decisions.pass.len(), decisions.lines.len()), (1, 1), "the logger logs it");
}

proptest! {
    #[test]
    fn a_value_that_is_left_out_is_never_far_from_the_one_sent_nor_longer_silent_than_its_keep_alive(
        readings in proptest::collection::vec((-10.0..10.0f64, 1u64..20), 1..60),
        tolerance in 0.0..5.0f64,
    ) {
        let config = json!({ "DuplicateFilterPlugin": { "tolerance": tolerance, "keep_alive": 30 } });
        let mut filter = chain(&["DuplicateFilterPlugin"], config);
        let mut sent: Option<(f64, u64)> = None;
        let mut second = 0;
        for (value, step) in readings {
            second += step;
            if filter.run(sample("cpu", value, second), at(second)).pass.is_empty() {
                let (last, then) = sent.unwrap();
                prop_assert!((value - last).abs() <= tolerance && second - then < 30);
            } else {
                sent = Some((value, second));
            }
        }
    }

    #[test]
    fn an_aggregate_is_between_its_least_and_its_most_and_forgets_no_reading(
        readings in proptest::collection::vec((any::<f32>(), 1u64..20), 1..60),
    ) {
        let mut window = chain(&["AggregatePlugin"], json!({ "AggregatePlugin": { "window": 30 } }));
        let mut out = Vec::new();
        let mut second = 0;
        let readings: Vec<_> = readings.into_iter().filter(|(value, _)| value.is_finite()).collect();
        for (value, step) in &readings {
            second += step;
            out.extend(window.run(sample("cpu", f64::from(*value), second), at(second)).pass);
        }
        out.extend(window.finalize(at(second)).pass);
        let of = |kind: &str| out.iter().filter(|sample| sample.tags[0].1 == kind).map(|sample| sample.value).collect::<Vec<_>>();
        let (least, mean, most) = (of("min"), of("avg"), of("max"));
        prop_assert!(least.iter().zip(&mean).zip(&most).all(|((least, mean), most)| least <= mean && mean <= most));
        let all: Vec<f64> = readings.iter().map(|(value, _)| f64::from(*value)).collect();
        let extreme = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert_eq!(extreme(&all), extreme(&most));
    }
}

#[cfg(feature = "scripts")]
mod scripts {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "made for this call alone")]
    fn with(text: &str, config: Value) -> Chain {
        let file = ScriptFile { name: "mine".to_owned(), text: Ok(text.to_owned()) };
        chain_with(&[], json!({ "mine": config }), &[file])
    }

    #[test]
    fn a_script_initializes_runs_remembers_and_finalizes() {
        let text = r#"
            fn initialize(config) { this.factor = config.factor; this.count = 0; }
            fn run(reading) {
                this.count += 1;
                if reading.value < 0.0 { return; }
                if reading.value > 50.0 { alert("hot", `${reading.metric} is ${reading.value}`); }
                reading.value *= this.factor;
                reading.tags.seen = this.count;
                reading
            }
            fn finalize() { log(`saw ${this.count}`); }"#;
        let mut chain = with(text, json!({ "factor": 2.0 }));
        assert_eq!(chain.report()[0].state, "running");
        let first = chain.run(sample("cpu", 4.0, 1), at(1));
        assert_eq!((first.pass[0].value, first.pass[0].tags[0].1.as_str()), (8.0, "1"));
        assert!(chain.run(sample("cpu", -1.0, 2), at(2)).pass.is_empty(), "nothing given back: left out");
        let events = chain.run(sample("cpu", 60.0, 3), at(3)).events;
        assert_eq!((events[0].kind.as_str(), events[0].message.as_str()), ("hot", "cpu is 60.0"));
        assert_eq!(chain.finalize(at(4)).lines[0].1, "plugin mine: saw 3");
    }

    #[test]
    fn the_example_says_when_a_metric_jumps() {
        let mut chain = with(include_str!("../../../../plugins/examples/spike.rhai"), json!({ "least": 10 }));
        let mut events = Vec::new();
        for (second, value) in [20.0, 21.0, 19.0, 90.0, 20.0].into_iter().enumerate() {
            let decisions = chain.run(sample("cpu", value, second as u64), at(second as u64));
            assert_eq!(decisions.pass.len(), 1, "{:?}", decisions.lines);
            events.extend(decisions.events);
        }
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].message.starts_with("cpu is 90.0"), "{events:?}");
        assert_eq!(chain.finalize(at(9)).lines[0].1, "plugin mine: watched 1 metrics");
    }

    #[test]
    fn a_script_may_give_back_several_readings() {
        let text = r#"fn run(r) { [r, #{ metric: "cpu_half", value: r.value / 2 }] }"#;
        let pass = with(text, json!({})).run(sample("cpu", 4.0, 1), at(1)).pass;
        assert_eq!(pass.iter().map(|sample| sample.value).collect::<Vec<_>>(), [4.0, 2.0]);
    }

    #[test]
    fn a_broken_script_is_named_and_the_readings_go_on() {
        for (text, word) in [
            ("fn run(r) {", "line 1"),
            ("fn walk(r) { r }", "run(reading)"),
            ("fn initialize(c) { c.a.b.c }  fn run(r) { r }", "initialize"),
        ] {
            let mut chain = with(text, json!({}));
            assert!(chain.report()[0].state.contains(word), "{:?}", chain.report());
            assert_eq!(chain.run(sample("cpu", 1.0, 0), at(0)).pass.len(), 1);
        }
    }

    /// Whatever it does, its reading goes on as it was, it is counted, and it is left out in the end.
    #[test]
    fn a_script_that_misbehaves_is_counted_and_left_out() {
        for text in [
            "fn run(r) { loop { } }",
            "fn run(r) { let t = \"x\"; loop { t += t; } }",
            "fn run(r) { let t = []; loop { t.push(t); } }",
            "fn run(r) { let t = #{}; let i = 0; loop { t[`${i}`] = t; i += 1; } }",
            "fn f(n) { f(n + 1) } fn run(r) { f(0) }",
            "fn run(r) { r.value = 0.0 / 0.0; r }",
            "fn run(r) { 5 }",
            "fn run(r) { eval(\"1\") }",
            "fn run(r) { throw \"no\" }",
        ] {
            let mut chain = with(text, json!({}));
            if chain.report()[0].state != "running" {
                continue; // refused before it ran, which is as well
            }
            let mut lines = 0;
            for second in 0..12 {
                let decisions = chain.run(sample("cpu", 1.5, second), at(second));
                assert_eq!(decisions.pass, [sample("cpu", 1.5, second)], "{text}");
                lines += decisions.lines.len();
            }
            let report = &chain.report()[0];
            assert!(report.state.contains("left out") && report.failures == 10, "{text}: {report:?}");
            assert_eq!(lines, 2, "said when it begins and when it is left out");
        }
    }

    #[test]
    fn a_script_that_is_named_stands_where_it_is_named() {
        let file = |name: &str, text: &str| ScriptFile { name: name.to_owned(), text: Ok(text.to_owned()) };
        let scripts =
            [file("double", "fn run(r) { r.value *= 2.0; r }"), file("add", "fn run(r) { r.value += 1.0; r }")];
        let value =
            |names: &[&str]| chain_with(names, json!({}), &scripts).run(sample("cpu", 1.0, 0), at(0)).pass[0].value;
        assert_eq!(value(&[]), 3.0, "in the order of the folder");
        assert_eq!(value(&["plugins.add", "double"]), 4.0);
        assert_eq!(value(&["add"]), 4.0, "what is not named follows");
    }
}
