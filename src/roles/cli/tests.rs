//! What the command line takes and says.

use std::time::Duration;

use clap::CommandFactory;

use super::*;
use crate::config::Overrides;
use heartwatch_formats::values::WebListen;
use heartwatch_lab::args::ClusterArgs;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("heartwatch").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command)
}

#[test]
fn the_types_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_option_has_a_help_text_and_every_command_an_example() {
    let cli = Cli::command();
    let commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let visible = [
        "demo",
        "run",
        "publish",
        "agent",
        "server",
        "analysis",
        "status",
        "top",
        "explain",
        "events",
        "maintenance",
        "ledger",
        "export",
        "doctor",
        "backup",
        "restore",
        "init",
        "check",
        "web-user",
        "mqtt-user",
        "completions",
        "man",
        "bench",
        "backtest",
        "prove",
    ];
    assert_eq!(commands, visible.into_iter().chain(["faulty-publisher"]).collect::<Vec<_>>());
    check(&cli, "heartwatch");

    fn check(command: &clap::Command, name: &str) {
        assert!(command.get_about().is_some(), "{name}");
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("{name} has no example"));
        let examples: Vec<&str> = examples.lines().take_while(|line| !line.is_empty()).collect();
        assert!(examples[0].starts_with(&format!("  {name}")), "{name}: {examples:?}");
        // those without what only a shell understands
        for line in examples.iter().filter(|line| !line.contains(['\'', '|', '&', '>', '<'])) {
            let words = line.split('#').next().unwrap_or(line).split("   ").next().unwrap_or(line);
            let Some(words) = words.trim().strip_prefix("heartwatch ") else { continue };
            parse(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {argument}");
            let id = argument.get_id().as_str();
            let is_secret = id.contains("password") || id.contains("token");
            assert!(!is_secret || id.ends_with("_file"), "{name} {argument}");
        }
        for inner in command.get_subcommands() {
            check(inner, &format!("{name} {}", inner.get_name()));
        }
    }
}

/// A paragraph is one line, which is wrapped where the terminal ends; broken here as well, every second line would be short.
#[test]
fn paragraphs_of_the_help_are_wrapped_by_the_terminal_alone() {
    fn is_prose(line: &str) -> bool {
        !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':')
    }
    fn check(command: &clap::Command) -> usize {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for (line, next) in help.lines().zip(help.lines().skip(1)) {
            assert!(!is_prose(line) || !is_prose(next), "{}: {line}", command.get_name());
        }
        help.lines().filter(|line| is_prose(line)).count() + command.get_subcommands().map(check).sum::<usize>()
    }
    assert!(check(&Cli::command()) > 10);
}

#[test]
fn demo_has_its_own_deadline() {
    let Command::Demo(demo) = parse("demo 2").unwrap() else { panic!() };
    assert_eq!((demo.scenario, demo.deadline, demo.web), (Some(Scenario::OneKilled), Duration::from_secs(5), None));
    let Command::Demo(demo) = parse("demo 3 --deadline 2s --web off --json --data-dir d").unwrap() else { panic!() };
    assert_eq!(demo.web, Some(WebListen(None)));
    assert_eq!(demo.overrides().deadline, Some(Duration::from_secs(2)));
    let Command::Demo(demo) = parse("demo cluster --json").unwrap() else { panic!() };
    assert_eq!(demo.other, Some(OtherDemo::Cluster(ClusterArgs { json: true, data_dir: None })));
    assert!(parse("demo 2 cluster").is_err());
}

#[test]
fn every_flag_of_run_reaches_the_configuration() {
    let line = "run --config c --data-dir d --mqtt mqtt://b --influx-url http://i:8086 --influx-db db --influx-org o \
                --influx-bucket b --influx-token-file t --web 127.0.0.1:1 --deadline 9s";
    let Command::Run(run) = parse(line).unwrap() else { panic!() };
    let overrides = run.overrides();
    let expected = Overrides {
        data_dir: Some("d".into()),
        mqtt: Some("mqtt://b".parse().unwrap()),
        influx_url: Some("http://i:8086".parse().unwrap()),
        influx_db: Some("db".into()),
        influx_org: Some("o".into()),
        influx_bucket: Some("b".into()),
        influx_token_file: Some("t".into()),
        web: Some(WebListen(Some("127.0.0.1:1".parse().unwrap()))),
        deadline: Some(Duration::from_secs(9)),
        ..Overrides::default()
    };
    assert_eq!(overrides, expected);
    let Command::Run(run) = parse("run --mqtt-listen 127.0.0.1:2").unwrap() else { panic!() };
    assert_eq!(run.overrides().mqtt_listen, Some("127.0.0.1:2".parse().unwrap()));
}

