//! Real servers on this machine, for the laboratory and the tests: InfluxDB, mosquitto, etcd and Kafka, each on a free
//! port, over a directory of its own, gone when whoever started it ends in any way.
//!
//! A server's module makes its configuration and hands out a [`Server`](server::Server), which is started, killed,
//! stopped, continued and started again on the same port and files.

pub mod directory;
pub mod etcd;
pub mod influxd;
pub mod kafka;
pub mod mosquitto;
pub mod program;
pub mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Ports that are tried: below those from which systems take the near end of a connection, which would have one
/// while its program is being started again.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// How many of them.
const PORTS_TRIED_MAX: u32 = 100;

/// A TCP port of 127.0.0.1 that nobody listens on at this moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let mut tried = (0..PORTS_TRIED_MAX).map(|_| fastrand::u16(PORTS));
    tried.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no free port on 127.0.0.1")
}

/// The same with its host.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

/// A program by its name, in `PATH` and in the usual places.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(Into::into));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A library that programs can be started with, in the usual places of Debian and others.
#[must_use]
pub fn find_library(name: &str) -> Option<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
    let folders = [multiarch.as_str(), "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime"];
    folders.map(|folder| Path::new(folder).join(name)).into_iter().find(|file| file.is_file())
}
