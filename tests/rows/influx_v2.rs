//! The write API of InfluxDB 2.x against a server that is not ours: VictoriaMetrics speaks it. A
//! stand-in for the good path and for credentials that it does not accept: it answers 204 to bad rows as
//! well, and keeps milliseconds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::time::Duration;

use heartwatch_adapters::influx::{InfluxConfig, InfluxSink, InfluxVersion};
use heartwatch_ports::credentials::Secret;
use heartwatch_ports::{Sink, SinkError};
use heartwatch_servers::server::Server;
use support::{eventually, found};
use tempfile::TempDir;
use url::Url;

const PROGRAM: &str = "/usr/bin/victoria-metrics";

/// A VictoriaMetrics of the test's own, gone when the test ends.
struct VictoriaMetrics {
    url: String,
    _server: Server,
    _directory: TempDir,
}

impl VictoriaMetrics {
    async fn start(more: &[&str]) -> Option<Self> {
        let program = found(PROGRAM)?;
        let directory = TempDir::new().unwrap();
        let address = heartwatch_servers::free_address().unwrap();
        let mut arguments = vec![format!("-httpListenAddr={address}"), "-storageDataPath=data".to_owned()];
        arguments.push("-memory.allowedBytes=64MB".to_owned());
        arguments.extend(more.iter().map(|&more| more.to_owned()));
        let mut server = Server::new("victoria-metrics", &program, directory.path());
        (server.arguments, server.listens) = (arguments.into_iter().map(Into::into).collect(), Some(address));
        server.start().await.unwrap();
        Some(Self { url: format!("http://{address}"), _server: server, _directory: directory })
    }

    async fn exported(&self, metric: &str) -> String {
        let url = format!("{}/api/v1/export?match[]={metric}", self.url);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }
}

#[tokio::test]
async fn rows_arrive_over_the_write_api_of_2x() {
    heartwatch_system::rustls_provider::install();
    let Some(server) = VictoriaMetrics::start(&[]).await else { return };
    let mut config = InfluxConfig::at(Url::parse(&server.url).unwrap());
    config.version = InfluxVersion::V2;
    config.org = Some("plant".to_owned());
    config.bucket = Some("hall 3".to_owned());
    config.token = Some(Secret::new("a token"));
    for gzip in [false, true] {
        // compressed is only what goes to another machine: this one, by an address that is not taken for it
        config.url.set_host(Some(if gzip { "0.0.0.0" } else { "127.0.0.1" })).unwrap();
        let sink = InfluxSink::new(config.clone()).unwrap();
        sink.prepare().await.unwrap();
        let now = heartwatch_system::clock::Clock::start().wall().as_nanos();
        let rows: String =
            (0..50).map(|n: i64| format!("light_{gzip},publisher=p value={n}i {}\n", now + n * 1_000_000)).collect();
        sink.write(rows.into()).await.unwrap();
        let metric = format!("light_{gzip}_value");
        eventually("all rows are there", Duration::from_secs(30), async || {
            let exported = server.exported(&metric).await;
            let values = exported.split_once("\"values\":[").and_then(|(_, rest)| rest.split_once(']'));
            values.is_some_and(|(values, _)| values.split(',').count() == 50)
                && exported.contains("\"publisher\":\"p\"")
        })
        .await;
    }
}

#[tokio::test]
async fn a_wrong_token_is_a_matter_of_configuration_and_says_so() {
    heartwatch_system::rustls_provider::install();
    // It knows one user and no tokens: every token is a wrong one.
    let login = ["-httpAuth.username=somebody", "-httpAuth.password=else"];
    let Some(server) = VictoriaMetrics::start(&login).await else { return };
    let mut config = InfluxConfig::at(Url::parse(&server.url).unwrap());
    config.version = InfluxVersion::V2;
    config.org = Some("plant".to_owned());
    config.bucket = Some("hall 3".to_owned());
    config.token = Some(Secret::new("a wrong token"));
    let refused = InfluxSink::new(config).unwrap().write(b"light value=1i 1\n".as_slice().into()).await.unwrap_err();
    let SinkError::Misconfigured { reason } = refused else { panic!("{refused:?}") };
    assert!(reason.contains("refuses the token"), "{reason}");
    assert!(!reason.contains("a wrong token"), "the secret itself is not told: {reason}");
}