#[test]
fn publish_and_the_questions_are_read() {
    let line = "publish --id a --csv f --mqtt mqtts://b --interval 0 --once --limit 5 --time-column 1 --time-format mdy \
                --measurement m --heartbeat 1s --outbox-bytes-max 1MiB --mqtt-user u --mqtt-password-file p";
    let Command::Publish(publish) = parse(line).unwrap() else { panic!() };
    assert_eq!(publish.interval, Duration::ZERO);
    assert_eq!((publish.limit, publish.time_format.to_string().as_str()), (Some(5), "month-first"));
    assert_eq!(publish.outbox_bytes_max, Size(1 << 20));
    assert_eq!(publish.overrides().mqtt_user.as_deref(), Some("u"));
    let line = "agent --id a --name n --server h:50052 --etcd http://a:1,http://b:2 --lease 10s";
    let Command::Agent(agent) = parse(line).unwrap() else { panic!() };
    assert_eq!((agent.etcd.as_ref().unwrap().0.len(), agent.lease), (2, Duration::from_secs(10)));
    let Command::Events(events) = parse("events --follow --json --url http://h:1").unwrap() else { panic!() };
    assert!(events.follow && events.ask.json);
    let Command::Explain(explain) = parse("explain light-1").unwrap() else { panic!() };
    assert_eq!(explain.ask.url.as_str(), "http://127.0.0.1:8080/");
    let Command::Export(export) = parse("export --out f --from 2026-11-21T12:00:03Z").unwrap() else { panic!() };
    assert_eq!(export.from, Some("2026-11-21T12:00:03Z".parse().unwrap()));
    let Command::Check(check) = parse("check --config f").unwrap() else { panic!() };
    assert_eq!(check.config, Some("f".into()));
}

#[test]
fn a_wrong_argument_is_exit_code_2_and_says_what_would_be_right() {
    for (line, says) in [
        ("", "Usage"),
        ("demo", "<SCENARIO>"),
        ("demo 4", "possible values: 1, 2, 3"),
        ("run --deadline 5x", "250ms"),
        ("run --deadline 0", "longer than 0"),
        ("run --web 8080", "or off"),
        ("run --mqtt broker", "mqtt://host:1883"),
        ("run --mqtt mqtt://b --mqtt-listen 127.0.0.1:1", "cannot be used with"),
        ("run --dedline 5s", "--deadline"),
        ("publish --id a/b --csv f", "publisher id"),
        ("publish --csv f", "--id"),
        ("publish --id a", "--exec"),
        ("publish --id a", "--system"),
        ("publish --id a --csv f --exec s", "cannot be used with"),
        ("publish --id a --csv f --udp h:1", "cannot be used with"),
        ("publish --id a --udp h:1", "--exec"),
        ("publish --id a --system --exec s", "cannot be used with"),
        ("publish --id a --csv f --system", "cannot be used with"),
        ("publish --id a --system --env e", "cannot be used with"),
        ("publish --id a --system --measurement m", "cannot be used with"),
        ("publish --id a --system --time-column 1", "cannot be used with"),
        ("publish --id a --csv f --metrics cpu", "cannot be used with"),
        ("publish --id a --system --metrics cpu,gpu", "'gpu' is no metric"),
        ("publish --id a --exec s --schema {}", "columns"),
        ("publish --id a --csv f --limit 0", "1.."),
        ("export --out f --from yesterday", "2026-11-21T12:00:03Z"),
        ("explain", "<ID>"),
        ("frobnicate", "unrecognized"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
}
