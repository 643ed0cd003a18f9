//! Export from a real InfluxDB.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod support;

use heartwatch::adapters::influx::{InfluxConfig, InfluxSink};
use heartwatch::ports::Sink;
use heartwatch::roles::cli::ExportArgs;
use heartwatch::roles::export::from_influx;
use support::influxd::Influxd;
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
    sink.write(lines.into_bytes()).await.unwrap();

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
