//! Other hosts on this machine: a PID namespace and a name each, and where it matters a network with a link that can be cut.

use std::path::Path;
use std::process::Command;

use super::heartwatch::{PROGRAM, Program, command, command_of};
use super::installed;

/// The command of an agent that beats every 200 ms, with its outbox in `directory`.
pub fn agent_command(directory: &Path, id: &str, arguments: &[&str]) -> Command {
    let mut command = command(directory);
    command.args(["agent", "--id", id, "--name", id, "--heartbeat", "200ms", "--data-dir"]);
    command.arg(directory.join("data")).args(arguments);
    command
}

/// The PID of the program with these words in its command line.
pub fn pid_with(words: &[&str]) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let text = std::fs::read(entry.path().join("cmdline")).ok()?;
        let arguments: Vec<_> = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word)).collect();
        let is_ours = arguments.first().is_some_and(|program| *program == PROGRAM);
        (is_ours && words.iter().all(|word| arguments.iter().any(|argument| argument == word))).then_some(pid)
    })
}

/// A command as a line of a shell script.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
}

const UNSHARE: [&str; 5] = ["--pid", "--fork", "--mount-proc", "--uts", "--kill-child"];

/// Whether this user may make another host.
pub fn can_be_made() -> bool {
    Command::new("unshare").args(UNSHARE).arg("true").status().is_ok_and(|status| status.success())
}

/// A command of the program that sees no processes but those that it starts, as on a host of its own; an ordinary one where
/// that cannot be made, and neither can another host.
pub fn command_apart(directory: &Path) -> Command {
    if !can_be_made() {
        return command(directory);
    }
    let mut unshare = command_of("unshare", directory);
    unshare.args(UNSHARE).arg(PROGRAM);
    unshare
}

/// Starts the programs of these lines on another host, as far as processes and names go: a PID namespace and a name of
/// its own; and a network of its own where one is given. `None` (already said) where that cannot be made.
pub fn other_host(directory: &Path, name: &str, lines: &[String], network: Option<&Network>) -> Option<Program> {
    if !can_be_made() {
        let required = std::env::var("HEARTWATCH_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "this test needs root, for a PID namespace");
        println!("skipped: another host needs root, for a PID namespace");
        return None;
    }
    let started: String = lines.iter().map(|line| format!("{line} &\n")).collect();
    let script = format!("hostname {name}\n{started}wait\n");
    let mut unshare = match network {
        Some(network) => {
            let mut ip = command_of(Network::IP, directory);
            ip.args(["netns", "exec", &network.name, "unshare"]);
            ip
        }
        None => command_of("unshare", directory),
    };
    unshare.args(UNSHARE).args(["sh", "-c", &script]);
    Some(Program::start(unshare))
}

/// A network namespace, and a link to it that can be cut; both are gone when the test ends in any way.
pub struct Network {
    name: String,
    link: String,
    /// The first three numbers of its addresses: ours ends in 1.
    pub net: String,
}

impl Network {
    const IP: &str = "/usr/sbin/ip";

    /// None (already said) where it cannot be made.
    pub fn new() -> Option<Self> {
        let number = std::process::id() % 60_000;
        let (name, link) = (format!("hw{number}"), format!("hwl{number}"));
        let net = format!("10.{}.{}", 100 + number / 250 % 100, number % 250);
        let network = Self { name, link, net };
        let Network { name, link, net } = &network;
        let peer = format!("{link}p");
        let made = installed(Self::IP)
            && ip(&format!("netns add {name}"))
            && ip(&format!("link add {link} type veth peer name {peer} netns {name}"))
            && ip(&format!("addr add {net}.1/24 dev {link}"))
            && ip(&format!("link set {link} up"))
            && ip(&format!("-n {name} addr add {net}.2/24 dev {peer}"))
            && ip(&format!("-n {name} link set {peer} up"))
            && ip(&format!("-n {name} link set lo up"));
        if !made {
            let required = std::env::var("HEARTWATCH_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "this test needs root, for a network namespace");
            println!("skipped: a network namespace needs root");
        }
        made.then_some(network)
    }

    /// Cuts the link.
    pub fn cut(&self) {
        assert!(ip(&format!("link set {} down", self.link)));
    }

    /// Mends it.
    pub fn restore(&self) {
        assert!(ip(&format!("link set {} up", self.link)));
    }
}

fn ip(arguments: &str) -> bool {
    Command::new(Network::IP).args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.link));
        let _ = ip(&format!("netns del {}", self.name));
    }
}
