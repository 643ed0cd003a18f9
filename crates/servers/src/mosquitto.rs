//! mosquitto, the MQTT broker.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::server::Server;
use crate::{find, free_address};

/// Its program.
pub const PROGRAM: &str = "mosquitto";
/// What makes its file of passwords.
pub const PASSWORD_PROGRAM: &str = "mosquitto_passwd";

/// What is different from the plain broker.
#[derive(Debug, Clone, Default)]
pub struct MosquittoOptions {
    /// Asks for this user and password.
    pub user: Option<(String, String)>,
    /// TLS with the authority that [`authority`] makes in its folder, and a certificate asked of every client.
    pub tls: bool,
    /// Keeps sessions and messages over a crash.
    pub persistence: bool,
    /// More lines for its configuration.
    pub lines: String,
}

/// One that is not started yet, on a free port, with `mosquitto.conf` and `mosquitto.log` in this folder.
///
/// # Errors
/// When there is no free port, or its files cannot be made.
pub fn mosquitto(program: &Path, folder: &Path, options: &MosquittoOptions) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut lines = format!("listener {} {}\nuser root\n", address.port(), address.ip());
    match &options.user {
        Some((user, password)) => {
            let made = find(PASSWORD_PROGRAM).context("mosquitto_passwd is not installed")?;
            let made = Command::new(made).current_dir(folder).args(["-b", "-c", "passwords", user, password]).status();
            anyhow::ensure!(made?.success(), "mosquitto_passwd makes no file of passwords");
            lines += &format!("password_file {}/passwords\nallow_anonymous false\n", folder.display());
        }
        None => lines += "allow_anonymous true\n",
    }
    if options.tls {
        authority(folder)?;
        let folder = folder.display();
        lines += &format!("cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n");
        lines += "require_certificate true\n";
    }
    if options.persistence {
        lines += &format!("persistence true\npersistence_location {}/\n", folder.display());
        lines += "autosave_interval 1\nautosave_on_changes true\n";
    }
    let file = folder.join("mosquitto.conf");
    std::fs::write(&file, lines + &options.lines).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Server {
        arguments: ["-c", "mosquitto.conf"].map(Into::into).to_vec(),
        listens: Some(address),
        ..Server::new("mosquitto", program, folder)
    })
}

/// Makes an authority in a folder (`ca.pem`), and certificates by it for 127.0.0.1 (`server.pem`, `server.key`) and for
/// a client (`client.pem`, `client.key`).
///
/// # Errors
/// What openssl says.
pub fn authority(folder: &Path) -> anyhow::Result<()> {
    let program = find("openssl").context("openssl is not installed")?;
    let openssl = |arguments: &[&str]| -> anyhow::Result<()> {
        let output = Command::new(&program).current_dir(folder).args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let root = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"];
    openssl(&[&root[..], &new_key].concat())?;
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n"),
        ("client", "extendedKeyUsage=clientAuth\n"),
    ] {
        let [key, request, certificate, extensions] = ["key", "csr", "pem", "ext"].map(|end| format!("{name}.{end}"));
        let subject = format!("/CN={name}");
        std::fs::write(folder.join(&extensions), format!("basicConstraints=CA:FALSE\n{extension}"))?;
        openssl(&[&["req", "-keyout", &key, "-out", &request, "-subj", &subject][..], &new_key].concat())?;
        let signed = ["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&[&signed[..], &["-days", "2", "-extfile", &extensions, "-out", &certificate]].concat())?;
    }
    Ok(())
}
