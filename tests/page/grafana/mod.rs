//! What Grafana is given in `grafana-provisioning/`, checked without a Grafana: every file against
//! strict types, every reference, every query of every panel, variable, annotation and alarm on a real
//! InfluxDB that the product's own writer has filled, and every alarm on sensors and publishers that are
//! well and that are not.
//!
//! It cannot show that Grafana draws what it is told; `make up` starts one to look at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod alarms;
mod catalogue;
mod database;
mod expression;
mod fixture;
mod model;
mod panels;
mod pictures;
mod references;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use model::{Dashboard, RuleFile};

/// The folder that is mounted as Grafana's `/etc/grafana/provisioning`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana-provisioning")
}

/// Every file in it, by its path from there.
fn files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn yaml<T: DeserializeOwned>(name: &str, text: &str) -> T {
    serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("grafana-provisioning/{name}: {error}"))
}

fn dashboards() -> Vec<Dashboard> {
    let json = files().into_iter().filter(|(name, _)| name.ends_with(".json"));
    json.map(|(name, text)| {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("grafana-provisioning/{name}: {error}"))
    })
    .collect()
}

fn rules() -> Vec<model::Rule> {
    let files = files().into_iter().filter(|(name, _)| name.starts_with("alerting/rules-"));
    let groups = files.flat_map(|(name, text)| yaml::<RuleFile>(&name, &text).groups);
    groups.flat_map(|group| group.rules).collect()
}
