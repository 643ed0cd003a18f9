//! One value from text, checked: the same rules for the file, the environment and the command line.
//!
//! Every function answers a wrong text with what would be right, ready for a person to read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::csv_row::Decimal;
use crate::envelope::Prefix;
use crate::source_time::TimeColumn;
use crate::source_time::TimeFormat;
use heartwatch_domain::deadline::IdPattern;
use heartwatch_domain::error_metric;
use heartwatch_domain::metrics::LOOK_EVERY_MIN;
use heartwatch_domain::metrics::MetricSet;
use heartwatch_domain::time::{describe_duration, parse_duration};

/// Longest duration that may be configured. The timer wheel under the watchdog stands about two years.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Longest name of a database, topic level or the like, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Where a page is served: an address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebListen(
    /// The address; none is off.
    pub Option<SocketAddr>,
);

impl FromStr for WebListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = |_| format!("'{}' is not an address like 127.0.0.1:8080, or off", without_secrets(text));
        address(text).map(Some).map(Self).map_err(wrong)
    }
}

impl fmt::Display for WebListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// A duration like `5s`, up to a year; zero too.
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX {
        return Err(format!("'{text}' is too long: at most 365d"));
    }
    Ok(duration)
}

/// A duration longer than zero.
///
/// # Errors
/// What would be right.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("'{text}' is too short: it must be longer than 0")),
        positive => Ok(positive),
    }
}

/// A number of bytes like `64KiB`, `512MiB`, `1GiB` or `1000000`.
///
/// # Errors
/// What would be right.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size like 64KiB, 512MiB or 1GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A number of bytes as a person reads it: `256 KiB`, `1 GiB`, `1000 bytes`.
#[must_use]
pub fn describe_bytes(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} bytes"),
    }
}

/// An address to listen on: IP and port.
///
/// # Errors
/// What would be right.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        || format!("'{}' is not an address like 127.0.0.1:1883 (an IP address and a port)", without_secrets(text));
    text.parse().map_err(|_| wrong())
}

/// Addresses of proxies: an IP address, or a network of them.
///
/// # Errors
/// What would be right.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or_else(|| {
        let text = without_secrets(text);
        format!("'{text}' is not an address like 10.0.0.5, and not a network of them like 10.0.0.0/24")
    })?;
    if network.prefix_len() == 0 {
        return Err(format!("'{text}' is every address there is: name those of your proxies"));
    }
    Ok(network)
}

/// The URL of an MQTT broker.
///
/// # Errors
/// What would be right. A password in the URL is refused, and not repeated.
pub fn mqtt_url(text: &str) -> Result<Url, String> {
    let url = url_of(text, ["mqtt", "mqtts"], "mqtt://host:1883 or mqtts://host:8883")?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("'{}' has more than a broker's host and port: mqtt://host:1883", without_secrets(text)));
    }
    Ok(url)
}

/// Where Kafka is: one or more of `HOST:PORT`.
///
/// # Errors
/// What would be right.
pub fn kafka_brokers(text: &str) -> Result<String, String> {
    let good = |broker: &str| {
        let (host, port) = broker.rsplit_once(':')?;
        let host_good = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
        port.parse::<u16>().ok().filter(|port| host_good && *port > 0)
    };
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    if brokers.iter().all(|broker| good(broker).is_some()) {
        return Ok(brokers.join(","));
    }
    if brokers.iter().any(|broker| broker.contains("://") || broker.contains('@')) {
        let what = "Kafka is spoken here without TLS and without a login";
        let way = "on a network that you trust, or through a tunnel; write HOST:PORT of a plaintext listener";
        return Err(format!("{what}, {way}, with commas between several"));
    }
    let shown = without_secrets(text);
    Err(format!("'{shown}' is not where Kafka is: write HOST:PORT, with commas between several, like 127.0.0.1:9092"))
}

/// The members of an etcd: URLs with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdEndpoints(pub Vec<Url>);

impl FromStr for EtcdEndpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let member = |text: &str| {
            let url = url_of(text.trim(), ["http", "https"], "http://127.0.0.1:2379")?;
            if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
                let shown = without_secrets(text);
                return Err(format!("'{shown}' has more than a member's host and port: http://127.0.0.1:2379"));
            }
            Ok(url)
        };
        text.split(',').map(member).collect::<Result<_, _>>().map(Self)
    }
}

