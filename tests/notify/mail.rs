//! Mail through a real SMTP server (aiosmtpd, Debian `python3-aiosmtpd`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use heartwatch_adapters::mail::{Encryption, Mail, MailConfig, MailServer};
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::notification::NotifyMessage;
use heartwatch_ports::{Notify as _, NotifyError};
use support::heartwatch::{PATIENCE, Program, RunOptions, Running, publish};
use support::{eventually, free_port, installed};

const SERVER: &str = "/usr/bin/aiosmtpd";

/// Starts it; what it is sent is on its standard output.
async fn server(port: u16, more: &[&str]) -> Program {
    // Options come before the handler's class.
    let mut arguments = vec!["-n".to_owned(), "-l".to_owned(), format!("127.0.0.1:{port}")];
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    arguments.extend(["-c", "aiosmtpd.handlers.Debugging", "stdout"].map(ToOwned::to_owned));
    let mut command = Command::new(SERVER);
    command.args(arguments).env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
    let server = Program::start(command);
    let answers = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    eventually("the mail server answers", PATIENCE, answers).await;
    server
}

fn config(port: u16) -> MailConfig {
    let server = MailServer {
        host: "localhost".to_owned(),
        port,
        encryption: Encryption::None,
        ca_file: None,
        login: None,
        from: "heartwatch@plant.example".parse().unwrap(),
    };
    let to = ["ops@plant.example", "Night Shift <night@plant.example>"].map(|to| to.parse().unwrap()).to_vec();
    MailConfig { server, to, timeout: Duration::from_secs(10) }
}

fn message() -> NotifyMessage {
    NotifyMessage {
        id: "m-17".into(),
        headline: "light: alive → dead".into(),
        text: "dead: silent for 5 s\n".into(),
        json: b"{}".to_vec(),
    }
}

#[tokio::test]
async fn a_verdict_change_is_mailed() {
    if !installed(SERVER) {
        return;
    }
    let port = free_port();
    let server = server(port, &[]).await;
    let config = format!(
        "[mail]\nserver = 'smtp://127.0.0.1:{port}'\nencryption = 'none'\nfrom = 'heartwatch@plant.example'\n\
         [[notify]]\nname = 'ops'\nemail = ['ops@plant.example']\n"
    );
    let running = Running::start(RunOptions { config, ..RunOptions::default() }).await;
    let mut publisher = publish(running.directory(), "light", running.mqtt_url());
    running.until("light", Verdict::Alive).await;
    publisher.kill();
    running.until("light", Verdict::Dead).await;
    eventually("the mail has come", PATIENCE, async || server.stdout().contains("heartwatch explain light")).await;
    let mail = server.stdout();
    for part in ["From: heartwatch@plant.example", "To: ops@plant.example", "X-Heartwatch-Delivery: monitor-", "PID "] {
        assert!(mail.contains(part), "{part} is not in\n{mail}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again_and_a_refusal_is_final() {
    if !installed(SERVER) {
        return;
    }
    let port = free_port();
    let mail = Mail::new(config(port)).unwrap();
    let error = mail.deliver(&message()).await.unwrap_err();
    assert!(matches!(error, NotifyError::Retry { .. }), "{error}");
    let server = server(port, &["-s", "600"]).await;
    mail.deliver(&message()).await.unwrap();
    eventually("the mail has come", PATIENCE, async || {
        let sent = server.stdout();
        sent.contains("night@plant.example") && sent.contains("dead: silent for 5 s")
    })
    .await;
    let long = NotifyMessage { text: "x".repeat(2_000), ..message() };
    let error = mail.deliver(&long).await.unwrap_err();
    assert!(matches!(&error, NotifyError::Refused { reason } if reason.contains("552")), "{error}");
}

fn certificate(directory: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("certificate.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
}

#[tokio::test]
async fn with_starttls_nothing_is_sent_to_a_server_that_nobody_vouches_for() {
    if !installed(SERVER) || !installed("/usr/bin/openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    let port = free_port();
    let tls = ["--tlscert", certificate.to_str().unwrap(), "--tlskey", key.to_str().unwrap()];
    let server = server(port, &tls).await;
    let mut unknown = config(port);
    unknown.server.encryption = Encryption::StartTls;
    let error = Mail::new(unknown.clone()).unwrap().deliver(&message()).await.unwrap_err();
    assert!(matches!(&error, NotifyError::Retry { reason, .. } if reason.contains("certificate")), "{error}");
    assert!(!server.stdout().contains("dead: silent"));
    let mut known = unknown;
    known.server.ca_file = Some(certificate);
    Mail::new(known).unwrap().deliver(&message()).await.unwrap();
    eventually("the mail has come", PATIENCE, async || server.stdout().contains("dead: silent for 5 s")).await;
}
