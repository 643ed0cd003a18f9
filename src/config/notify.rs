//! `[monitor]`, `[mail]` and the `[[notify]]` tables.

use std::time::Duration;

use lettre::message::Mailbox;

use super::document::Given;
use super::kinds::{Settled as _, boolean, name, positive_duration};
use super::reader::{Origin, Reader, Scope, Sourced};
use super::settings::{Monitor, NotifyEntry, PublisherEntry, Settings, Way};
use crate::actors::self_monitor::SelfMonitorPace;
use heartwatch_adapters::command::CommandConfig;
use heartwatch_adapters::mail::{Encryption, MailConfig, MailServer};
use heartwatch_adapters::webhook::WebhookConfig;
use heartwatch_domain::notice::{LEVEL_MIN_DEFAULT, NoticeFilter, TargetConfig};
use heartwatch_domain::publisher::PublisherId;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::values;
use heartwatch_ports::credentials::Login;

/// How long one attempt to tell somebody may take, where nothing else is said.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

const ENCRYPTIONS: [(&str, Encryption); 2] = [("starttls", Encryption::StartTls), ("none", Encryption::None)];

/// `[monitor]`.
pub(super) fn monitor(reader: &mut Reader<'_>, publishers: &[PublisherEntry]) -> Monitor {
    let default = SelfMonitorPace::default();
    let table = reader.table("monitor");
    let id = reader.read(&table, "id", None, |given| {
        given.text("monitor-1", |text| PublisherId::parse(text).map_err(|error| error.to_string()))
    });
    if let Some(id) = id.as_ref().filter(|id| publishers.iter().any(|publisher| publisher.id == id.value)) {
        let message = format!("'{}' is a publisher's id already: the monitor has one of its own", id.value);
        reader.mistake(&id.origin, "monitor.id", message);
    }
    let ping_url =
        reader.read(&table, "ping_url", None, |given| given.text("https://ping.example/abc", values::web_url));
    let mut every = |key, usual| reader.read(&table, key, None, positive_duration).or_default(usual);
    let pace = SelfMonitorPace {
        heartbeat: every("heartbeat", default.heartbeat),
        ping_interval: every("ping_interval", default.ping_interval),
        check_interval: every("check_interval", default.check_interval),
    };
    Monitor { id: id.value(), ping_url: ping_url.value(), pace }
}

/// `[mail]`, when it names a server.
pub(super) fn mail(reader: &mut Reader<'_>, notes: &mut Vec<String>) -> Option<MailServer> {
    let table = reader.table("mail");
    let server = reader.read(&table, "server", None, |given| given.text("smtps://mail.example", values::mail_url));
    let encryption = reader.read(&table, "encryption", None, |given| given.choice(&ENCRYPTIONS));
    let user = reader.read(&table, "user", None, name);
    let password = reader.secret(&table, "password", "password_file", None);
    let password = reader.password_of(&user, password, "mail", notes);
    let ca_file = reader.existing_file(&table, "ca_file", None);
    let from = reader.read(&table, "from", None, mailbox);
    let has_server = reader.has(&table, "server") || server.is_some();
    let others = [
        ("encryption", origin(&encryption)),
        ("user", origin(&user)),
        ("ca_file", origin(&ca_file)),
        ("from", origin(&from)),
    ];
    if !has_server && let Some((key, origin)) = others.into_iter().find_map(|(key, origin)| Some((key, origin?))) {
        reader.mistake(&origin, &table.key(key), "is of no use without mail.server");
    }
    if has_server && !reader.has(&table, "from") && from.is_none() {
        reader.missing(&table, "from", "is missing: who are the mails from? Like \"heartwatch@example.org\"");
    }
    let server = server?;
    let wrapped = server.value.scheme() == "smtps";
    if wrapped && let Some(encryption) = &encryption {
        reader.mistake(&encryption.origin, "mail.encryption", "is for smtp://: smtps:// is encrypted as it is");
    }
    let encryption = if wrapped { Encryption::Tls } else { encryption.or_default(Encryption::StartTls) };
    if let Some(user) = user.as_ref().filter(|_| encryption == Encryption::None) {
        reader.mistake(&user.origin, "mail.user", "and its password would be sent in the clear: use encryption");
    }
    let port = match encryption {
        Encryption::Tls => 465,
        Encryption::StartTls => 587,
        Encryption::None => 25,
    };
    Some(MailServer {
        host: server.value.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: server.value.port().unwrap_or(port),
        encryption,
        login: user.value().zip(password.value()).map(|(user, password)| Login { user, password }),
        ca_file: ca_file.value(),
        from: from?.value,
    })
}

