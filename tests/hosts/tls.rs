//! TLS and logins between agents, servers and etcd, with certificates that openssl has made.
#![cfg(feature = "hosts")]

use crate::support;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::etcd::Etcd;
use support::heartwatch::{Program, command, finished};
use support::mosquitto::authority;
use support::{eventually, free_port, installed};

const DEADLINE: Duration = Duration::from_secs(60);
const OPENSSL: &str = "/usr/bin/openssl";

fn agent(directory: &Path, id: &str, arguments: &[&str]) -> Program {
    let mut command = command(directory);
    command.args(["agent", "--id", id, "--heartbeat", "500ms", "--data-dir"]);
    command.arg(directory.join(id)).args(arguments);
    Program::start(command)
}

fn server(directory: &Path, at: &str, arguments: &[&str]) -> Program {
    let mut command = command(directory);
    command.args(["server", "--web", "off", "--listen", at]).args(arguments);
    Program::start(command)
}

#[tokio::test]
async fn agents_and_the_console_reach_a_server_with_a_certificate_and_nobody_reaches_it_without_tls() {
    if !installed(OPENSSL) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    let at = format!("127.0.0.1:{}", free_port());
    let server = server(directory.path(), &at, &["--certificate-file", "server.pem", "--key-file", "server.key"]);
    server.says("heartwatch server runs").await;
    let url = format!("https://{at}");
    let list = async || {
        let words = ["server", "list", "--json", "--server", &url, "--server-ca-file", "ca.pem"];
        let done = finished(directory.path(), &words, DEADLINE).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        serde_json::from_str::<Value>(&done.stdout).unwrap()["agents"].as_array().unwrap().clone()
    };
    assert!(list().await.is_empty());

    let _trusted = agent(directory.path(), "trusted", &["--server", &url, "--server-ca-file", "ca.pem"]);
    let stranger = agent(directory.path(), "stranger", &["--server", &url]);
    let _plain = agent(directory.path(), "plain", &["--server", &at]);
    eventually("the agent that trusts the authority is there", DEADLINE, async || !list().await.is_empty()).await;
    stranger.says("UnknownIssuer").await;
    let sent = async || list().await.iter().any(|agent| agent["messages"].as_u64().unwrap() > 2);
    eventually("its messages come", DEADLINE, sent).await;
    let agents = list().await;
    assert_eq!(agents.len(), 1, "{agents:?}");
    assert_eq!(agents[0]["client_id"], "trusted");

    // the console is a socket on this host, whose files say who may
    let plain = finished(directory.path(), &["server", "list", "--server", &at], DEADLINE).await;
    assert_eq!(plain.code, Some(0), "{plain:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_file() {
    if !installed(OPENSSL) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    let at = format!("127.0.0.1:{}", free_port());
    let url = format!("https://{at}");
    let of_server = ["server", "--web", "off", "--listen", &at];
    let of_agent = ["agent", "--id", "a", "--server"];
    for (code, program, more, says) in [
        (2, of_server.as_slice(), ["--certificate-file", "server.pem"].as_slice(), "--key-file"),
        (2, &of_server, &["--key-file", "server.key"], "--certificate-file"),
        (1, &of_server, &["--certificate-file", "server.pem", "--key-file", "ca.pem"], "the key ca.pem"),
        (1, &of_server, &["--certificate-file", "no.pem", "--key-file", "server.key"], "the certificate no.pem"),
        (1, &of_server, &["--certificate-file", "ca.pem", "--key-file", "server.key"], "KeyMismatch"),
        (1, &of_agent, &[&url, "--server-ca-file", "server.key"], "the CA file server.key"),
        (1, &of_agent, &[&at, "--server-ca-file", "ca.pem"], "without TLS"),
    ] {
        let words = [program, more].concat();
        let done = finished(directory.path(), &words, DEADLINE).await;
        assert_eq!(done.code, Some(code), "{words:?}: {done:?}");
        assert!(done.stderr.contains(says), "{words:?}: {done:?}");
    }
}

#[tokio::test]
async fn agents_and_servers_log_in_at_an_etcd_with_tls() {
    let Some(mut etcd) = Etcd::start_with_tls().await else { return };
    etcd.ask_for_login("hunter2");
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "hunter2\n").unwrap();
    let (ca_file, endpoints) = (etcd.ca_file(), etcd.endpoints());
    let program = |arguments: &[&str], more: &[(&str, &str)]| {
        let mut command = command(directory.path());
        command.args(arguments).args(["--etcd", &endpoints]);
        command.env("HEARTWATCH_ETCD_CA_FILE", &ca_file).env("HEARTWATCH_ETCD_USER", "root");
        command.envs(more.iter().copied());
        Program::start(command)
    };
    let file = [("HEARTWATCH_ETCD_PASSWORD_FILE", password_file.to_str().unwrap())];
    let (at, agents) = (format!("127.0.0.1:{}", free_port()), ["one", "two", "three"]);
    let server = program(&["server", "--web", "off", "--listen", &at, "--data-dir", "server"], &file);
    server.says("heartwatch server runs").await;
    let started: Vec<Program> = agents
        .iter()
        .zip([file, [("HEARTWATCH_ETCD_PASSWORD", "wrong-one")], [("HEARTWATCH_ETCD_CA_FILE", "")]])
        .map(|(id, more)| {
            let words = ["agent", "--id", id, "--name", id, "--server", &at, "--lease", "2s", "--data-dir", id];
            let login = [("HEARTWATCH_ETCD_PASSWORD", "hunter2")];
            let more =
                if more[0].0 == "HEARTWATCH_ETCD_CA_FILE" { [more[0], login[0]].to_vec() } else { more.to_vec() };
            program(&words, &more)
        })
        .collect();
    let beats = |id: &str| etcd.get(&format!("/monitor/heartbeat/{id}")).contains("alive");
    eventually("its heartbeat is there", DEADLINE, async || beats("one")).await;
    started[1].says("authentication failed").await;
    started[2].says("UnknownIssuer").await;
    assert!(!beats("two") && !beats("three"));

    // A member that starts again knows no token of before.
    etcd.restart(0).await;
    let beats = |id: &str| etcd.get(&format!("/monitor/heartbeat/{id}")).contains("alive");
    let stored = |key: &str| etcd.get(key);
    let words = ["server", "config", "one", r#"{"interval": 0.5}"#, "--server", &at];
    let configured = finished(directory.path(), &words, DEADLINE).await;
    assert_eq!(configured.code, Some(0), "{configured:?}");
    let applied = async || stored("/monitor/status/one").contains("\"interval\":0.5");
    eventually("it is in force", DEADLINE, applied).await;
    // for longer than its lease lasts
    tokio::time::sleep(Duration::from_secs(3)).await;
    eventually("its heartbeat is there", DEADLINE, async || beats("one")).await;
    assert!(!beats("two") && !beats("three"));
    for program in started.iter().chain([&server]) {
        let said = format!("{}{}", program.stdout(), program.stderr());
        assert!(!said.contains("hunter2") && !said.contains("wrong-one"), "{said}");
    }
}
