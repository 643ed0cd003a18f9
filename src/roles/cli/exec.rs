//! `heartwatch publish --exec`: the program whose lines are published, and what they mean.

use std::path::Path;

use clap::Args;

use crate::sources::exec::{ExecOptions, split_words};
use heartwatch_domain::restart::RestartPolicy;
use heartwatch_formats::sensor_line::Schema;
use heartwatch_formats::values::{host_and_port, name};

/// The port of InfluxDB's UDP listener where none is named.
const UDP_PORT: u16 = 8089;
/// Largest file with a schema, in bytes.
const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// What a program prints, as a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ExecArgs {
    /// The program to run, with its arguments: each line that it prints is a sample
    #[arg(long, value_name = "COMMAND", visible_alias = "executable-path")]
    pub exec: Option<String>,
    /// What a line means, as JSON or in a file: {"columns":[{"at":1,"measurement":"m"}]} [default: three values]
    #[arg(long, value_name = "JSON|FILE", requires = "exec", conflicts_with_all = ["csv", "system"], value_parser = schema)]
    pub schema: Option<Schema>,
    /// The tag 'env' of every reading [env: ENV]
    #[arg(long, value_name = "NAME", requires = "exec", conflicts_with_all = ["csv", "system"], value_parser = name)]
    pub env: Option<String>,
    /// The same line so many times in a row is a program that is stuck; 0: never [default: 10 with the three values]
    #[arg(long, value_name = "LINES", requires = "exec", conflicts_with_all = ["csv", "system"])]
    pub repeats_max: Option<u64>,
    /// When the program ends, start it again: always, on-failure or never [default: always]
    #[arg(long, value_name = "POLICY", requires = "exec", conflicts_with_all = ["csv", "system"], value_parser = policy)]
    pub exec_restart: Option<RestartPolicy>,
    /// Send the rows to InfluxDB over UDP as well, which can lose them
    #[arg(long, value_name = "HOST:PORT", requires = "exec", conflicts_with_all = ["csv", "system"], value_parser = host_and_port)]
    pub udp: Option<String>,
    /// The host of --udp, apart [env: HOST_METRICS]
    #[arg(long, value_name = "HOST", requires = "exec", conflicts_with_all = ["csv", "system", "udp"], value_parser = name)]
    pub host: Option<String>,
    /// The port of --udp, apart [default: 8089] [env: PORT_METRICS]
    #[arg(long, value_name = "PORT", requires = "exec", conflicts_with_all = ["csv", "system", "udp"], value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Before the start, give up what earlier runs have left in the outbox; the ledger counts it as lost
    #[arg(long, requires = "exec", conflicts_with_all = ["csv", "system"])]
    pub clear_data: bool,
}

impl ExecArgs {
    /// The arguments that give these options.
    #[must_use]
    pub fn of(options: &ExecOptions) -> Self {
        let ExecOptions { words: _, schema, env, repeats_max, policy, udp } = options.clone();
        Self {
            exec: Some(options.command_line()),
            schema: Some(schema).filter(|schema| *schema != Schema::default()),
            env,
            repeats_max,
            exec_restart: Some(policy),
            udp,
            ..Self::default()
        }
    }

