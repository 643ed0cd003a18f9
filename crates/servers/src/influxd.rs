//! InfluxDB 1.x.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::free_address;
use crate::server::Server;

/// Its program.
pub const PROGRAM: &str = "influxd";

/// What is different from the plain server.
#[derive(Debug, Clone, Default)]
pub struct InfluxdOptions {
    /// Whether it asks for a user: nobody has to be one until the first administrator exists.
    pub auth: bool,
    /// `max-body-size`: a larger write body gets 413.
    pub body_bytes_max: Option<u64>,
    /// A UDP listener on this port, whose rows go into the database `udp`.
    pub udp_port: Option<u16>,
    /// More of its configuration, at the end.
    pub more: String,
}

/// One that is not started yet, on a free port and over `influxdb` in this folder, beside `influxd.conf` and `influxd.log`.
///
/// # Errors
/// When there is no free port, or its configuration cannot be written.
pub fn influxd(program: &Path, folder: &Path, options: &InfluxdOptions) -> anyhow::Result<Server> {
    let http = free_address()?;
    let file = folder.join("influxd.conf");
    std::fs::write(&file, configuration(&folder.join("influxdb"), http, free_address()?, options))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Server {
        arguments: ["run", "-config", "influxd.conf"].map(Into::into).to_vec(),
        listens: Some(http),
        ..Server::new("influxd", program, folder)
    })
}

fn configuration(data: &Path, http: SocketAddr, rpc: SocketAddr, options: &InfluxdOptions) -> String {
    let InfluxdOptions { auth, body_bytes_max, udp_port, more } = options;
    let data = data.display();
    let body = body_bytes_max.map_or_else(String::new, |bytes| format!("max-body-size = {bytes}\n"));
    let udp = udp_port.map_or_else(String::new, |port| {
        format!(
            "[[udp]]\nenabled = true\nbind-address = \"127.0.0.1:{port}\"\ndatabase = \"udp\"\nbatch-timeout = \"100ms\"\n"
        )
    });
    format!(
        "reporting-enabled = false\nbind-address = \"{rpc}\"\n[meta]\ndir = \"{data}/meta\"\n\
         [data]\ndir = \"{data}/data\"\nwal-dir = \"{data}/wal\"\n[monitor]\nstore-enabled = false\n\
         [http]\nbind-address = \"{http}\"\nauth-enabled = {auth}\nlog-enabled = false\n{body}{udp}{more}"
    )
}
