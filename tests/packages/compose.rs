//! The stack of `make up`, checked as far as it can be without a container engine: what the files say is
//! read strictly and fits together, heartwatch accepts its configuration, mosquitto its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_yaml_ng::Value;
use support::{eventually, free_port, installed};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("deploy/compose")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compose {
    name: String,
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: String,
    build: Option<Build>,
    #[serde(default)]
    command: Vec<String>,
    pid: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, Value>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    healthcheck: Option<HealthCheck>,
    stop_grace_period: Option<String>,
    restart: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    context: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dependency {
    condition: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthCheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u8,
}

fn compose() -> Compose {
    serde_yaml_ng::from_str(&text(&folder().join("compose.yaml")))
        .unwrap_or_else(|error| panic!("compose.yaml: {error}"))
}

#[test]
fn the_stack_is_whole_and_its_versions_are_pinned() {
    let compose = compose();
    assert_eq!(compose.name, "heartwatch");
    let with = |profile: &str| {
        let matching =
            compose.services.iter().filter(|(_, service)| service.profiles.iter().any(|name| name == profile));
        matching.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(with("full"), ["etcd", "kafka"]);
    let plain = compose.services.iter().filter(|(_, service)| service.profiles.is_empty());
    assert_eq!(
        plain.map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["grafana", "heartwatch", "influxdb", "mosquitto"]
    );
    let mut mounted = BTreeSet::new();
    let mut published = BTreeSet::new();
    for (name, service) in &compose.services {
        let tag = service.image.rsplit_once(':').map_or("", |(_, tag)| tag);
        let pinned = tag == "local" || tag.trim_start_matches('v').split('.').count() == 3;
        assert!(pinned, "{name}: {} is not one version", service.image);
        assert_eq!(service.restart, "unless-stopped", "{name}");
        for port in &service.ports {
            let parts: Vec<&str> = port.split(':').collect();
            assert!(parts.len() == 3 && parts[0] == "127.0.0.1", "{name}: {port} is open to the network");
            assert!(published.insert(parts[1].to_owned()), "{name}: port {} twice", parts[1]);
        }
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(folder().join(source).exists(), "{name}: {source} is not there");
                assert!(volume.ends_with(":ro"), "{name}: {volume} can be changed by the container");
            } else {
                assert!(compose.volumes.contains_key(source), "{name}: no volume {source}");
                mounted.insert(source);
            }
        }
        for (other, dependency) in &service.depends_on {
            let other = &compose.services[other];
            let is_known = match dependency.condition.as_str() {
                "service_healthy" => other.healthcheck.is_some(),
                "service_started" => true,
                _ => false,
            };
            assert!(is_known && other.profiles.is_empty(), "{name}: {dependency:?}");
        }
        if let Some(check) = &service.healthcheck {
            assert!(["CMD", "CMD-SHELL"].contains(&check.test[0].as_str()) && check.retries > 0, "{name}");
            for time in [&check.interval, &check.timeout] {
                assert!(heartwatch_domain::time::parse_duration(time).is_ok(), "{name}: {time}");
            }
        }
    }
    assert_eq!(mounted.len(), compose.volumes.len(), "every volume is used");
    assert!(published.contains("3000") && published.contains("8080"));
    let grafana = &compose.services["grafana"];
    assert!(grafana.volumes.iter().any(|volume| volume.contains(":/etc/grafana/provisioning:")));
    let home = grafana.environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let home = home.strip_prefix("/etc/grafana/provisioning/").unwrap();
    assert!(root().join("grafana-provisioning").join(home).exists(), "{home}");
    let source = text(&root().join("grafana-provisioning/datasources/influxdb.yaml"));
    assert!(source.contains("url: http://influxdb:8086"), "Grafana finds the database by its service's name");
}

