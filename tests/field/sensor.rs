//! Programs as publishers: the sensor in `fixtures/`, with every defect that it can show, through a real monitor
//! into a real InfluxDB.

use crate::support;
use std::path::Path;

use heartwatch_domain::time::Timestamp;
use heartwatch_domain::verdict::Verdict;
use heartwatch_system::clock::Clock;
use rustix::process::Signal;
use support::heartwatch::{
    PATIENCE, Program, RunOptions, Running, all_ended, children_of, command, finished, fixture, kill as signal,
};
use support::influxd::{Influxd, InfluxdOptions};
use support::mosquitto::Mosquitto;
use support::{eventually, free_port};

const DATABASE: &str = "heartwatch";
const LOAD: &str = "sensor.cpu_load";
const RANDOM: &str = "sensor.bounded_random_generator";
const COUNTER: &str = "sensor.generated_metrics_number";

fn options(influxd: &Influxd, config: &str) -> RunOptions {
    let influx = format!("[influx]\nurl = '{}'\nflush_interval = '100ms'\n", influxd.url());
    RunOptions { config: format!("{influx}{config}"), ..RunOptions::default() }
}

fn table(id: &str, arguments: &str) -> String {
    let sensor = fixture("sensor.sh");
    format!(
        "[[publisher]]\nid = '{id}'\nexec = \"{} --interval 0.1 {arguments}\"\ninterval = '500ms'\nenv = 'test'\n",
        sensor.display()
    )
}

/// What a query answers for one publisher; none where there is no series.
async fn number(influxd: &Influxd, what: &str, measurement: &str, publisher: &str, and: &str) -> Option<f64> {
    let query = format!("SELECT {what} FROM \"{measurement}\" WHERE \"publisher\" = '{publisher}' {and}");
    influxd.rows(DATABASE, &query).await.first().and_then(|row| row[1].as_f64())
}

async fn sum(influxd: &Influxd, measurement: &str, publisher: &str) -> Option<f64> {
    number(influxd, "sum(\"value\")", measurement, publisher, "AND \"env\" = 'test'").await
}

async fn count(influxd: &Influxd, measurement: &str, publisher: &str, and: &str) -> f64 {
    number(influxd, "count(\"value\")", measurement, publisher, and).await.unwrap_or(0.0)
}

/// Waits until an error metric of a publisher is more than 0.
async fn goes_wrong(influxd: &Influxd, measurement: &str, publisher: &str) {
    let wrong = async || sum(influxd, measurement, publisher).await.is_some_and(|sum| sum > 0.0);
    eventually(&format!("{measurement} of {publisher} is more than 0"), PATIENCE, wrong).await;
}

