//! `heartwatch publish`, from the command line and back to it: the monitor starts its children with it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use url::Url;

use super::ExecArgs;
use super::broker::BrokerArgs;
use crate::actors::publisher::{Feed, OUTBOX_BYTES_MAX, OUTBOX_BYTES_MIN};
use crate::config::{Managed, Overrides, PublisherEntry, Settings};
use crate::sources::SourceConfig;
use heartwatch_adapters::mqtt::ConnectionOptions;
use heartwatch_domain::metrics::MetricSet;
use heartwatch_domain::publisher::PublisherId;
use heartwatch_formats::csv_row::Decimal;
use heartwatch_formats::source_time::TimeColumn;
use heartwatch_formats::values::{
    TimeForm, bytes, decimal, delimiter, describe_bytes, duration, measurement, metrics, mqtt_url, positive_duration,
    time_column, time_column_text,
};
use heartwatch_store::outbox::FullPolicy;

/// `heartwatch publish`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["csv", "exec", "system"])), after_help = "Examples:
  heartwatch publish --id light-1 --csv fixtures/light-1.csv
  heartwatch publish --id light-1 --csv light.csv --interval 250ms --once
  heartwatch publish --id sensor --exec './sensor --seed 7' --env plant
  heartwatch publish --id door --exec ./door --schema '{\"columns\":[{\"at\":1,\"measurement\":\"door\"}]}'
  heartwatch publish --id host-1 --system --interval 10s
  heartwatch publish --id host-1 --system --metrics cpu,memory --once
  HEARTWATCH_MQTT_PASSWORD=… heartwatch publish --id light-1 --csv light.csv \\
      --mqtt mqtts://broker:8883 --mqtt-ca-file ca.pem --mqtt-user light

Readings that the monitor has not confirmed wait in the data directory, also for the next start.")]
pub struct PublishArgs {
    /// The publisher's id: letters, digits, '.', '_', '-' or ':'
    #[arg(long, value_name = "ID")]
    pub id: PublisherId,
    /// The CSV file to read
    #[arg(long, value_name = "FILE", conflicts_with = "exec")]
    pub csv: Option<PathBuf>,
    /// Or a program
    #[command(flatten)]
    pub program: ExecArgs,
    /// Or this host's metrics, a sample at every interval
    #[arg(long, conflicts_with_all = ["csv", "exec"])]
    pub system: bool,
    /// Which of them: cpu, memory, disk, 'disk read', 'disk write', 'net in', 'net out' [default: all]
    #[arg(long, value_name = "METRIC,…", requires = "system", conflicts_with_all = ["csv", "exec"], value_parser = metrics)]
    pub metrics: Option<MetricSet>,
    /// The broker, mqtt:// or mqtts:// [default: mqtt://127.0.0.1:1883] [env: HEARTWATCH_MQTT]
    #[arg(long, value_name = "URL", value_parser = mqtt_url)]
    pub mqtt: Option<Url>,
    /// Time between two readings; 0 is as fast as it goes. A program prints a line at least so often; 0: who knows
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub interval: Duration,
    /// Time between two heartbeats
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = positive_duration)]
    pub heartbeat: Duration,
    /// End at the end of the file instead of starting again; of this host's metrics, after one whole sample
    #[arg(long)]
    pub once: bool,
    /// End after so many readings
    #[arg(long, value_name = "READINGS", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// The measurement of the readings [default: the id]; each of this host's metrics is one of its own
    #[arg(long, value_name = "NAME", conflicts_with = "system", value_parser = measurement)]
    pub measurement: Option<String>,
    /// The column with the time: its header, its number from 1, or none [default: found by looking]
    #[arg(long, value_name = "COLUMN", default_value = "auto", hide_default_value = true, conflicts_with = "system", value_parser = time_column)]
    pub time_column: TimeColumn,
    /// What stands between two cells, one character or 'tab' [default: found by looking]
    #[arg(long, value_name = "CHARACTER", requires = "csv", value_parser = delimiter)]
    pub delimiter: Option<char>,
    /// How numbers are written: point (21.5) or comma (21,5) [default: found by looking]
    #[arg(long, value_name = "SIGN", requires = "csv", value_parser = decimal)]
    pub decimal: Option<Decimal>,
    /// How the times are written: auto, rfc3339, date-time, month-first, day-first, unix-s, unix-ms, unix-us or unix-ns
    #[arg(long, value_name = "FORM", default_value = "auto", hide_default_value = true, conflicts_with = "system")]
    pub time_format: TimeForm,
    /// Where readings wait for their confirmation [default: data] [env: HEARTWATCH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Most bytes of readings that wait
    #[arg(long, value_name = "SIZE", default_value_t = Size(OUTBOX_BYTES_MAX), value_parser = outbox_size)]
    pub outbox_bytes_max: Size,
    /// At that limit: refuse-new (read no more until there is room) or give-up-oldest (named as lost)
    #[arg(long, value_name = "POLICY", default_value_t = FullPolicy::default())]
    pub outbox_full: FullPolicy,
    /// How the broker is spoken to
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Log for the monitor that has started this, which adds the time itself
    #[arg(long, hide = true)]
    pub as_child: bool,
}

