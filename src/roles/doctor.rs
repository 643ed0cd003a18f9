//! `heartwatch doctor`: how this machine, the configuration, the data directory and the servers look from here; a page to paste
//! into a report. Nothing secret is in it.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use indicatif::BinaryBytes;
use tokio::net::TcpStream;
use url::Url;

use super::cli::{AskArgs, DoctorArgs};
use crate::config::{Broker, Layers, Loaded, Overrides, Settings, Way, load};
use heartwatch_adapters::monitor::AskError;
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::values::describe_bytes;
use heartwatch_system::clock::Clock;
use heartwatch_system::descriptors::{self, Shares};
use heartwatch_system::private_files::readable_by_everybody;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Less room than this on the disk is worth a word: 512 MiB.
const FREE_BYTES_MIN: u64 = 512 * 1024 * 1024;
/// Fewer descriptors than this are worth a word.
const DESCRIPTORS_MIN: u64 = 4_096;

/// The page that is being written, and how much of it is wrong.
#[derive(Default)]
struct Page {
    text: String,
    wrong: usize,
}

impl Page {
    fn heading(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n## {title}\n");
    }

    fn line(&mut self, what: &str, found: impl AsRef<str>) {
        let _ = writeln!(self.text, "- {what}: {}", found.as_ref());
    }

    /// Something that has to be put right.
    fn wrong(&mut self, what: &str, found: impl AsRef<str>) {
        self.wrong += 1;
        self.line(what, format!("**{}**", found.as_ref()));
    }
}

/// Looks, and prints what it finds; the answer is the exit code: 1 when something is wrong.
///
/// # Errors
/// When standard output cannot be written.
pub(super) async fn doctor(args: &DoctorArgs) -> anyhow::Result<u8> {
    let mut page = Page { text: "# heartwatch doctor\n".to_owned(), ..Page::default() };
    machine(&mut page);
    page.heading("Configuration");
    let flags = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
    let layers = Layers::of_this_process(args.config.clone(), flags);
    let file = layers.file.as_ref().map_or_else(|| "none: the defaults".to_owned(), |file| file.display().to_string());
    page.line("file", file);
    match load(&layers) {
        Err(mistakes) => {
            for mistake in &mistakes.0 {
                page.wrong("mistake", mistake.to_string());
            }
        }
        Ok(Loaded { settings, notes }) => {
            for note in notes {
                page.line("note", note);
            }
            page.line("publishers", settings.publishers.len().to_string());
            page.line("devices", settings.foreign.len().to_string());
            page.line("rules", settings.rules.len().to_string());
            data(&mut page, &settings);
            servers(&mut page, &settings).await;
        }
    }
    monitor(&mut page, args).await?;
    let found = match page.wrong {
        0 => "Nothing is wrong.".to_owned(),
        1 => "1 thing is wrong.".to_owned(),
        many => format!("{many} things are wrong."),
    };
    let _ = writeln!(page.text, "\n{found}");
    super::client::println_to_stdout(page.text.trim_end())?;
    Ok(u8::from(page.wrong > 0))
}

fn machine(page: &mut Page) {
    page.heading("This machine");
    let parts = [
        ("hosts", cfg!(feature = "hosts")),
        ("kafka", cfg!(feature = "kafka")),
        ("scripts", cfg!(feature = "scripts")),
    ];
    let parts: Vec<_> = parts.into_iter().filter_map(|(name, is_in)| is_in.then_some(name)).collect();
    page.line("heartwatch", format!("{} with {}", env!("CARGO_PKG_VERSION"), parts.join(", ")));
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    page.line("system", format!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())));
    page.line(
        "cores",
        std::thread::available_parallelism().map_or_else(|error| error.to_string(), |cores| cores.to_string()),
    );
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let (Some(all), Some(free)) = (kibibytes("MemTotal:"), kibibytes("MemAvailable:")) {
        page.line("memory", format!("{}, {} of it free", BinaryBytes(all * 1024), BinaryBytes(free * 1024)));
    }
    page.line("clock", format!("{}{}", Clock::start().wall(), clock_is_set()));
    descriptors::raise();
    match descriptors::limit() {
        Some(files) if files < DESCRIPTORS_MIN => {
            let publishers = Shares::of(Some(files)).publisher_connections_max;
            page.wrong("open files", format!("{files}: room for {publishers} publishers at the embedded broker; raise it (ulimit -n, LimitNOFILE=)"));
        }
        files => page.line("open files", files.map_or_else(|| "no limit".to_owned(), |files| files.to_string())),
    }
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(_) => page.line("processes", "can be told apart by start time and boot"),
        Err(error) => page.wrong("processes", format!("/proc cannot be read: {error}; no process can be looked at")),
    }
}

/// Whether somebody sets the clock, as systemd-timesyncd, chrony and ntpd tell the kernel (adjtimex(2)).
fn clock_is_set() -> &'static str {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ", set by systemd-timesyncd";
    }
    if Path::new("/run/chrony").exists() { ", set by chrony" } else { ", and nobody is seen to set it" }
}

