//! `heartwatch check`: every mistake in the configuration, and what it would connect to. It connects to nothing.

use std::io::{self, Write};

use url::Url;

use super::cli::CheckArgs;
use crate::config::{
    Broker, Layers, Loaded, Managed, Mqtt, NotifyEntry, Overrides, PublisherEntry, RunAs, Settings, Way, load,
};
use crate::sources::SourceConfig;
use crate::web::WebConfig;
use heartwatch_adapters::influx::{InfluxConfig, InfluxVersion};
use heartwatch_adapters::mail::Encryption;
use heartwatch_adapters::webhook::WebhookConfig;
use heartwatch_domain::deadline::{BEATS_PER_DEADLINE, PROMISES_MIN};
use heartwatch_domain::time::describe_duration;
use heartwatch_formats::values::describe_bytes;

/// The exit code when the configuration can't be used (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Reads the configuration of this process and writes what it finds; the answer is the exit code.
///
/// # Errors
/// When `out` can't be written.
pub fn check(args: &CheckArgs, out: &mut dyn Write) -> io::Result<u8> {
    check_layers(&Layers::of_this_process(args.config.clone(), Overrides::default()), out)
}

/// The same for given layers.
///
/// # Errors
/// When `out` can't be written.
pub fn check_layers(layers: &Layers, out: &mut dyn Write) -> io::Result<u8> {
    let name = layers.file.as_ref().map(|file| file.display().to_string());
    match load(layers) {
        Ok(Loaded { settings, notes }) => {
            match name {
                Some(name) => writeln!(out, "{name} can be used. It would connect to:")?,
                None => writeln!(out, "No configuration file: the defaults and the environment. It would connect to:")?,
            }
            describe(&settings, out)?;
            for note in notes {
                writeln!(out, "note: {note}")?;
            }
            Ok(0)
        }
        Err(mistakes) => {
            writeln!(out, "{mistakes}")?;
            let many = mistakes.0.len();
            writeln!(out, "{many} mistake{}: this configuration can't be used", if many == 1 { "" } else { "s" })?;
            Ok(EXIT_CONFIG)
        }
    }
}

/// What a monitor with these settings uses, for a person.
fn describe(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |part: &str, what: String| writeln!(out, "  {part:<11} {what}");
    line("MQTT", broker(&settings.mqtt))?;
    line(
        "InfluxDB",
        settings.influx.as_ref().map_or_else(|| "none: rows stay in the embedded store".to_owned(), influx),
    )?;
    if let Some(etcd) = &settings.etcd {
        let endpoints: Vec<&str> = etcd.endpoints.iter().map(Url::as_str).collect();
        let user = etcd.login.as_ref().map_or_else(String::new, |login| format!(", user {}", login.user));
        line("etcd", format!("{}{user}, for the leases of agents", endpoints.join(", ")))?;
    }
    if let Some(kafka) = &settings.kafka {
        line("Kafka", format!("{}, as the group {}", kafka.brokers, kafka.group))?;
    }
    match &settings.web {
        Some(web) => line("web page", format!("http://{}/{}", web.listen, login(web)))?,
        None => line("web page", "off".to_owned())?,
    }
    let (bytes_max, history) = (describe_bytes(settings.buffer.bytes_max), describe_duration(settings.buffer.history));
    line("data", format!("{}, at most {bytes_max}, history of {history}", settings.data_dir.display()))?;
    let deadlines = &settings.deadlines;
    let deadline = describe_duration(deadlines.default) + graced(deadlines.grace).as_str();
    line("deadline", format!("{deadline}, at least {PROMISES_MIN} of the intervals that a publisher promises"))?;
    if let Some(url) = &settings.monitor.ping_url {
        let every = describe_duration(settings.monitor.pace.ping_interval);
        line("ping", format!("{} every {every} while the monitor is well", host_of(url)))?;
    }
    if let Some(mail) = &settings.mail {
        line("mail", format!("{}:{} from {}, {}", mail.host, mail.port, mail.from, encryption(mail.encryption)))?;
    }
    for target in &settings.notify {
        line("notify", format!("{}: {}", target.target.name, told(target)))?;
    }
    for rule in &settings.rules {
        line("rule", format!("{} ({}): {}", rule.name, rule.severity.as_str(), rule.describe()))?;
    }
    let rules = settings.deadline_rules();
    for foreign in &settings.foreign {
        let (topic, publishers) = (foreign.device.topic.filter(), foreign.device.publisher.wildcard());
        let deadline =
            foreign.deadline.map_or_else(String::new, |deadline| format!(", deadline {}", deadline.describe()));
        line("foreign", format!("{topic} as {publishers}{deadline}"))?;
    }
    for publisher in &settings.publishers {
        let source = publisher.managed.as_ref().map_or_else(|| "started by someone else".to_owned(), managed);
        let rule = rules.of(&publisher.id);
        let deadline = rule.kind.describe() + graced(rule.grace).as_str();
        line("publisher", format!("{}: {source}, deadline {deadline}{}", publisher.id, beats(settings, publisher)))?;
    }
    Ok(())
}