/// Every target that can be told something.
pub(super) fn notify(reader: &mut Reader<'_>, mail: Option<&MailServer>) -> Vec<NotifyEntry> {
    let root = reader.root();
    let mut targets: Vec<(NotifyEntry, Origin)> = Vec::new();
    for table in reader.tables(&root, "notify") {
        let Some((target, origin)) = target(reader, &table, mail) else { continue };
        match targets.iter().find(|(other, _)| other.target.name == target.target.name) {
            Some((_, Origin::Line(line))) => {
                let message = format!("'{}' is the target of line {line} already: every name once", target.target.name);
                reader.mistake(&origin, &table.key("name"), message);
            }
            _ => targets.push((target, origin)),
        }
    }
    targets.into_iter().map(|(target, _)| target).collect()
}

fn target<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, mail: Option<&MailServer>) -> Option<(NotifyEntry, Origin)> {
    let default = TargetConfig::new("");
    // A name is a tag of our own numbers and stands in every log line: the letters of an id will do.
    let name = reader.read(table, "name", None, |given| {
        given.text("pager", |text| match PublisherId::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(format!("'{text}' is no name of a target: use letters, digits, '.', '_', '-' or ':'")),
        })
    });
    if !reader.has(table, "name") {
        reader.missing(table, "name", "is missing: every target has a name, like \"pager\"");
    }
    let timeout = reader.read(table, "timeout", None, positive_duration).or_default(ATTEMPT_TIMEOUT);
    let way = way(reader, table, (mail, timeout));
    let publishers =
        reader.list(table, "publishers", |given| given.text("light-*", values::id_pattern)).unwrap_or_default();
    let verdicts: Vec<_> = Verdict::ALL.iter().map(|verdict| (verdict.as_str(), *verdict)).collect();
    let to = reader.list(table, "to", |given| given.choice(&verdicts)).unwrap_or_default();
    let level_min = reader.read(table, "level_min", None, |given| given.number(0, 5));
    // Who names verdicts wants those, however little they mean.
    let level_default = if to.is_empty() { LEVEL_MIN_DEFAULT } else { i64::MIN };
    // Who names verdicts wants those and nothing else, unless it says so.
    let alarms = reader.read(table, "alarms", None, boolean).or_default(to.is_empty());
    let filter = NoticeFilter {
        publishers,
        to,
        level_min: level_min.map_or(level_default, |level| i64::try_from(level.value).unwrap_or(i64::MAX)),
        recovery: reader.read(table, "recovery", None, boolean).or_default(true),
        alarms,
    };
    let per_minute_max = reader.read(table, "per_minute_max", None, |given| given.number(1, 120));
    let age_max = reader.read(table, "age_max", None, positive_duration).or_default(default.age_max);
    let (backoff_min, backoff_max) = reader.backoff(table, (default.backoff_min, default.backoff_max));
    let name = name?;
    let per_minute_max =
        per_minute_max.map_or(default.per_minute_max, |most| usize::try_from(most.value).unwrap_or(usize::MAX));
    let target = TargetConfig { name: name.value, filter, per_minute_max, age_max, backoff_min, backoff_max };
    Some((NotifyEntry { target, way: way? }, name.origin))
}