#[test]
fn the_image_is_small_and_not_root_and_says_how_it_is() {
    let dockerfile = text(&root().join("Dockerfile"));
    let lines = || dockerfile.lines().filter(|line| !line.starts_with('#'));
    let stages: Vec<&str> = lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    let [build, image] = stages.as_slice() else { panic!("{stages:?}: not a stage to build and one to run") };
    let manifest = text(&root().join("Cargo.toml"));
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert!(build.starts_with(&format!("rust:{rust}.")), "{build}, and Cargo.toml wants {rust}");
    assert!(image.starts_with("debian:12.") && image.ends_with("-slim"), "{image}");
    let user = lines().position(|line| line == "USER heartwatch").expect("not root");
    let entry = lines().position(|line| line.starts_with("ENTRYPOINT")).unwrap();
    assert!(user < entry && dockerfile.contains("useradd --system"));
    assert!(dockerfile.contains("HEALTHCHECK ") && dockerfile.contains("CMD [\"heartwatch\", \"status\", \"--json\"]"));
    // what is copied is there, and the engine is given it
    let ignore = text(&root().join(".dockerignore"));
    for line in lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source}");
            let top = source.split('/').next().unwrap();
            assert!(ignore.lines().any(|line| line == format!("!{top}")), "{top} is not sent to the engine");
        }
    }
    for target in manifest.lines().filter_map(|line| line.strip_prefix("path = \"")) {
        let top = target.split('/').next().unwrap();
        assert!(ignore.lines().any(|line| line == format!("!{top}")), "cargo looks for {target}");
    }
}

/// What the Dockerfile copies is enough for cargo: every target of the manifest has its file, and what the
/// build script reads is there.
#[test]
fn the_image_is_built_from_all_that_the_build_needs() {
    let context = tempfile::tempdir().unwrap();
    let dockerfile = text(&root().join("Dockerfile"));
    let build = dockerfile.split("\nFROM ").nth(1).unwrap();
    for copied in build.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let mut words: Vec<&str> = copied.split_whitespace().collect();
        let to = context.path().join(words.pop().unwrap());
        for from in words {
            let mut copy = Command::new("cp");
            assert!(copy.arg("-r").arg(root().join(from)).arg(&to).status().unwrap().success(), "{copied}");
        }
    }
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(context.path());
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text(&root().join("crates/fleet/build.rs")).contains("../../proto")
            && context.path().join("proto/etcd.proto").exists()
    );
}

#[test]
fn heartwatch_accepts_the_configuration_of_the_stack() {
    let compose = compose();
    let service = &compose.services["heartwatch"];
    assert_eq!(service.command, ["run", "--config", "/etc/heartwatch/heartwatch.toml"]);
    assert!(service.pid.as_deref() == Some("host") && service.stop_grace_period.is_some());
    assert!(root().join("deploy/compose").join(&service.build.as_ref().unwrap().context).join("Dockerfile").exists());
    let toml = text(&folder().join("heartwatch.toml"));
    for (scheme, other) in [("mqtt://mosquitto:1883", "mosquitto"), ("http://influxdb:8086", "influxdb")] {
        assert!(toml.contains(scheme) && compose.services.contains_key(other), "{scheme}");
    }
    // the paths of the image, here
    let dir = tempfile::tempdir().unwrap();
    let here = toml
        .replace("/usr/share/heartwatch/fixtures", root().join("fixtures").to_str().unwrap())
        .replace("/var/lib/heartwatch", dir.path().join("data").to_str().unwrap());
    let config = dir.path().join("heartwatch.toml");
    fs::write(&config, here).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_heartwatch"));
    check.args(["check", "--config"]).arg(&config);
    for name in ["HEARTWATCH_WEB_TOKEN", "HEARTWATCH_TOKEN"] {
        let value = service.environment[name].as_str().unwrap();
        check.env(name, value.trim_start_matches("${HEARTWATCH_WEB_TOKEN:-").trim_end_matches('}'));
    }
    let output = check.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + String::from_utf8_lossy(&output.stderr).as_ref();
    assert!(output.status.success(), "{said}");
}

struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[actix_rt::test]
async fn mosquitto_starts_with_the_configuration_of_the_stack() {
    if !installed(MOSQUITTO) {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = dir.path().to_str().unwrap();
    let here = text(&folder().join("mosquitto.conf"))
        .replace("listener 1883", &format!("listener {port} 127.0.0.1"))
        .replace("/mosquitto/data/", &format!("{path}/"));
    let config = dir.path().join("mosquitto.conf");
    // as root it would change to a user that cannot write here
    fs::write(&config, here + "\nuser root\n").unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut command = Command::new(MOSQUITTO);
    command.arg("-c").arg(&config).stdout(log.try_clone().unwrap()).stderr(Stdio::from(log));
    let mut broker = Broker(command.spawn().unwrap());
    eventually("mosquitto takes connections", Duration::from_secs(10), async || {
        let ended = broker.0.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", text(&dir.path().join("log")));
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
}