impl PublishArgs {
    /// What it sets over the environment. The `mqtt` of the settings that come of it is the broker to
    /// publish to: [`crate::config::Broker::Embedded`] there means the one at its address.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides { data_dir: self.data_dir.clone(), mqtt: self.mqtt.clone(), ..self.broker.overrides() }
    }

    /// What to start as a child for a publisher of the configuration, with the broker at `broker`; none
    /// when it has nothing to publish. The rest is in [`child_environment`](Self::child_environment).
    #[must_use]
    pub fn for_child(settings: &Settings, publisher: &PublisherEntry, broker: &Url) -> Option<Self> {
        let Managed { feed, heartbeat: _, run: _, restart: _, restart_limits: _ } = publisher.managed.clone()?;
        let Feed { source, measurement, interval, looping, limit, outbox_bytes_max, full_policy } = feed;
        let ConnectionOptions { login, tls, .. } = settings.mqtt.options.clone();
        let (mut csv, mut program, mut metrics) = (None, ExecArgs::default(), None);
        let (mut time_column, mut time_format) = (TimeColumn::Auto, None);
        let (mut delimiter, mut decimal) = (None, None);
        match source {
            SourceConfig::Csv(config) => {
                (csv, time_column, time_format) = (Some(config.path), config.time_column, config.time_format);
                (delimiter, decimal) = (config.delimiter.map(char::from), config.decimal);
            }
            SourceConfig::Exec(options) => program = ExecArgs::of(&options),
            SourceConfig::System(wanted) => metrics = Some(wanted),
            SourceConfig::Arrivals(_) => return None,
        }
        Some(Self {
            id: publisher.id.clone(),
            csv,
            program,
            system: metrics.is_some(),
            metrics: metrics.filter(|metrics| *metrics != MetricSet::default()),
            mqtt: Some(broker.clone()),
            interval,
            heartbeat: settings.heartbeat_of(publisher),
            once: !looping,
            limit,
            measurement,
            time_column,
            delimiter,
            decimal,
            time_format: TimeForm(time_format),
            data_dir: Some(settings.data_dir.clone()),
            outbox_bytes_max: Size(outbox_bytes_max),
            outbox_full: full_policy,
            broker: BrokerArgs {
                mqtt_prefix: Some(settings.mqtt.prefix.clone()),
                mqtt_user: login.map(|login| login.user),
                mqtt_password_file: None,
                mqtt_ca_file: tls.ca_file,
                mqtt_client_certificate_file: tls.own.as_ref().map(|pair| pair.certificate_file.clone()),
                mqtt_client_key_file: tls.own.map(|pair| pair.key_file),
            },
            as_child: true,
        })
    }

    /// What a child needs beyond its arguments, to be set over our own environment: the password, which is
    /// not for the process table, and what has no flag. An empty variable counts as not set.
    #[must_use]
    pub fn child_environment(settings: &Settings) -> Vec<(OsString, OsString)> {
        let mqtt = &settings.mqtt.options;
        let password = mqtt.login.as_ref().map_or("", |login| login.password.expose());
        let variables = [
            ("HEARTWATCH_MQTT_PASSWORD", password.to_owned()),
            ("HEARTWATCH_MQTT_PASSWORD_FILE", String::new()),
            ("HEARTWATCH_MQTT_KEEP_ALIVE", milliseconds(mqtt.keep_alive)),
            ("HEARTWATCH_MQTT_BACKOFF_MIN", milliseconds(mqtt.backoff_min)),
            ("HEARTWATCH_MQTT_BACKOFF_MAX", milliseconds(mqtt.backoff_max)),
            ("HEARTWATCH_MQTT_MESSAGE_BYTES_MAX", mqtt.message_bytes_max.to_string()),
            ("HEARTWATCH_LOG_LEVEL", settings.log_level.to_string()),
        ];
        variables.map(|(name, value)| (name.into(), value.into())).to_vec()
    }

    /// The arguments that parse as this, `publish` first.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["publish".into()];
        // one word a flag, so that a value may start with a dash
        let mut flag = |name: &str, value: &OsStr| {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            arguments.push(word);
        };
        let Self {
            id,
            csv,
            program,
            system,
            metrics,
            mqtt,
            interval,
            heartbeat,
            once,
            limit,
            measurement,
            time_column,
            delimiter,
            decimal,
            time_format,
            data_dir,
            outbox_bytes_max,
            outbox_full,
            broker,
            as_child,
        } = self;
        let BrokerArgs {
            mqtt_prefix,
            mqtt_user,
            mqtt_password_file,
            mqtt_ca_file,
            mqtt_client_certificate_file,
            mqtt_client_key_file,
        } = broker;
        let texts = [
            ("--id", Some(id.to_string())),
            ("--mqtt", mqtt.as_ref().map(Url::to_string)),
            ("--interval", Some(milliseconds(*interval))),
            ("--heartbeat", Some(milliseconds(*heartbeat))),
            ("--limit", limit.map(|limit| limit.to_string())),
            ("--measurement", measurement.clone()),
            ("--time-column", csv.as_ref().map(|_| time_column_text(time_column))),
            ("--delimiter", delimiter.map(|one| if one == '\t' { "tab".to_owned() } else { one.to_string() })),
            ("--decimal", decimal.map(|decimal| decimal.as_str().to_owned())),
            ("--time-format", csv.as_ref().map(|_| time_format.to_string())),
            ("--metrics", metrics.as_ref().map(|metrics| metrics.names().join(","))),
            ("--outbox-bytes-max", Some(outbox_bytes_max.to_string())),
            ("--outbox-full", Some(outbox_full.to_string())),
            ("--mqtt-prefix", mqtt_prefix.as_ref().map(|prefix| prefix.as_str().to_owned())),
            ("--mqtt-user", mqtt_user.clone()),
        ];
        for (name, text) in texts.into_iter().chain(program.flags()) {
            if let Some(text) = text {
                flag(name, OsStr::new(&text));
            }
        }
        let paths = [
            ("--csv", csv.as_ref()),
            ("--data-dir", data_dir.as_ref()),
            ("--mqtt-password-file", mqtt_password_file.as_ref()),
            ("--mqtt-ca-file", mqtt_ca_file.as_ref()),
            ("--mqtt-client-certificate-file", mqtt_client_certificate_file.as_ref()),
            ("--mqtt-client-key-file", mqtt_client_key_file.as_ref()),
        ];
        for (name, path) in paths {
            if let Some(path) = path {
                flag(name, path.as_os_str());
            }
        }
        let switches =
            [("--system", *system), ("--once", *once), ("--clear-data", program.clear_data), ("--as-child", *as_child)];
        for (name, is_set) in switches {
            if is_set {
                arguments.push(name.into());
            }
        }
        arguments
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A number of bytes on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(
    /// In bytes.
    pub u64,
);

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }
}

