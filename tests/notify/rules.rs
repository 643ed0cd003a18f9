//! `[[rule]]` end to end: a real monitor, a publisher of bad values, and a webhook that hears of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::time::Duration;

use heartwatch::config::{Environment, Layers, Overrides, load};
use heartwatch_domain::verdict::Verdict;
use heartwatch_system::clock::Clock;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use rustix::process::Signal;
use support::browser::Browser;
use support::eventually;
use support::heartwatch::{PATIENCE, RunOptions, Running, finished};
use support::receiver::{Received, Receiver};

const RULE: &str = "[[rule]]
name = 'load-too-high'
measurement = 'load'
where = ['valid!=False']
window = '6s'
reduce = 'mean'
above = 7
hysteresis = 1
for = '2s'
severity = 'critical'
summary = 'the load is too high'
link = 'http://grafana.example/d/1'
";

fn config(receiver: &Receiver, rules: &str) -> String {
    format!(
        "[[notify]]\nname = 'pager'\nwebhook = '{}'\nbackoff_min = '50ms'\nbackoff_max = '200ms'\n{rules}",
        receiver.url
    )
}

/// A publisher that speaks MQTT by hand.
struct Sensor {
    client: AsyncClient,
    id: &'static str,
    number: u64,
}

impl Sensor {
    fn new(running: &Running, id: &'static str) -> Self {
        let (host, port) = running.mqtt_url().strip_prefix("mqtt://").unwrap().split_once(':').unwrap();
        let (client, mut events) = AsyncClient::new(MqttOptions::new(id, host, port.parse().unwrap()), 100);
        tokio::spawn(async move { while events.poll().await.is_ok() {} });
        Self { client, id, number: 0 }
    }

