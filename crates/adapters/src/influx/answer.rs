//! What an answer of InfluxDB means for the rows that were sent: a pure table, from what 1.6.7 was
//! seen to do and the documents of 2.x and 3.x say.

use std::time::Duration;

use super::{InfluxConfig, InfluxVersion};
use heartwatch_ports::SinkError;

/// Longest `Retry-After` that we follow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// An answer to a write, as far as it matters.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The server's words, shortened.
    pub words: String,
    /// Whether a header says that this is an InfluxDB.
    pub is_influx: bool,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Location`.
    pub location: String,
}

impl Answer {
    /// 1.x says so when the database is missing.
    pub(super) fn is_missing_database(&self) -> bool {
        self.status == 404 && self.words.contains("database not found")
    }

    /// What to do with the rows.
    pub(super) fn judge(self, config: &InfluxConfig, version: InfluxVersion) -> Result<(), SinkError> {
        let url = config.url.as_str().trim_end_matches('/');
        let words = if self.words.is_empty() { "no reason given" } else { &self.words };
        let misconfigured = |reason: String| Err(SinkError::Misconfigured { reason });
        let status = self.status;
        match status {
            204 => Ok(()),
            200..=299 => misconfigured(format!(
                "{url} answered a write with status {status}, InfluxDB answers 204: is this an InfluxDB?"
            )),
            300..=399 => misconfigured(format!(
                "{url} redirects writes to '{}': configure that URL, rows are not sent after a redirect",
                self.location
            )),
            401 => misconfigured(who_we_are(config, version, url, words)),
            403 => misconfigured(match version {
                InfluxVersion::V2 | InfluxVersion::V3 => format!(
                    "the token may not write to bucket '{}' on {url} ({words}): give it write permission",
                    config.target(),
                ),
                _ => format!(
                    "the user '{user}' may not write to database '{db}' on {url} ({words}): GRANT ALL ON \"{db}\" TO \"{user}\"",
                    user = config.user.as_deref().unwrap_or_default(),
                    db = config.database,
                ),
            }),
            404 if self.is_missing_database() => misconfigured(format!(
                "the database '{}' does not exist on {url} and could not be created: CREATE DATABASE \"{}\"",
                config.database, config.database
            )),
            404 => misconfigured(match version {
                InfluxVersion::V2 => format!(
                    "{url} knows no bucket '{}' in organisation '{}' ({words}): create it, or configure the right org and bucket",
                    config.target(),
                    config.org.as_deref().unwrap_or_default()
                ),
                InfluxVersion::V3 => format!("{url} answers 404 ({words}): is this an InfluxDB 3.x?"),
                _ => format!("{url} answers 404 to /write ({words}): is this an InfluxDB 1.x?"),
            }),
            413 => Err(SinkError::TooLarge { reason: words.to_owned() }),
            422 => Err(SinkError::Refused { reason: words.to_owned() }),
            400 if self.speaks_of_rows() => Err(SinkError::Refused { reason: words.to_owned() }),
            500 if self.words.contains("retention policy not found") => misconfigured(format!(
                "the database '{}' on {url} has no retention policy '{}': create it, or configure another",
                config.database,
                config.retention_policy.as_deref().unwrap_or_default()
            )),
            408 | 425 | 429 | 500..=599 => Err(SinkError::Retry {
                reason: format!("{url} answered with status {status}: {words}"),
                retry_after: self.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
            }),
            _ => misconfigured(format!("{url} answered a write with status {status}: {words}")),
        }
    }

    /// A 400 of InfluxDB is about rows in the batch unless it names something else. A 400 of another
    /// server is never: or a wrong URL would turn every row into a dead letter.
    fn speaks_of_rows(&self) -> bool {
        const ROWS: [&str; 7] = [
            "partial write",
            "unable to parse",
            "parsing failed",
            "field type conflict",
            "dropped=",
            "invalid field",
            "outside range",
        ];
        const NOT_ROWS: [&str; 6] = ["is required", "precision", "gzip", "EOF", "org", "bucket"];
        let says = |list: &[&str]| list.iter().any(|words| self.words.contains(words));
        says(&ROWS) || (self.is_influx && !says(&NOT_ROWS))
    }
}

fn who_we_are(config: &InfluxConfig, version: InfluxVersion, url: &str, words: &str) -> String {
    match (version, &config.token, &config.user) {
        (InfluxVersion::V2 | InfluxVersion::V3, Some(_), _) => {
            format!("{url} refuses the token ({words}): put a valid one into the token file or the environment")
        }
        (InfluxVersion::V2 | InfluxVersion::V3, None, _) => {
            format!("{url} wants a token ({words}): configure a token file or the environment variable")
        }
        (_, _, Some(user)) => format!("{url} refuses the user '{user}' ({words}): check user and password"),
        (_, _, None) => format!("{url} wants a user and a password ({words}): configure both"),
    }
}

impl InfluxConfig {
    /// The bucket, or the one that is named as the database.
    pub(super) fn target(&self) -> &str {
        self.bucket.as_deref().unwrap_or(&self.database)
    }
}

/// Reads `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date, which is compared with the
/// server's own `Date`, so that our clock does not matter.
pub(super) fn retry_after(header: &str, date: Option<&str>) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = |text: &str| jiff::fmt::rfc2822::parse(text.trim()).ok().map(|time| time.timestamp().as_second());
    let wait = seconds(header)? - seconds(date?)?;
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