/// How often one that heartwatch starts beats, where that is not what its table says.
fn beats(settings: &Settings, publisher: &PublisherEntry) -> String {
    let Some(configured) = publisher.managed.as_ref().and_then(|managed| managed.heartbeat) else {
        return String::new();
    };
    let often_enough = settings.deadline_rules().of(&publisher.id).kind.longest() / BEATS_PER_DEADLINE;
    if configured <= often_enough {
        return String::new();
    }
    let (configured, every) = (describe_duration(configured), describe_duration(often_enough));
    format!(", a heartbeat every {every} (not {configured}: {BEATS_PER_DEADLINE} within its deadline)")
}

fn graced(grace: std::time::Duration) -> String {
    if grace.is_zero() { String::new() } else { format!(" after a grace of {}", describe_duration(grace)) }
}

/// A URL without its path, which may be a secret.
fn host_of(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}/…", url.scheme(), url.host_str().unwrap_or_default())
}

const fn encryption(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::Tls => "encrypted",
        Encryption::StartTls => "encrypted by STARTTLS",
        Encryption::None => "in the clear",
    }
}

fn told(NotifyEntry { target, way }: &NotifyEntry) -> String {
    let way = match way {
        Way::Webhook(WebhookConfig { url, secret: Some(_), .. }) => format!("posts to {}, signed", host_of(url)),
        Way::Webhook(WebhookConfig { url, .. }) => format!("posts to {}", host_of(url)),
        Way::Command(command) => format!("runs {}", command.program.display()),
        Way::Email(mail) => {
            let to: Vec<_> = mail.to.iter().map(ToString::to_string).collect();
            format!("mails to {}", to.join(", "))
        }
    };
    let filter = &target.filter;
    let about = match filter.publishers.as_slice() {
        [] => String::new(),
        some => format!(" about {}", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    let what = if filter.to.is_empty() {
        format!("verdicts of level {} and more", filter.level_min)
    } else {
        filter.to.iter().map(|verdict| verdict.as_str()).collect::<Vec<_>>().join(", ")
    };
    let recovery = if filter.recovery { " and recovery" } else { "" };
    let alarms = if filter.alarms { "" } else { ", no alarms" };
    format!("{way}{about}: {what}{recovery}{alarms}, at most {} a minute", target.per_minute_max)
}

fn login(web: &WebConfig) -> String {
    let mut ways = Vec::new();
    if web.token.is_some() || web.read_only_token.is_some() {
        ways.push("a token".to_owned());
    }
    match web.users.len() {
        0 => {}
        1 => ways.push("a password (1 user)".to_owned()),
        many => ways.push(format!("a password ({many} users)")),
    }
    if ways.is_empty() { String::new() } else { format!(", with {}", ways.join(" or ")) }
}

fn broker(mqtt: &Mqtt) -> String {
    let prefix = mqtt.prefix.as_str();
    match &mqtt.broker {
        Broker::Embedded { listen } => {
            let who = mqtt.authority.as_ref().map_or_else(String::new, |users| format!(", for {} users", users.len()));
            format!("the embedded broker on {listen}{who}, topics {prefix}/…")
        }
        Broker::At(url) => {
            let user = mqtt
                .options
                .login
                .as_ref()
                .map_or_else(|| "no user".to_owned(), |login| format!("user {}", login.user));
            let url = url.as_str().trim_end_matches('/');
            let certificate = if mqtt.options.tls.own.is_some() { ", with our certificate" } else { "" };
            format!("{url}, {user}{certificate}, topics {prefix}/…")
        }
    }
}

fn influx(influx: &InfluxConfig) -> String {
    let api = match influx.version {
        InfluxVersion::Auto => "its version asked for",
        InfluxVersion::V1 => "version 1.x",
        InfluxVersion::V2 => "version 2.x",
        InfluxVersion::V3 => "version 3.x",
    };
    let mut text = format!("{}, {api}, ", influx.url);
    match (&influx.org, &influx.bucket) {
        (None, None) => text += &format!("database {}", influx.database),
        (org, bucket) => {
            let bucket = bucket.as_ref().unwrap_or(&influx.database);
            text += &org.as_ref().map_or_else(String::new, |org| format!("organisation {org}, "));
            text += &format!("bucket {bucket}");
        }
    }
    if let Some(user) = &influx.user {
        text += &format!(", user {user}");
    }
    if influx.token.is_some() {
        text += ", with a token";
    }
    text
}

fn managed(Managed { feed, run, .. }: &Managed) -> String {
    let place = match run {
        RunAs::Child => "a child process",
        RunAs::InProcess => "in process",
    };
    let (source, interval) = (&feed.source, describe_duration(feed.interval));
    match source {
        SourceConfig::Csv(_) if feed.interval.is_zero() => format!("{source} as fast as it goes, {place}"),
        SourceConfig::Csv(_) | SourceConfig::System(_) | SourceConfig::Arrivals(_) => {
            format!("{source} every {interval}, {place}")
        }
        SourceConfig::Exec(exec) => {
            let mut said = format!("what {source} prints");
            if !feed.interval.is_zero() {
                said += &format!(", at least every {interval}");
            }
            if let Some(udp) = &exec.udp {
                said += &format!(", also over UDP to {udp} (which may lose rows)");
            }
            format!("{said}, {place}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, environment: &[(&str, &str)]) -> (u8, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heartwatch.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(directory.path().join("a.csv"), "1\n").unwrap();
        let environment = environment.iter().copied().collect();
        let mut out = Vec::new();
        let layers = Layers { file: Some(file), environment, flags: Overrides::default() };
        let code = check_layers(&layers, &mut out).unwrap();
        let directory = format!("{}/", directory.path().display());
        (code, String::from_utf8(out).unwrap().replace(&directory, ""))
    }

    #[test]
    fn a_host_is_named_with_what_is_measured_of_it() {
        let (code, said) = checked("[[publisher]]\nid = 'a'\nsystem = true\nmetrics = ['cpu', 'network']", &[]);
        assert!(code == 0 && said.contains("this host's cpu, net in, net out every 1 s, a child process"), "{said}");
        let (code, said) = checked("[[publisher]]\nid = 'a'\nsystem = true\nexec = 'x'\nudp = 'h:1'", &[]);
        assert!(code == 78 && said.contains("heartwatch.toml:3: publisher.system: excludes 'exec'"), "{said}");
    }

    #[test]
    fn it_says_what_it_would_connect_to_and_shows_no_secret() {
        let text = "[mqtt]\nurl = 'mqtts://broker.example:8883'\nuser = 'u'\n[influx]\nurl = 'http://i:8086'\norg = 'o'\n\
                    [[publisher]]\nid = 'a'\ncsv = 'a.csv'\ndeadline = '9s'\n[[publisher]]\nid = 'b'\n\
                    adaptive = true\ngrace = '1m'";
        let text = format!("{text}\n{}", [
            "[monitor]\nping_url = 'https://p.example/hunter2'",
            "[mail]\nserver = 'smtp://m.example'\nuser = 'u'\nfrom = 'heartwatch@m.example'",
            "[[notify]]\nname = 'chat'\nwebhook = 'https://c.example/hunter2'",
            "[[notify]]\nname = 'ops'\nemail = ['ops@m.example']\nto = ['dead', 'hung']\nrecovery = false",
            "[[notify]]\nname = 'siren'\ncommand = ['siren', '--on']\npublishers = ['a', 'b-*']\nper_minute_max = 1",
        ].join("\n"));
        let text = text.as_str();
        let secrets = [
            ("HEARTWATCH_MAIL_PASSWORD", "hunter2"),
            ("HEARTWATCH_MQTT_PASSWORD", "hunter2"),
            ("HEARTWATCH_INFLUX_TOKEN", "hunter2"),
        ];
        let (code, said) = checked(text, &secrets);
        assert_eq!(code, 0, "{said}");
        let expected = "\
heartwatch.toml can be used. It would connect to:
  MQTT        mqtts://broker.example:8883, user u, topics heartwatch/…
  InfluxDB    http://i:8086/, its version asked for, organisation o, bucket heartwatch, with a token
  web page    http://127.0.0.1:8080/
  data        data, at most 1 GiB, history of 168 h
  deadline    50 s, at least 2 of the intervals that a publisher promises
  ping        https://p.example/… every 1 min while the monitor is well
  mail        m.example:587 from heartwatch@m.example, encrypted by STARTTLS
  notify      chat: posts to https://c.example/…: verdicts of level 2 and more and recovery, at most 10 a minute
  notify      ops: mails to ops@m.example: dead, hung, no alarms, at most 10 a minute
  notify      siren: runs siren about a, b-*: verdicts of level 2 and more and recovery, at most 1 a minute
  publisher   a: a.csv every 1 s, a child process, deadline 9 s
  publisher   b: started by someone else, deadline adaptive, φ 8 (1 s to 50 s) after a grace of 1 min
";
        assert_eq!(said, expected);
    }

    #[test]
    fn every_mistake_is_a_line_and_the_exit_code_is_78() {
        let text =
            "[watch]\ndeadline = '5x'\n\n[[publisher]]\nid = 'a'\ncsv = 'b.csv'\n[mqtt]\nca_file = 'ca.pem'\nprot = 1";
        let (code, said) = checked(text, &[]);
        assert_eq!(code, EXIT_CONFIG);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 6, "{said}");
        assert!(lines[0].starts_with("heartwatch.toml:2: watch.deadline: '5x'"), "{said}");
        assert!(lines[1].starts_with("heartwatch.toml:6: publisher.csv: cannot read b.csv"), "{said}");
        assert!(lines[2].starts_with("heartwatch.toml:8: mqtt.ca_file: cannot read ca.pem"), "{said}");
        assert!(lines[3].starts_with("heartwatch.toml:8: mqtt.ca_file: is for a broker"), "{said}");
        assert!(lines[4].starts_with("heartwatch.toml:9: mqtt.prot: unknown key"), "{said}");
        assert_eq!(lines[5], "5 mistakes: this configuration can't be used");
    }

    #[test]
    fn without_a_file_the_defaults_can_be_used() {
        let mut out = Vec::new();
        assert_eq!(check_layers(&Layers::default(), &mut out).unwrap(), 0);
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("embedded broker on 127.0.0.1:1883") && said.contains("embedded store"), "{said}");
        let missing = Layers { file: Some("no.toml".into()), ..Layers::default() };
        assert_eq!(check_layers(&missing, &mut Vec::new()).unwrap(), EXIT_CONFIG);
    }
}
