//! etcd, of one member or more.

use std::path::Path;

use crate::free_address;
use crate::mosquitto::authority;
use crate::server::Server;

/// Its program.
pub const PROGRAM: &str = "etcd";

/// Its members, not started yet: each on free ports, over `NAME` in this folder, with `NAME.log` beside it. With TLS for
/// its clients, its authority is `ca.pem` in the folder.
///
/// # Errors
/// When there are no free ports, or the authority cannot be made.
pub fn etcd(program: &Path, folder: &Path, members: usize, tls: bool) -> anyhow::Result<Vec<Server>> {
    if tls {
        authority(folder)?;
    }
    let scheme = if tls { "https" } else { "http" };
    let mut peers = Vec::new();
    for number in 1..=members {
        peers.push((format!("n{number}"), format!("http://{}", free_address()?)));
    }
    let cluster = peers.iter().map(|(name, peer)| format!("{name}={peer}")).collect::<Vec<_>>().join(",");
    let member = |(name, peer): &(String, String)| {
        let clients = free_address()?;
        let client_url = format!("{scheme}://{clients}");
        let mut arguments =
            vec!["--name", name, "--data-dir", name, "--logger", "zap", "--initial-cluster-state", "new"];
        arguments.extend(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        arguments.extend(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        arguments.extend(["--initial-cluster", &cluster]);
        if tls {
            arguments.extend(["--cert-file", "server.pem", "--key-file", "server.key"]);
        }
        let arguments = arguments.into_iter().map(Into::into).collect();
        Ok(Server { arguments, listens: Some(clients), ..Server::new(name, program, folder) })
    };
    peers.iter().map(member).collect()
}