/// A size that an outbox may have.
pub(super) fn outbox_size(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    if size.0 < OUTBOX_BYTES_MIN {
        return Err(format!("at least {}, so that the largest reading fits", describe_bytes(OUTBOX_BYTES_MIN)));
    }
    Ok(size)
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // a bare number stands for bytes
        f.write_str(&describe_bytes(self.0).replace(' ', "").replace("bytes", ""))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Broker, Environment, Layers, load, load_text};
    use crate::roles::cli::{Cli, Command};

    fn settings(text: &str, environment: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().copied().collect();
        load_text(std::path::Path::new("heartwatch.toml"), text, &environment, &Overrides::default()).unwrap().settings
    }

    fn parse(arguments: Vec<OsString>) -> PublishArgs {
        let words = std::iter::once(OsString::from("heartwatch")).chain(arguments);
        let Command::Publish(publish) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        *publish
    }

    #[test]
    fn what_a_child_is_started_with_parses_as_what_was_meant() {
        let everything = "[mqtt]\nurl = 'mqtts://b:8883'\nuser = '-u'\nca_file = 'Cargo.toml'\nprefix = 'a/b'\n\
                          client_certificate_file = 'Cargo.toml'\nclient_key_file = 'Cargo.lock'\n[[publisher]]\n\
                          id = '-a'\ncsv = 'Cargo.toml'\ninterval = '0'\nloop = false\nlimit = 7\ntime_column = '-t'\n\
                          time_format = 'day-first'\nmeasurement = 'm x'\ndelimiter = ';'\ndecimal = 'comma'\noutbox_bytes_max = 262145\noutbox_full = 'give-up-oldest'\ndeadline = '9s'";
        let least = "[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'";
        let program = "[[publisher]]\nid = 'a'\nexec = 'sensor --seed 7'";
        let all_of_it = "[[publisher]]\nid = 'a'\nexec = ['sensor', '-x', 'a b', \"it's\", '']\nenv = '-e'\nrepeats_max = 3\n\
                         exec_restart = 'on-failure'\nudp = 'h:8089'\nformat = 'json'\nzeros_are_defect = true\n\
                         [[publisher.column]]\nat = 'a.b'\nmeasurement = 'm x'\ntype = 'integer'\nunit = 'µ'\nmin = -1\nmax = 2.5";
        let host = "[[publisher]]\nid = 'a'\nsystem = true\nloop = false\nlimit = 7\nmetrics = ['cpu', 'network']";
        let whole_host = "[[publisher]]\nid = 'a'\nsystem = true";
        for text in [everything, least, program, all_of_it, host, whole_host] {
            let settings = settings(text, &[]);
            let broker = "mqtts://b:8883".parse().unwrap();
            let meant = PublishArgs::for_child(&settings, &settings.publishers[0], &broker).unwrap();
            let parsed = parse(meant.to_arguments());
            assert_eq!(parsed, meant);
            if let SourceConfig::Exec(options) = &settings.publishers[0].managed.as_ref().unwrap().feed.source {
                assert_eq!(parsed.program.options(|_| None).unwrap().as_ref(), Some(options.as_ref()));
            }
        }
        let expected_only = settings("[[publisher]]\nid = 'a'", &[]);
        let broker = "mqtt://b".parse().unwrap();
        assert_eq!(PublishArgs::for_child(&expected_only, &expected_only.publishers[0], &broker), None);
    }

    #[test]
    fn a_child_comes_to_the_same_connection_and_its_arguments_show_no_secret() {
        let text = "log.level = 'debug'\n[mqtt]\nurl = 'mqtt://b:1883'\nuser = 'u'\nkeep_alive = '3s'\nbackoff_max = '7s'\n\
                    message_bytes_max = 4096\n[[publisher]]\nid = 'a'\ncsv = 'Cargo.toml'";
        let parent = settings(text, &[("HEARTWATCH_MQTT_PASSWORD", "hunter2")]);
        let Broker::At(broker) = &parent.mqtt.broker else { panic!() };
        let child = PublishArgs::for_child(&parent, &parent.publishers[0], broker).unwrap();
        assert!(!format!("{:?}", child.to_arguments()).contains("hunter2"));
        let environment: Environment = PublishArgs::child_environment(&parent)
            .into_iter()
            .map(|(name, value)| (name.into_string().unwrap(), value))
            .collect();
        let layers = Layers { file: None, environment, flags: parse(child.to_arguments()).overrides() };
        let of_child = load(&layers).unwrap().settings;
        assert_eq!(of_child.mqtt, parent.mqtt);
        assert_eq!(of_child.data_dir, parent.data_dir);
        assert_eq!(of_child.log_level, parent.log_level);
    }
}