/// The URL of an InfluxDB.
///
/// # Errors
/// What would be right. A password in the URL is refused, and not repeated.
pub fn influx_url(text: &str) -> Result<Url, String> {
    let url = url_of(text, ["http", "https"], "http://127.0.0.1:8086")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("'{}' has more than a server's address: http://127.0.0.1:8086", without_secrets(text)));
    }
    Ok(url)
}

/// A URL that is asked for or posted to, with whatever path and query it has.
///
/// # Errors
/// What would be right. A password in the URL is refused, and not repeated.
pub fn web_url(text: &str) -> Result<Url, String> {
    url_of(text, ["http", "https"], "https://hooks.example/x")
}

/// The URL of a mail server.
///
/// # Errors
/// What would be right. A password in the URL is refused, and not repeated.
pub fn mail_url(text: &str) -> Result<Url, String> {
    let url = url_of(text, ["smtp", "smtps"], "smtps://mail.example or smtp://mail.example:587")?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "'{}' has more than a server's host and port: smtps://mail.example",
            without_secrets(text)
        ));
    }
    Ok(url)
}

/// Where a server of ours is; it is read where the connection is made.
///
/// # Errors
/// What would be right. A password in it is refused, and not repeated.
pub fn server_address(text: &str) -> Result<String, String> {
    if text.contains('@') || text.contains("%40") {
        return Err(
            "a server's address carries no user and no password: write HOST:PORT or https://HOST:PORT".to_owned()
        );
    }
    Ok(text.to_owned())
}

/// The URL of a running monitor.
///
/// # Errors
/// What would be right.
pub fn monitor_url(text: &str) -> Result<Url, String> {
    url_of(text, ["http", "https"], "http://127.0.0.1:8080")
}

fn url_of(text: &str, schemes: [&str; 2], example: &str) -> Result<Url, String> {
    // before anything is repeated: what stands before an @ may be a password
    if text.contains('@') || text.contains("%40") {
        return Err("a URL here carries no user and no password: they have their own settings".to_owned());
    }
    let wrong = || format!("'{}' is not a URL like {example}", without_secrets(text));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if !schemes.contains(&url.scheme()) || !has_host || url.port() == Some(0) {
        return Err(wrong());
    }
    Ok(url)
}

/// A text as it may be repeated to a person: what stands before an `@` may be a password, and so may what stands behind a host
/// (the address of a webhook is a secret as a whole, a query may have `p=…`).
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let hidden = rest.rfind('@').map(|at| at + 1).or_else(|| rest.rfind("%40").map(|at| at + 3));
    let (user, rest) = hidden.map_or(("", rest), |end| ("…@", rest.split_at(end).1));
    let ends = |c: char| matches!(c, '?' | '#') || (c == '/' && !separator.is_empty());
    match rest.split_once(ends) {
        Some((host, "")) => format!("{scheme}{separator}{user}{host}{}", &rest[host.len()..]),
        Some((host, _)) => format!("{scheme}{separator}{user}{host}/…"),
        None => format!("{scheme}{separator}{user}{rest}"),
    }
}

/// A name that goes into a URL, a topic or a row: something, and no control characters.
///
/// # Errors
/// What would be right.
pub fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty: write a name, or leave the key out".to_owned());
    }
    if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("must be at most {NAME_BYTES_MAX} bytes without line breaks or other control characters"));
    }
    Ok(text.to_owned())
}

/// What stands before the version in our topics.
///
/// # Errors
/// What would be right.
pub fn topic_prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text).map_err(|error| error.to_string())
}

/// The column of a CSV file that holds the time: its header, its number from 1, `none` or `auto`.
///
/// # Errors
/// What would be right.
pub fn time_column(text: &str) -> Result<TimeColumn, String> {
    match text {
        "auto" => return Ok(TimeColumn::Auto),
        "none" => return Ok(TimeColumn::None),
        _ => {}
    }
    match text.parse() {
        Ok(0) => Err("columns are counted from 1".to_owned()),
        Ok(number) => Ok(TimeColumn::Number(number)),
        Err(_) => name(text).map(TimeColumn::Name),
    }
}

/// What stands between two cells: one character of ASCII, or `tab`.
///
/// # Errors
/// What would be right.
pub fn delimiter(text: &str) -> Result<char, String> {
    match text.as_bytes() {
        b"tab" | b"\t" => Ok('\t'),
        [byte] if byte.is_ascii_graphic() && *byte != b'"' => Ok(char::from(*byte)),
        _ => Err(format!("'{text}' is not one visible character like ';', nor 'tab'")),
    }
}