    async fn publish(&mut self, value: f64, valid: bool) {
        self.number += 1;
        let time = Clock::start().wall().as_nanos();
        let tags = if valid { "" } else { r#""tags":{"valid":"False"},"# };
        let payload = format!(
            r#"{{"v":1,"host":"h","incarnation":1,"readings":[{{"seq":{},"time":{time},"measurement":"load",{tags}"fields":{{"value":{value:.1}}}}}]}}"#,
            self.number
        );
        let topic = format!("heartwatch/v1/{}/readings", self.id);
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// Publishes one value again and again until something has come true.
    async fn publish_until(&mut self, what: &str, value: f64, mut done: impl AsyncFnMut() -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !done().await {
            assert!(tokio::time::Instant::now() < end, "{what}");
            self.publish(value, true).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn ask(running: &Running, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--url", running.page()]].concat();
    let asked = finished(running.directory(), &arguments, PATIENCE).await;
    assert!(asked.code == Some(0), "{}", asked.stderr);
    asked.stdout
}

fn alarms(receiver: &Receiver) -> Vec<serde_json::Value> {
    receiver.received().iter().map(Received::json).filter(|json| json["kind"] == "alarm").collect()
}

fn states(receiver: &Receiver) -> Vec<String> {
    alarms(receiver).iter().map(|json| json["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rule_calls_when_it_is_raised_and_when_it_is_over_also_over_a_kill_and_a_reload() {
    let receiver = Receiver::start(&[]);
    let mut running = Running::start(RunOptions { config: config(&receiver, RULE), ..RunOptions::default() }).await;
    let mut sensor = Sensor::new(&running, "sensor-1");
    for _ in 0..20 {
        sensor.publish(90.0, false).await; // defective: not looked at
    }
    sensor.publish_until("it fires", 9.0, async || !states(&receiver).is_empty()).await;
    let fired = alarms(&receiver).remove(0);
    assert_eq!((fired["state"].as_str(), fired["severity"].as_str()), (Some("firing"), Some("critical")), "{fired}");
    assert_eq!((fired["rule"].as_str(), fired["publisher"].as_str()), (Some("load-too-high"), Some("sensor-1")));
    assert_eq!((fired["number"].as_f64(), fired["link"].as_str()), (Some(9.0), Some("http://grafana.example/d/1")));
    let summary = "sensor-1: the load is too high: mean of the last 6 s is 9, above 7";
    assert_eq!(fired["summary"].as_str(), Some(summary), "{fired}");

    let status = running.status().await.alarms;
    assert_eq!((status.rules[0].raised, status.raised[0].summary.as_str()), (1, summary), "{status:?}");
    let said = ask(&running, &["status"]).await;
    assert!(said.contains("alarm load-too-high (critical) since") && said.contains(summary), "{said}");
    assert!(said.contains("rules: 1, 1 alarms raised"), "{said}");
    let metrics = reqwest::get(format!("{}/metrics", running.page())).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("heartwatch_alarms_raised{rule=\"load-too-high\"} 1"), "{metrics}");

    // A kill forgets nothing and tells nothing twice.
    running.program.kill();
    running.restart().await;
    let mut sensor = Sensor { number: sensor.number, ..Sensor::new(&running, "sensor-1") };
    let mut looks = 0;
    let still_raised = async || {
        looks += u32::from(running.status().await.alarms.rules.first().is_some_and(|rule| rule.raised == 1));
        looks > 20
    };
    sensor.publish_until("it is still raised", 9.0, still_raised).await;
    assert_eq!(states(&receiver), ["firing"]);

    // Within the hysteresis it stays, below it is over.
    for _ in 0..10 {
        sensor.publish(6.5, true).await;
    }
    sensor.publish_until("it is over", 3.0, async || states(&receiver).len() == 2).await;
    let over = alarms(&receiver).remove(1);
    assert_eq!(over["state"].as_str(), Some("resolved"), "{over}");
    assert!(over["summary"].as_str().unwrap().contains("no longer above 7"), "{over}");

    // SIGHUP: another limit counts at once, for what is in the journal already; without the rule it is over.
    let config_file = running.directory().join("heartwatch.toml");
    let lower = RULE.replace("above = 7", "above = 1").replace("hysteresis = 1\nfor = '2s'", "for = '0s'");
    std::fs::write(&config_file, config(&receiver, &lower)).unwrap();
    running.program.signal(Signal::HUP);
    sensor.publish_until("the new limit", 3.0, async || states(&receiver).len() == 3).await;
    std::fs::write(&config_file, config(&receiver, "")).unwrap();
    running.program.signal(Signal::HUP);
    sensor.publish_until("the end of the rule", 3.0, async || states(&receiver).len() == 4).await;
    let over = alarms(&receiver).remove(3);
    assert!(over["summary"].as_str().unwrap().contains("not configured"), "{over}");
    eventually("no rule is left", PATIENCE, async || running.status().await.alarms.rules.is_empty()).await;
    assert_eq!(states(&receiver), ["firing", "resolved", "firing", "resolved"]);
}

#[tokio::test]
async fn a_verdict_can_be_a_rule_and_maintenance_holds_alarms_back() {
    let receiver = Receiver::start(&[]);
    let rule = "level_min = 5\nto = ['unknown']\nalarms = true\n[[rule]]\nname = 'dead-or-late'\n\
                measurement = 'heartwatch_verdict'\nfield = 'code'\nreduce = 'last'\nwithin = [1, 7]\n\
                severity = 'critical'\n";
    let running = Running::start(RunOptions { config: config(&receiver, rule), ..RunOptions::default() }).await;
    ask(&running, &["maintenance", "by-hand", "--for", "1h"]).await;
    let mut sensor = Sensor::new(&running, "by-hand");
    sensor.publish(1.0, true).await;
    running.until("by-hand", Verdict::Silent).await;
    eventually("it is raised", PATIENCE, async || running.status().await.alarms.raised.len() == 1).await;
    assert_eq!(states(&receiver), Vec::<String>::new());
    ask(&running, &["maintenance", "by-hand", "--end"]).await;
    eventually("it is told after the window", PATIENCE, async || states(&receiver) == ["firing"]).await;
    sensor.publish_until("it is over", 1.0, async || states(&receiver).len() == 2).await;
}

#[tokio::test]
async fn the_page_shows_what_is_raised() {
    let Some(mut browser) = Browser::start().await else { return };
    let rule = RULE.replace("'2s'", "'0s'");
    let running = Running::start(RunOptions { config: rule, ..RunOptions::default() }).await;
    let mut sensor = Sensor::new(&running, "sensor-1");
    let raised = async || running.status().await.alarms.raised.len() == 1;
    sensor.publish_until("it is raised", 9.0, raised).await;
    browser.open(&format!("{}/", running.page())).await;
    browser.until("document.querySelector('.facts')?.textContent.includes('1 raised')", PATIENCE).await;
    browser.value("location.hash = '#/errors'").await;
    let shown = "document.querySelector('main')?.textContent.includes('sensor-1: the load is too high: mean of')";
    browser.until(shown, PATIENCE).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_catalogue_can_be_used_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heartwatch.toml");
    let catalogue = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rules.toml");
    std::fs::copy(catalogue, &file).unwrap();
    let layers = Layers { file: Some(file), environment: Environment::default(), flags: Overrides::default() };
    let rules = load(&layers).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings.rules;
    // every alarm of Grafana has its rule; what cannot be read is one rule here and three there
    let alerting = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana-provisioning/alerting");
    let files = ["rules-monitor.yaml", "rules-publishers.yaml", "rules-sensors.yaml"];
    let texts = files.map(|name| std::fs::read_to_string(alerting.join(name)).unwrap());
    let alarms = texts.iter().flat_map(|text| text.lines()).filter(|line| line.trim_start().starts_with("title: "));
    assert_eq!(rules.len() + 2, alarms.count());
    assert!(rules.iter().all(|rule| !rule.summary.is_empty() && !rule.describe().is_empty()));
}