/// The one way in which a target is reached.
fn way<'a>(
    reader: &mut Reader<'a>,
    table: &Scope<'a>,
    (mail, timeout): (Option<&MailServer>, Duration),
) -> Option<Way> {
    let webhook = reader.read(table, "webhook", None, |given| given.text("https://hooks.example/x", values::web_url));
    let webhook_file = reader.secret_in_file(table, "webhook_file");
    let secret = reader.secret_in_file(table, "secret_file");
    let command = command(reader, table);
    let email = reader.list(table, "email", mailbox);
    let given = ["webhook", "webhook_file", "command", "email"].into_iter().filter(|key| reader.has(table, key));
    let given: Vec<_> = given.collect();
    match given.as_slice() {
        [_] => {}
        [] => reader.missing(table, "webhook", "is missing: a target has one of webhook, webhook_file, command, email"),
        [_, second, ..] => {
            let message = "one target has one of webhook, webhook_file, command, email: write another [[notify]]";
            reader.mistake_at(table, second, message);
        }
    }
    if let Some(secret) = secret.as_ref().filter(|_| !given.iter().any(|key| key.starts_with("webhook"))) {
        reader.mistake(&secret.origin, &table.key("secret_file"), "is for a webhook: nothing else is signed");
    }
    if given.contains(&"email") && mail.is_none() {
        reader.mistake_at(table, "email", "needs a mail server: set mail.server and mail.from");
    }
    let secret = secret.value();
    if let Some(file) = webhook_file {
        // What is in the file is a secret: it is not repeated.
        return match values::web_url(file.value.expose()) {
            Ok(url) => Some(Way::Webhook(WebhookConfig { url, secret, timeout })),
            Err(_) => {
                let message = "its content is not a URL like https://hooks.example/x";
                reader.mistake(&file.origin, &table.key("webhook_file"), message);
                None
            }
        };
    }
    if let Some(url) = webhook {
        return Some(Way::Webhook(WebhookConfig { url: url.value, secret, timeout }));
    }
    if let Some((program, arguments)) = command {
        return Some(Way::Command(CommandConfig { program, arguments, timeout }));
    }
    let (to, server) = (email.filter(|to| !to.is_empty())?, mail?.clone());
    Some(Way::Email(Box::new(MailConfig { server, to, timeout })))
}

fn command<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> Option<(std::path::PathBuf, Vec<String>)> {
    let file = reader.file();
    let words = reader.list(table, "command", |given| {
        given.text("/usr/local/bin/tell", |text| {
            if text.contains('\0') { Err("has a NUL character in it".to_owned()) } else { Ok(text.to_owned()) }
        })
    })?;
    let mut words = words.into_iter();
    let Some(program) = words.next().filter(|program| !program.is_empty()) else {
        reader.mistake_at(
            table,
            "command",
            "is empty: write the program and its arguments, like [\"tell\", \"--urgent\"]",
        );
        return None;
    };
    // One without a '/' is looked for in PATH when it is run.
    let program = if program.contains('/') { file.relative(&program) } else { program.into() };
    if program.components().count() > 1 && !program.is_file() {
        reader.mistake_at(table, "command", format!("there is no program {}", program.display()));
    }
    Some((program, words.collect()))
}

fn mailbox(given: Given<'_>) -> Result<Mailbox, String> {
    given.text("ops@example.org", |text| {
        text.parse().map_err(|_| format!("'{text}' is no e-mail address like ops@example.org"))
    })
}

fn origin<T>(sourced: &Option<Sourced<T>>) -> Option<Origin> {
    sourced.as_ref().map(|sourced| sourced.origin.clone())
}

impl Settings {
    /// Whether anything that a notification needs differs.
    pub(super) fn notifies_as(&self, other: &Self) -> bool {
        self.mail == other.mail && self.notify == other.notify
    }
}