/// How numbers are written: `point` or `comma`.
///
/// # Errors
/// What would be right.
pub fn decimal(text: &str) -> Result<Decimal, String> {
    match text {
        "point" | "." => Ok(Decimal::Point),
        "comma" | "," => Ok(Decimal::Comma),
        _ => Err(format!("'{text}' is neither point (21.5) nor comma (21,5)")),
    }
}

/// What [`time_column`] reads as this column.
#[must_use]
pub fn time_column_text(column: &TimeColumn) -> String {
    match column {
        TimeColumn::Auto => "auto".to_owned(),
        TimeColumn::None => "none".to_owned(),
        TimeColumn::Name(name) => name.clone(),
        TimeColumn::Number(number) => number.to_string(),
    }
}

/// How the times of a CSV file are written; none is `auto`, found by looking at the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeForm(
    /// The form.
    pub Option<TimeFormat>,
);

const TIME_FORMS: [(&str, Option<TimeFormat>); 9] = [
    ("auto", None),
    ("rfc3339", Some(TimeFormat::Rfc3339)),
    ("date-time", Some(TimeFormat::DateTime)),
    ("month-first", Some(TimeFormat::MonthFirst)),
    ("day-first", Some(TimeFormat::DayFirst)),
    ("unix-s", Some(TimeFormat::UnixS)),
    ("unix-ms", Some(TimeFormat::UnixMs)),
    ("unix-us", Some(TimeFormat::UnixUs)),
    ("unix-ns", Some(TimeFormat::UnixNs)),
];

impl FromStr for TimeForm {
    type Err = String;
    /// By name; `mdy`, `dmy` and the underscore of `unix_s` are understood, too.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text {
            "mdy" => "month-first".to_owned(),
            "dmy" => "day-first".to_owned(),
            other => other.replace('_', "-"),
        };
        let found = TIME_FORMS.iter().find(|(known, _)| *known == name);
        found.map(|(_, form)| Self(*form)).ok_or_else(|| {
            let names = TIME_FORMS.map(|(name, _)| name).join(", ");
            format!("'{text}' is none of {names}")
        })
    }
}

impl fmt::Display for TimeForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = TIME_FORMS.iter().find(|(_, form)| *form == self.0);
        f.write_str(found.map_or("auto", |(name, _)| name))
    }
}

/// Where datagrams go: a host and a port, like `127.0.0.1:8089`.
///
/// # Errors
/// What would be right.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let parts =
        text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    match parts {
        Some(_) if text.contains('@') || text.contains("%40") => {
            Err("a host and a port carry no user and no password".to_owned())
        }
        Some(_) if !text.chars().any(|c| c.is_whitespace() || c.is_control()) => Ok(text.to_owned()),
        _ => Err(format!("'{}' is not a host and a port like 127.0.0.1:8089", without_secrets(text))),
    }
}

/// Publishers by id, with `*` for any run of characters.
///
/// # Errors
/// What would be right.
pub fn id_pattern(text: &str) -> Result<IdPattern, String> {
    IdPattern::parse(text)
}

/// The name of the measurement that readings go to.
///
/// # Errors
/// What would be right.
pub fn measurement(text: &str) -> Result<String, String> {
    let measurement = name(text)?;
    error_metric::reserved(&measurement).map_or(Ok(measurement), Err)
}

/// Metrics of a host: names with commas between them.
///
/// # Errors
/// What would be right.
pub fn metrics(text: &str) -> Result<MetricSet, String> {
    let metrics = MetricSet::parse(text.split(',')).map_err(|error| error.to_string())?;
    some_metrics(metrics)
}

/// A publisher without anything to measure would be silent.
pub fn some_metrics(metrics: MetricSet) -> Result<MetricSet, String> {
    if metrics.iter().next().is_none() {
        return Err("names no metric: name one, like cpu, or leave it out for all of them".to_owned());
    }
    Ok(metrics)
}

/// The interval at which a host can be looked at.
///
/// # Errors
/// What would be right.
pub fn look_every(interval: Duration) -> Result<Duration, String> {
    if interval < LOOK_EVERY_MIN {
        let (interval, least) = (describe_duration(interval), describe_duration(LOOK_EVERY_MIN));
        return Err(format!("{interval} is too short for this host's metrics: a rate needs time, at least {least}"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests;
