//! Export from a real InfluxDB.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use heartwatch::roles::cli::ExportArgs;
use heartwatch::roles::export::from_influx;
use heartwatch_adapters::influx::{InfluxConfig, InfluxSink};
use heartwatch_ports::Sink;
use support::heartwatch::{Program, command};
use support::influxd::Influxd;
use support::installed;
use url::Url;

#[tokio::test]
async fn what_is_in_influxdb_is_in_the_file() {
    let Some(server) = Influxd::start().await else { return };
    let config = InfluxConfig::at(Url::parse(&server.url()).unwrap());
    let sink = InfluxSink::new(config.clone()).unwrap();
    sink.prepare().await.unwrap();
    let mut lines = String::from("heartwatch_heartbeat,publisher=p seq=1i 1\n");
    for number in 1..=12_000 {
        lines += &format!("light,host=h,publisher=p value={number}i,note=\"=a,\\\"{number}\\\"\" {number}\n");
    }
    sink.write(lines.into()).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("all.csv");
    let args = ExportArgs {
        out: out.clone(),
        from: None,
        to: None,
        measurement: None,
        long: false,
        influx_url: None,
        influx_db: None,
        data_dir: None,
    };
    assert_eq!(from_influx(&args, config).await.unwrap().rows, 12_000);
    let mut reader = csv::Reader::from_path(out).unwrap();
    let header = ["time", "measurement", "publisher", "host", "note", "value"];
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), header);
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 12_000);
    let last = ["1970-01-01T00:00:00.000012Z", "light", "p", "h", "'=a,\"12000\"", "12000"];
    assert_eq!(records[11_999].iter().collect::<Vec<_>>(), last);
}

/// A database `heartwatch` with so many rows.
async fn filled(server: &Influxd, rows: usize) {
    let sink = InfluxSink::new(InfluxConfig::at(Url::parse(&server.url()).unwrap())).unwrap();
    sink.prepare().await.unwrap();
    for first in (1..=rows).step_by(20_000) {
        let mut lines = String::new();
        for number in first..(first + 20_000).min(rows + 1) {
            lines += &format!(
                "light,host=h,publisher=p value={number}i,note=\"a note of thirty-two characters\" {number}\n"
            );
        }
        sink.write(lines.into()).await.unwrap();
    }
}

/// The most memory that an export took, in KiB (proc_pid_status(5)), and the lines that it wrote.
async fn exported(directory: &Path, server: &Influxd, more: &[&str]) -> (u64, usize) {
    let mut export = command(directory);
    export.args(["export", "--out", "out.csv", "--influx-url", &server.url()]).args(more);
    let mut program = Program::start(export);
    let mut peak = 0;
    while program.runs() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(peak);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(program.exit(Duration::from_secs(5)).await.code(), Some(0), "{}", program.stderr());
    (peak, std::fs::read_to_string(directory.join("out.csv")).unwrap().lines().count())
}

#[tokio::test]
async fn ten_times_the_rows_take_the_same_memory_wide_and_long() {
    let Some(server) = Influxd::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    filled(&server, 20_000).await;
    let (few, lines) = exported(directory.path(), &server, &["--long"]).await;
    assert_eq!(lines, 40_001, "a line a value");
    filled(&server, 200_000).await;
    for (more, expected) in [(&["--long"][..], 400_001), (&[], 200_001)] {
        let (many, lines) = exported(directory.path(), &server, more).await;
        assert_eq!(lines, expected);
        assert!(few > 0 && many < few + 16 * 1_024, "{few} KiB for 20,000 rows, {many} KiB for 200,000");
    }
}

/// `script` (util-linux) gives it a terminal.
#[tokio::test]
async fn on_a_terminal_the_bar_knows_how_many_rows_influxdb_has() {
    if !installed("/usr/bin/script") {
        return;
    }
    let Some(server) = Influxd::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    filled(&server, 40_000).await;
    let export = format!(
        "stty cols 100; {} export --out out.csv --influx-url {}",
        env!("CARGO_BIN_EXE_heartwatch"),
        server.url()
    );
    let mut script = Command::new("/usr/bin/script");
    script.args(["-qec", &export, "/dev/null"]).current_dir(directory.path()).env("TERM", "xterm");
    let mut program = Program::start(script);
    assert!(program.exit(Duration::from_secs(60)).await.success(), "{}", program.stdout());
    let shown = program.stdout();
    // the rows are read twice: for the columns, and for the lines
    assert!(shown.contains("/80,000 rows") && shown.contains(" %"), "{shown}");
    assert!(shown.contains("40000 rows written to out.csv"), "{shown}");
}
