//! What the tests on real servers share: free ports, waiting with a deadline, and the servers.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(unreachable_pub, reason = "a module of many programs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

pub mod browser;
pub mod etcd;
pub mod failpoints;
pub mod heartwatch;
pub mod hosts;
pub mod influxd;
pub mod kafka;
pub mod mosquitto;
pub mod receiver;
pub mod server;
pub mod terminal;

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::Instant;

/// A TCP port on loopback that nobody listens on at this moment.
pub fn free_port() -> u16 {
    heartwatch_servers::free_port().unwrap()
}

/// Asks again and again until the condition holds; panics with `what` after `deadline`.
pub async fn eventually(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "after {deadline:?} it is still not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGSTOP to a child that runs, until it stands still: kill(2) returns before each of its threads has stopped.
pub fn stop(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::STOP).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().expect("it changes its state");
    assert!(status.stopped(), "it has ended: {status:?}");
}

/// Whether a program is installed. A test without its server says that it skips and returns, unless
/// `HEARTWATCH_REQUIRE_SERVICES=1` says that the server must be there.
pub fn installed(program: &str) -> bool {
    found(program).is_some()
}

/// Where a program is, by its name or its path; none (already said) where it isn't installed.
pub fn found(program: &str) -> Option<PathBuf> {
    let found =
        heartwatch_servers::find(program).or_else(|| Some(program.into()).filter(|path: &PathBuf| path.exists()));
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Says why a test does not run, where it may be left out.
pub fn skip(why: &str) {
    let required = std::env::var("HEARTWATCH_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "{why} and HEARTWATCH_REQUIRE_SERVICES=1");
    println!("skipped: {why}");
}

/// An HTTP server that answers one request with these bytes, for what no real server can be made to
/// say; its URL, and the head of the request.
pub async fn serve_once(answer: &str) -> (String, tokio::task::JoinHandle<String>) {
    let (url, requests) = serve_each(&[answer]).await;
    (url, tokio::spawn(async move { requests.await.unwrap().remove(0) }))
}

/// The same for one request after the other, each on a connection of its own.
pub async fn serve_each(answers: &[&str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // what is closed before all has been read is reset, and the answer may be gone with it
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
            requests.push(String::from_utf8_lossy(request.get(..length).unwrap_or_default()).into_owned());
        }
        requests
    });
    (url, requests)
}