#[tokio::test]
async fn each_defect_causes_its_series_and_spares_the_rest() {
    let Some(influxd) = Influxd::start().await else { return };
    let mut config = String::new();
    for (id, arguments) in [
        ("normal", ""),
        ("zeros", "--defect zeros --every 3"),
        ("column", "--defect garbage-column --every 3"),
        ("line", "--defect garbage-line --every 3"),
        ("exit", "--defect exit --every 3"),
        ("noise", "--defect noise --every 3"),
        ("range", "--defect out-of-range --every 3"),
    ] {
        config += &table(id, arguments);
    }
    config += "[[publisher.column]]\nat = 1\nmeasurement = 'load'\nunit = 'cores'\nmin = 0\nmax = 8.5\n";
    config += &table("stuck", "--interval 0.02 --defect stuck --every 3");
    config += "run = 'in-process'\n";
    let running = Running::start(options(&influxd, &config)).await;

    for publisher in ["normal", "zeros", "column", "line", "exit", "noise"] {
        let stored = async || count(&influxd, LOAD, publisher, "").await >= 8.0;
        eventually(&format!("rows of {publisher}"), PATIENCE, stored).await;
    }
    // three zeros: stored and tagged, counted, and not among the good values
    goes_wrong(&influxd, "sensor_defect", "zeros").await;
    for measurement in [LOAD, RANDOM, COUNTER] {
        let bad = "AND \"is_valid_preprocess\" = 'False'";
        assert_eq!(number(&influxd, "max(\"value\")", measurement, "zeros", bad).await, Some(0.0), "{measurement}");
        let good = "AND \"is_valid_preprocess\" = 'True'";
        let least = number(&influxd, "min(\"value\")", measurement, "zeros", good).await.unwrap();
        assert!(least > 0.0, "{measurement}: {least} is among the good values");
    }
    // one column that cannot be read: its error, and the two others are there
    goes_wrong(&influxd, "sensor.error.bounded_random_generator", "column").await;
    let (load, random) = (count(&influxd, LOAD, "column", "").await, count(&influxd, RANDOM, "column", "").await);
    assert!(load > random && random > 0.0, "{load} loads and {random} random numbers");
    assert_eq!(sum(&influxd, "sensor.error.cpu_load", "column").await.unwrap_or(0.0), 0.0);
    // a line that cannot be read
    for error in ["cpu_load", "bounded_random_generator", "generated_metrics_number"] {
        goes_wrong(&influxd, &format!("sensor.error.{error}"), "line").await;
    }
    // out of its range: tagged and counted
    goes_wrong(&influxd, "sensor_defect", "range").await;
    let valid = async |valid: &str| {
        let and = format!("AND \"is_valid_preprocess\" = '{valid}' AND \"unit\" = 'cores'");
        number(&influxd, "min(\"value\")", "load", "range", &and).await
    };
    eventually("both are there", PATIENCE, async || valid("True").await.is_some() && valid("False").await.is_some())
        .await;
    assert!(valid("True").await.unwrap() > 0.0 && valid("False").await.unwrap() < 0.0);
    // it ends and is started again: its counter begins anew
    let begins = async || count(&influxd, COUNTER, "exit", "AND \"value\" = 1").await >= 2.0;
    eventually("the sensor that ends is started again", PATIENCE, begins).await;
    // one line for ever
    goes_wrong(&influxd, "sensor_defect", "stuck").await;
    running.program.says("the program prints one line over and over, it is started again").await;
    let begins = async || count(&influxd, COUNTER, "stuck", "AND \"value\" = 1").await >= 2.0;
    eventually("the sensor that is stuck is started again", PATIENCE, begins).await;
    running.program.says("its standard error: sensor: warning 3: the supply voltage is low").await;

    // what is not wrong is 0, and there
    for error in
        ["sensor.error.cpu_load", "sensor_defect", "connectivity_error", "batch_sending_error", "dropped_error"]
    {
        let there = async || count(&influxd, error, "normal", "AND \"env\" = 'test'").await >= 1.0;
        eventually(&format!("{error} of normal is there"), PATIENCE, there).await;
        // a machine with too much to do may confirm late, which is said
        if error != "batch_sending_error" {
            assert_eq!(sum(&influxd, error, "normal").await, Some(0.0), "{error}");
        }
    }
    // Not those that end or stick again and again: after ten starts in a minute they pause, and hang meanwhile.
    for publisher in ["normal", "zeros", "column", "line", "noise", "range"] {
        assert_eq!(running.publisher(publisher).await.unwrap().verdict, Verdict::Alive, "{publisher}");
    }
    let ledger = running.ledger().await;
    assert!(ledger.balances && ledger.total.lost == 0, "{ledger:?}");
    // the metrics that are no readings are not in the account, those that are are
    let words = ["ledger", "--reconcile", "--wait", "20s", "--url", running.page(), "--influx-url", &influxd.url()];
    let agreed = async || finished(running.directory(), &words, PATIENCE).await.code == Some(0);
    eventually("the ledger agrees with the database", PATIENCE, agreed).await;
}

/// A publisher of the sensor as its own program.
fn publish(directory: &Path, mqtt_url: &str, sensor: &str, more: &[&str]) -> Program {
    let mut command = command(directory);
    command.args(["publish", "--id", "sensor", "--mqtt", mqtt_url, "--interval", "200ms", "--heartbeat", "200ms"]);
    command.arg("--exec").arg(format!("{} {sensor}", fixture("sensor.sh").display()));
    command.arg("--data-dir").arg(directory.join("publisher")).args(more);
    Program::start(command)
}

#[tokio::test]
async fn a_program_that_hangs_is_hung_though_its_publisher_beats_and_it_does_not_outlive_it() {
    let running = Running::start(RunOptions::default()).await;
    let sensor = "--interval 0.1 --defect hang --every 5";
    let mut publisher = publish(running.directory(), running.mqtt_url(), sensor, &[]);
    running.until("sensor", Verdict::Alive).await;
    running.until("sensor", Verdict::Hung).await;
    let said = running.explain("sensor").await;
    let text = serde_json::to_string(&said).unwrap();
    assert!(text.contains("it beats, but its source has stood at 15"), "{text}");
    // ended by anybody, it is started again, and moves
    let sensors = children_of(publisher.pid());
    assert_eq!(sensors.len(), 1);
    signal(sensors[0], Signal::KILL);
    running.until("sensor", Verdict::Alive).await;
    let sensors = children_of(publisher.pid());
    assert_eq!(sensors.len(), 1);
    publisher.kill();
    all_ended(&sensors).await;
    running.until("sensor", Verdict::Dead).await;
}

