//! The InfluxDB adapter and the line protocol against a real InfluxDB 1.6.7.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use support::influxd::{Influxd, InfluxdOptions};

#[tokio::test]
async fn the_test_server_starts_stops_and_keeps_its_data() {
    let user = Some(("admin".to_owned(), "secret".to_owned()));
    let Some(mut server) = Influxd::start_with(InfluxdOptions { user, ..Default::default() }).await else { return };
    server.query("", "CREATE DATABASE \"kept\"").await;
    server.kill();
    assert!(!server.answers().await);
    server.restart().await;
    let names = server.query("", "SHOW DATABASES").await.to_string();
    assert!(names.contains("kept"), "{names}");
    server.pause();
    assert!(!server.answers().await);
    server.resume();
    assert!(server.answers().await);
}