/// The server's words from a body: the `error` or `message` of its JSON, or the text itself.
pub(super) fn words_of(body: &[u8]) -> String {
    const WORDS_CHARS_MAX: usize = 500;
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| {
        let text = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
        // 3.x puts what is wrong with each line beside the error
        match (text("error").or_else(|| text("message")), json.get("data")) {
            (Some(error), Some(data)) => Some(format!("{error}: {data}")),
            (Some(error), None) => Some(error.to_owned()),
            (None, _) => None,
        }
    });
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn judge(status: u16, words: &str, is_influx: bool, version: InfluxVersion) -> Result<(), SinkError> {
        let config = InfluxConfig::at(Url::parse("http://db:8086/").unwrap());
        Answer { status, words: words.to_owned(), is_influx, ..Answer::default() }.judge(&config, version)
    }

    #[test]
    fn every_answer_has_one_meaning() {
        use InfluxVersion::{V1, V2, V3};
        let kind = |result: Result<(), SinkError>| match result {
            Ok(()) => "ok",
            Err(SinkError::Retry { .. }) => "retry",
            Err(SinkError::NotListening { .. }) => "not listening",
            Err(SinkError::TooLarge { .. }) => "too large",
            Err(SinkError::Refused { .. }) => "refused",
            Err(SinkError::Misconfigured { .. }) => "misconfigured",
        };
        let cases = [
            (204, "", true, V1, "ok"),
            (200, "<html>", false, V1, "misconfigured"),
            (301, "", false, V1, "misconfigured"),
            (400, "partial write: field type conflict: … dropped=1", true, V1, "refused"),
            (400, "unable to parse 'x': invalid field format", true, V1, "refused"),
            (400, "partial write of line protocol occurred: [{…}]", false, V3, "refused"),
            (400, "max key length exceeded", true, V1, "refused"),
            (400, "database is required", true, V1, "misconfigured"),
            (400, "Bad Request", false, V1, "misconfigured"),
            (401, "authorization failed", true, V1, "misconfigured"),
            (403, "not authorized", true, V2, "misconfigured"),
            (404, "database not found: \"x\"", true, V1, "misconfigured"),
            (404, "bucket \"x\" not found", true, V2, "misconfigured"),
            (405, "", false, V1, "misconfigured"),
            (413, "Request Entity Too Large", true, V1, "too large"),
            (422, "unprocessable entity", true, V2, "refused"),
            (429, "", true, V2, "retry"),
            (500, "write failed", true, V1, "retry"),
            (500, "retention policy not found: x", true, V1, "misconfigured"),
            (503, "", false, V3, "retry"),
        ];
        for (status, words, is_influx, version, expected) in cases {
            assert_eq!(kind(judge(status, words, is_influx, version)), expected, "{status} {words}");
        }
    }

    #[test]
    fn a_wrong_configuration_names_what_to_do() {
        let said = |status, words, version| judge(status, words, true, version).unwrap_err().to_string();
        assert!(said(401, "no", InfluxVersion::V1).contains("wants a user and a password"));
        assert!(said(401, "no", InfluxVersion::V2).contains("token file"));
        assert!(said(404, "database not found", InfluxVersion::V1).contains("CREATE DATABASE \"heartwatch\""));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 7 ", None), Some(Duration::from_secs(7)));
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:09 GMT", Some(date)), Some(Duration::from_secs(9)));
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:27:00 GMT", Some(date)), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", Some(date)), None);
        let config = InfluxConfig::at(Url::parse("http://db").unwrap());
        let answer = Answer { status: 503, retry_after: Some(Duration::from_secs(86_400)), ..Answer::default() };
        let Err(SinkError::Retry { retry_after, .. }) = answer.judge(&config, InfluxVersion::V1) else { panic!() };
        assert_eq!(retry_after, Some(RETRY_AFTER_MAX), "no server sends us away for a day");
    }

    #[test]
    fn the_servers_words_are_found_in_its_body() {
        assert_eq!(words_of(br#"{"error":"partial write: x"}"#), "partial write: x");
        assert_eq!(words_of(br#"{"code":"invalid","message":"unable to parse"}"#), "unable to parse");
        assert_eq!(
            words_of(br#"{"error":"partial write","data":[{"line_number":2}]}"#),
            "partial write: [{\"line_number\":2}]"
        );
        assert_eq!(words_of(b"404 page\nnot found\n"), "404 page not found");
        assert_eq!(words_of(&[b'x'; 10_000]).len(), 500);
    }
}