    /// The options, when there is a program; `variable` gives what the field's own variables say, under the flags.
    ///
    /// # Errors
    /// What would be right.
    pub fn options(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<ExecOptions>, String> {
        let Some(command) = &self.exec else { return Ok(None) };
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let words = split_words(command).map_err(|wrong| format!("--exec: {wrong}"))?;
        let env = match (&self.env, variable("ENV")) {
            (Some(env), _) => Some(env.clone()),
            (None, Some(env)) => Some(name(&env).map_err(|wrong| format!("ENV: {wrong}"))?),
            (None, None) => None,
        };
        Ok(Some(ExecOptions {
            schema: self.schema.clone().unwrap_or_default(),
            env,
            repeats_max: self.repeats_max,
            policy: self.exec_restart.unwrap_or(RestartPolicy::Always),
            udp: self.udp_target(variable)?,
            ..ExecOptions::new(words)
        }))
    }

    fn udp_target(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
        if self.udp.is_some() {
            return Ok(self.udp.clone());
        }
        let host = self.host.clone().or_else(|| variable("HOST_METRICS"));
        let port = self.port.map(|port| port.to_string()).or_else(|| variable("PORT_METRICS"));
        if host.is_none() && port.is_none() {
            return Ok(None);
        }
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = port.unwrap_or_else(|| UDP_PORT.to_string());
        let target = host_and_port(&format!("{}:{}", host.trim(), port.trim()));
        target.map(Some).map_err(|wrong| format!("HOST_METRICS and PORT_METRICS, or --host and --port: {wrong}"))
    }

    /// As flags with a value, and whether each flag without one is set.
    pub(super) fn flags(&self) -> [(&'static str, Option<String>); 8] {
        let Self { exec, schema, env, repeats_max, exec_restart, udp, host, port, clear_data: _ } = self;
        [
            ("--exec", exec.clone()),
            ("--schema", schema.as_ref().map(Schema::to_text)),
            ("--env", env.clone()),
            ("--repeats-max", repeats_max.map(|repeats| repeats.to_string())),
            ("--exec-restart", exec_restart.map(|policy| policy_name(policy).to_owned())),
            ("--udp", udp.clone()),
            ("--host", host.clone()),
            ("--port", port.map(|port| port.to_string())),
        ]
    }
}

/// A schema, or a file with one.
fn schema(text: &str) -> Result<Schema, String> {
    if text.trim_start().starts_with('{') {
        return Schema::parse(text);
    }
    let path = Path::new(text);
    let wrong = |error: std::io::Error| format!("cannot read {text}: {error} (a schema itself begins with '{{')");
    let bytes = std::fs::metadata(path).map_err(wrong)?.len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!("{text} has {bytes} bytes: at most {SCHEMA_BYTES_MAX} are read"));
    }
    Schema::parse(&std::fs::read_to_string(path).map_err(wrong)?).map_err(|wrong| format!("{text}: {wrong}"))
}

const POLICIES: [(&str, RestartPolicy); 3] =
    [("always", RestartPolicy::Always), ("on-failure", RestartPolicy::OnFailure), ("never", RestartPolicy::Never)];

fn policy(text: &str) -> Result<RestartPolicy, String> {
    let found = POLICIES.iter().find(|(name, _)| *name == text);
    found.map(|(_, policy)| *policy).ok_or_else(|| format!("'{text}' is none of always, on-failure, never"))
}

fn policy_name(policy: RestartPolicy) -> &'static str {
    POLICIES.iter().find(|(_, known)| *known == policy).map_or("always", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_own_variables_stand_under_the_flags() {
        let none = |_: &str| None;
        let field = |name: &str| match name {
            "ENV" => Some("plant".to_owned()),
            "HOST_METRICS" => Some("influx".to_owned()),
            "PORT_METRICS" => Some("8090".to_owned()),
            _ => None,
        };
        assert_eq!(ExecArgs::default().options(field), Ok(None));
        let plain = ExecArgs { exec: Some("./sensor --seed 7".to_owned()), ..ExecArgs::default() };
        let options = plain.options(none).unwrap().unwrap();
        assert_eq!((options.words.len(), options.env, options.udp), (3, None, None));
        let options = plain.options(field).unwrap().unwrap();
        assert_eq!((options.env.as_deref(), options.udp.as_deref()), (Some("plant"), Some("influx:8090")));
        let flags = ExecArgs { env: Some("test".to_owned()), host: Some("db".to_owned()), ..plain.clone() };
        let options = flags.options(field).unwrap().unwrap();
        assert_eq!((options.env.as_deref(), options.udp.as_deref()), (Some("test"), Some("db:8090")));
        let alone = ExecArgs { host: Some("db".to_owned()), ..plain.clone() };
        assert_eq!(alone.options(none).unwrap().unwrap().udp.as_deref(), Some("db:8089"));
        let wrong = |name: &str| (name == "PORT_METRICS").then(|| "many".to_owned());
        assert!(plain.options(wrong).unwrap_err().contains("PORT_METRICS"));
    }
}