#[tokio::test]
async fn rows_over_udp_are_the_same_points_and_the_log_says_that_they_may_be_lost() {
    let port = free_port();
    let udp = InfluxdOptions { udp_port: Some(port), ..InfluxdOptions::default() };
    let Some(influxd) = Influxd::start_with(udp).await else { return };
    let running = Running::start(options(&influxd, "")).await;
    let mut command = command(running.directory());
    let sensor = fixture("sensor.sh").display().to_string();
    command.args(["publish", "--id", "sensor", "--mqtt", running.mqtt_url(), "--exec-restart", "never", "--exec"]);
    command.arg(format!("{sensor} --interval 0.02 --lines 20")).args(["--repeats-max", "5"]);
    // the names of the field
    command.env("HOST_METRICS", "127.0.0.1").env("PORT_METRICS", port.to_string()).env("ENV", "plant");
    let mut publisher = Program::start(command);
    assert!(
        publisher.exit(PATIENCE).await.success(),
        "a program that ends and is not started again ends its publisher"
    );
    publisher.says("it may lose any of them").await;
    running.until("sensor", Verdict::Ended).await;
    let points = async |database: &str| {
        let query = format!("SELECT \"value\" FROM \"{COUNTER}\" WHERE \"env\" = 'plant' GROUP BY *");
        let answer = influxd.query(database, &query).await;
        let series = &answer["results"][0]["series"][0];
        (series["tags"].clone(), series["values"].as_array().cloned().unwrap_or_default())
    };
    eventually("all rows are stored", PATIENCE, async || points(DATABASE).await.1.len() == 20).await;
    eventually("rows came over UDP", PATIENCE, async || !points("udp").await.1.is_empty()).await;
    let ((tags, stored), (udp_tags, over_udp)) = (points(DATABASE).await, points("udp").await);
    assert_eq!(tags, udp_tags);
    assert!(over_udp.iter().all(|point| stored.contains(point)), "{over_udp:?}");
}

#[tokio::test]
async fn an_outage_of_the_broker_is_counted_and_written_afterwards_with_its_own_time() {
    let Some(influxd) = Influxd::start().await else { return };
    let Some(mut mosquitto) = Mosquitto::start().await else { return };
    let with_broker = RunOptions { mqtt: Some(mosquitto.url()), ..options(&influxd, "") };
    let running = Running::start(with_broker).await;
    let publisher = publish(running.directory(), &mosquitto.url(), "--interval 0.1", &["--env", "test"]);
    let there = async || sum(&influxd, "connectivity_error", "sensor").await == Some(0.0);
    eventually("nothing is wrong yet", PATIENCE, there).await;
    let newest = async |of: &str| {
        let query = format!("SELECT last(\"value\") FROM \"{of}\" WHERE \"publisher\" = 'sensor'");
        influxd.rows(DATABASE, &query).await.first().and_then(|row| row[0].as_i64()).unwrap_or(0)
    };
    mosquitto.kill();
    publisher.says("no connection to the MQTT broker").await;
    let restarted_at = Clock::start().wall().as_nanos();
    mosquitto.restart().await;
    goes_wrong(&influxd, "connectivity_error", "sensor").await;
    let query = "SELECT \"value\" FROM \"connectivity_error\" WHERE \"publisher\" = 'sensor' AND \"value\" > 0";
    let first = influxd.rows(DATABASE, query).await[0][0].as_i64().unwrap();
    // The publisher's own line says when the connection came back: its clock, and no time of ours between.
    publisher.says("connected to the MQTT broker again").await;
    let said = publisher.stderr();
    let line = said.lines().find(|line| line.contains("connected to the MQTT broker again")).unwrap();
    let back_at: Timestamp = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(first < back_at.as_nanos(), "it happened before the connection came back");
    let back = async || newest(LOAD).await > restarted_at;
    eventually("readings come again", PATIENCE, back).await;
    let zero = async || {
        let last =
            influxd.rows(DATABASE, "SELECT last(\"value\") FROM \"connectivity_error\" WHERE \"env\" = 'test'").await;
        last.first().is_some_and(|row| row[1] == 0)
    };
    eventually("it is 0 again", PATIENCE, zero).await;
}

#[tokio::test]
async fn what_earlier_runs_left_is_given_up_on_demand_and_counted() {
    let running = Running::start(RunOptions::default()).await;
    // nobody confirms at this address
    let mut offline =
        publish(running.directory(), "mqtt://127.0.0.1:1", "--interval 0.02 --lines 10", &["--exec-restart", "never"]);
    offline.says("the source has ended").await;
    offline.kill();
    let publisher = publish(running.directory(), running.mqtt_url(), "--interval 0.1", &["--clear-data"]);
    publisher.says("--clear-data: readings that nobody has confirmed were given up readings=30").await;
    let lost = async || {
        let ledger = running.ledger().await;
        ledger.total.lost == 30
    };
    eventually("the monitor counts them as lost", PATIENCE, lost).await;
    running.until("sensor", Verdict::Alive).await;
}

#[tokio::test]
async fn a_reload_starts_a_changed_program_anew_and_leaves_the_others_alone() {
    let Some(influxd) = Influxd::start().await else { return };
    let (first, second) = (table("changed", "--seed 1"), table("same", "--seed 2"));
    let running = Running::start(options(&influxd, &format!("{first}{second}"))).await;
    for publisher in ["changed", "same"] {
        running.until(publisher, Verdict::Alive).await;
    }
    let pid = running.publisher("same").await.unwrap().pid;
    let file = running.directory().join("heartwatch.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replacen("env = 'test'", "env = 'plant'", 1)).unwrap();
    running.program.signal(Signal::HUP);
    let anew = async || count(&influxd, LOAD, "changed", "AND \"env\" = 'plant'").await > 0.0;
    eventually("the changed program's rows have the new tag", PATIENCE, anew).await;
    assert_eq!(running.publisher("same").await.unwrap().pid, pid);
    assert_eq!(count(&influxd, LOAD, "same", "AND \"env\" = 'plant'").await, 0.0);
}
