//! What the tests on real servers share: free ports, waiting with a deadline, and the servers.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

pub mod influxd;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// A TCP port on loopback that nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks again and again until the condition holds; panics with `what` after `deadline`.
pub async fn eventually(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "after {deadline:?} it is still not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a server is installed. A test without its server says that it skips and returns, unless
/// `HEARTWATCH_REQUIRE_SERVICES=1` says that the server must be there.
pub fn installed(program: &str) -> bool {
    if Path::new(program).exists() {
        return true;
    }
    let required = std::env::var("HEARTWATCH_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "{program} is not installed and HEARTWATCH_REQUIRE_SERVICES=1");
    println!("skipped: {program} is not installed");
    false
}