fn data(page: &mut Page, settings: &Settings) {
    page.heading("Data directory");
    let folder = &settings.data_dir;
    page.line("path", folder.display().to_string());
    let existing = folder.ancestors().find(|path| path.is_dir()).unwrap_or_else(|| Path::new("."));
    if let Ok(disk) = rustix::fs::statvfs(existing) {
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let room = format!("{} of {} are free", BinaryBytes(free), BinaryBytes(all));
        if free < FREE_BYTES_MIN {
            page.wrong("disk", format!("{room}: at a full disk nothing more is confirmed"));
        } else {
            page.line("disk", room);
        }
    }
    let most = describe_bytes(settings.buffer.bytes_max);
    page.line("limits", format!("rows {most}, history {}", describe_duration(settings.buffer.history)));
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            page.line("state", "not there yet: the first start makes it");
        }
        Err(error) => page.wrong("state", error.to_string()),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            match rustix::fs::access(folder, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK) {
                Ok(()) => page.line("rights", format!("{mode:o}")),
                Err(error) => page.wrong("rights", format!("{mode:o}, and this user may not write there: {error}")),
            }
            if let Some(what) = readable_by_everybody(folder) {
                page.line("note", what);
            }
            files(page, folder, "");
        }
    }
}

/// Each file with its size; of damaged ones there should be none.
fn files(page: &mut Page, folder: &Path, below: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let (mut outboxes, mut outbox_bytes) = (0, 0);
    for entry in entries {
        let (path, name) = (entry.path(), format!("{below}{}", entry.file_name().to_string_lossy()));
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        if path.is_dir() {
            files(page, &path, &format!("{name}/"));
        } else if name.contains(".damaged-") {
            page.wrong(&name, format!("{}: it was found damaged; what was whole in it was copied", BinaryBytes(bytes)));
        } else if below == "outbox/" {
            outboxes += u64::from(name.ends_with(".sqlite"));
            outbox_bytes += bytes;
        } else {
            page.line(&name, BinaryBytes(bytes).to_string());
        }
    }
    if outboxes > 0 {
        page.line("outboxes", format!("{outboxes}, {}", BinaryBytes(outbox_bytes)));
    }
}

/// Where the configuration says that somebody listens, and whether anybody does.
async fn servers(page: &mut Page, settings: &Settings) {
    page.heading("Servers");
    let mut places: Vec<(&str, String)> = Vec::new();
    let of_url = |url: &Url, port: u16| {
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(port))
    };
    match &settings.mqtt.broker {
        Broker::At(url) => places.push(("MQTT broker", of_url(url, if url.scheme() == "mqtts" { 8883 } else { 1883 }))),
        Broker::Embedded { listen } => page.line("MQTT broker", embedded(*listen)),
    }
    match &settings.influx {
        Some(influx) => places.push(("InfluxDB", of_url(&influx.url, 8086))),
        None => page.line("InfluxDB", "none: rows stay in the data directory"),
    }
    for url in settings.etcd.iter().flat_map(|etcd| &etcd.endpoints) {
        places.push(("etcd", of_url(url, 2379)));
    }
    for broker in settings.kafka.iter().flat_map(|kafka| kafka.brokers.split(',')) {
        places.push(("Kafka", broker.trim().to_owned()));
    }
    if let Some(mail) = &settings.mail {
        places.push(("mail server", format!("{}:{}", mail.host, mail.port)));
    }
    for notify in &settings.notify {
        match &notify.way {
            Way::Webhook(webhook) => places.push(("webhook", of_url(&webhook.url, 443))),
            Way::Command(_) | Way::Email(_) => {}
        }
    }
    let answers = join_all(places.iter().map(|(_, place)| async move {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(place.as_str())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {}", describe_duration(CONNECT_TIMEOUT))),
        }
    }));
    for ((what, place), answer) in places.iter().zip(answers.await) {
        match answer {
            Ok(()) => page.line(what, format!("{place} accepts connections")),
            Err(reason) => page.wrong(what, format!("{place}: {reason}")),
        }
    }
}

/// The embedded broker's address, and whether somebody has it.
fn embedded(listen: SocketAddr) -> String {
    match TcpListener::bind(listen) {
        Ok(_) => format!("the embedded one on {listen}, where nobody listens now"),
        Err(error) => format!(
            "the embedded one on {listen}, which is taken ({error}): by the monitor that runs, or by somebody else"
        ),
    }
}

/// What a monitor that runs says of itself.
async fn monitor(page: &mut Page, args: &DoctorArgs) -> anyhow::Result<()> {
    page.heading("Monitor");
    let url = args.url.as_str().trim_end_matches('/');
    let ask = AskArgs { url: args.url.clone(), token_file: args.token_file.clone(), json: false };
    let view = match super::client::monitor(&ask)?.status().await {
        Ok(view) => view,
        Err(AskError::Unreachable { .. }) => {
            page.line("state", format!("none answers at {url}"));
            return Ok(());
        }
        Err(error) => {
            page.wrong("state", error.to_string());
            return Ok(());
        }
    };
    page.line("state", format!("answers at {url}"));
    if !view.observer.reason.is_empty() {
        page.wrong("doubt", &view.observer.reason);
    }
    let mut verdicts = std::collections::BTreeMap::<String, usize>::new();
    for publisher in &view.publishers {
        *verdicts.entry(publisher.verdict.to_string()).or_default() += 1;
    }
    let verdicts: Vec<_> = verdicts.into_iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    page.line("publishers", if verdicts.is_empty() { "none".to_owned() } else { verdicts.join(", ") });
    for sink in &view.sinks {
        page.line(&format!("store {}", sink.name), format!("{}, {} rows wait", sink.state, sink.buffered_rows));
    }
    for target in view.notifications.iter().filter(|target| target.given_up > 0) {
        page.wrong(&format!("target {}", target.target), format!("{} messages were given up", target.given_up));
    }
    if view.damage.total > 0 {
        page.wrong("damage", format!("{} pieces found since it started: see `heartwatch status`", view.damage.total));
    }
    Ok(())
}
