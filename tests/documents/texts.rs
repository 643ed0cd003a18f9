//! The documents and the program say the same: verdicts, commands and their flags, keys, HTTP paths, measurements, payloads, links,
//! make targets, files. What a block marked `run` says is done.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use heartwatch::roles::cli::Cli;
use heartwatch_domain::verdict::Verdict;
use support::heartwatch::{PROGRAM, Program, RunOptions, Running, command_of};

/// Most bytes of the README: a page that one reads to its end.
const README_BYTES_MAX: usize = 10 * 1024;
/// How long the commands of one recipe may take.
const RECIPE: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn documents() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["", "docs", "docs/adr", "docs/recipes", "tests"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    files
}

/// What documents for users say, with their names: not the history, and not the decisions.
fn texts() -> Vec<(String, String)> {
    let files = documents()
        .into_iter()
        .filter(|path| !path.ends_with("CHANGELOG.md") && !path.to_string_lossy().contains("/adr/"));
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Every fenced block: what its fence says of it, and its lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), true) => inside = false,
            (Some(says), false) => {
                found.push((says.trim().to_owned(), String::new()));
                inside = true;
            }
            (None, true) => {
                let (_, block) = found.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            (None, false) => {}
        }
    }
    found
}

/// Everything between two backticks outside of blocks.
fn code_spans(text: &str) -> Vec<String> {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

#[test]
fn the_readme_is_a_page() {
    assert!(read("README.md").len() <= README_BYTES_MAX, "README.md has {} bytes", read("README.md").len());
}

#[test]
fn readme_and_reference_have_every_verdict_with_its_level() {
    let (readme, reference) = (read("README.md"), read("docs/reference.md"));
    for verdict in Verdict::ALL {
        let row = format!("| `{verdict}` | {} |", verdict.level());
        assert!(readme.contains(&row), "README.md has no row '{row}'");
        let row = format!("{row} {} |", verdict.code());
        assert!(reference.contains(&row), "docs/reference.md has no row '{row}'");
    }
}

#[test]
fn the_reference_has_every_command() {
    let reference = read("docs/reference.md");
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let named = |before: &str| [" ", "`"].iter().any(|after| reference.contains(&format!("{before}{name}{after}")));
        assert!(named("| `") || named(", `"), "the table of commands in docs/reference.md lacks {name}");
    }
}

#[test]
fn the_protocol_shows_the_payloads_that_the_code_documents() {
    let protocol = read("docs/protocol.md");
    let code = read("crates/formats/src/envelope/mod.rs");
    let (_, block) = code.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("//! ```").unwrap();
    for line in block.lines() {
        let line = line.trim_start_matches("//! ").trim_end();
        assert!(protocol.contains(line), "docs/protocol.md lacks '{line}'");
    }
}

/// The words of each call of this program in a shell block.
fn calls(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let mut calls = Vec::new();
    for line in joined.lines() {
        for part in line.split(" | ").flat_map(|part| part.split(" && ")) {
            let Some(at) = part.find("heartwatch ") else { continue };
            let before_is_ours = part[..at].split_whitespace().all(|word| word.contains('=') || word == "$");
            if !before_is_ours {
                continue;
            }
            let without_comment = part[at..].split("  #").next().unwrap();
            let words = shlex::split(without_comment).unwrap_or_else(|| panic!("no shell reads: {part}"));
            let is_end = |word: &String| [">", ">>", "&", "<", "done"].contains(&word.as_str());
            let words: Vec<_> = words.into_iter().take_while(|word| !is_end(word)).collect();
            calls.push(words.into_iter().map(|word| word.trim_end_matches(';').to_owned()).collect());
        }
    }
    calls
}

#[test]
fn every_command_line_that_a_document_shows_is_understood() {
    let mut count = 0;
    for (name, text) in texts() {
        let shell = blocks(&text).into_iter().filter(|(says, _)| says.starts_with("sh") || says == "console");
        for words in shell.flat_map(|(_, block)| calls(&block)) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                assert!(!error.use_stderr(), "{name}: {}: {error}", words.join(" "));
            }
        }
    }
    assert!(count > 30, "only {count} command lines found");
}

/// Every flag of every command.
fn flags(command: &clap::Command, found: &mut BTreeSet<String>) {
    let own = command.get_arguments().flat_map(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default().into_iter().map(ToOwned::to_owned);
        argument.get_long().map(ToOwned::to_owned).into_iter().chain(aliases)
    });
    found.extend(own.map(|flag| format!("--{flag}")));
    for command in command.get_subcommands() {
        flags(command, found);
    }
}

/// Flags of other programs that the documents name.
const FOREIGN_FLAGS: [&str; 4] = ["--defect", "--locked", "--help", "--version"];

#[test]
fn every_flag_that_a_document_names_exists() {
    let mut known: BTreeSet<String> = FOREIGN_FLAGS.map(ToOwned::to_owned).into();
    flags(&Cli::command(), &mut known);
    let mut count = 0;
    let users = [
        "README.md",
        "docs/reference.md",
        "docs/fleet.md",
        "docs/operations.md",
        "docs/protocol.md",
        "docs/notifications.md",
    ];
    for (name, text) in users.map(|name| (name, read(name))) {
        for span in code_spans(&text).iter().filter(|span| !span.starts_with("make ") && !span.starts_with("cargo ")) {
            for word in span.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
                let is_name = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
                let flag: String = word.chars().take_while(is_name).collect();
                count += 1;
                assert!(known.contains(&flag), "{name} names {flag} (in `{span}`), which no command has");
            }
        }
    }
    assert!(count > 40, "only {count} flags found");
}

#[test]
fn every_key_that_a_document_names_is_in_the_reference_file() {
    let reference = read("heartwatch.reference.toml");
    let mut tables = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    for line in reference.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches('[').split(']').next().unwrap().to_owned();
            tables.insert(table.split('.').next().unwrap().to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{table}.{key}"));
        }
    }
    let mut count = 0;
    for (name, text) in texts() {
        for span in code_spans(&text) {
            let is_key = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let Some((table, key)) = span.split_once('.') else { continue };
            if tables.contains(table) && is_key(key) && !["rs", "sqlite", "json", "toml", "md"].contains(&key) {
                count += 1;
                assert!(keys.contains(&span), "{name} names the key {span}, which heartwatch.reference.toml lacks");
            }
        }
    }
    assert!(count > 10, "only {count} keys found");
}

/// The paths that the page's own source serves.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("src/web")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(source) = std::fs::read_to_string(&path) else { continue };
        for start in [".route(\"", "web::resource(\""] {
            for (at, _) in source.match_indices(start) {
                found.insert(source[at + start.len()..].split('"').next().unwrap().replace("{id}", "ID"));
            }
        }
    }
    found
}

#[test]
fn the_http_paths_are_those_of_the_reference_and_no_document_names_another() {
    let (routes, reference) = (routes(), read("docs/reference.md"));
    let table: String = reference.lines().filter(|line| line.starts_with("| `")).collect();
    for path in routes
        .iter()
        .filter(|path| path.starts_with("/api/") || ["/metrics", "/healthz", "/readyz"].contains(&path.as_str()))
    {
        assert!(
            table.contains(&format!("{path}`")) || table.contains(&format!("{path}?")),
            "docs/reference.md lacks {path}"
        );
    }
    let mut count = 0;
    for (name, text) in texts() {
        for span in code_spans(&text) {
            for word in span.split_whitespace().filter(|word| word.starts_with("/api/")) {
                let path = word.split('?').next().unwrap().replace("<id>", "ID").replace("{id}", "ID");
                count += 1;
                assert!(routes.contains(&path), "{name} names {path}, which nobody serves");
            }
        }
    }
    assert!(count > 15, "only {count} paths found");
}

/// All of our source in one text.
fn source() -> String {
    fn add(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, text);
            } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "js") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for folder in ["src", "crates"] {
        add(&root().join(folder), &mut text);
    }
    text
}

#[tokio::test]
async fn every_measurement_metric_and_topic_that_a_document_names_exists() {
    let monitor = Running::start(RunOptions::default()).await;
    let metrics = reqwest::get(format!("{}/metrics", monitor.page())).await.unwrap().text().await.unwrap();
    let known = source() + metrics.as_str();
    let mut count = 0;
    for (name, text) in texts() {
        for span in code_spans(&text) {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            let ours = [
                "heartwatch_",
                "monitoring-",
                "sensor_",
                "connectivity_",
                "batch_sending_",
                "dropped_",
                "dead_letter_",
            ];
            if ours.iter().any(|start| span.starts_with(start)) && span.chars().all(is_name) {
                count += 1;
                assert!(known.contains(&span), "{name} names {span}, which is neither in the source nor in /metrics");
            }
        }
    }
    assert!(count > 20, "only {count} names found");
}

#[test]
fn every_rust_file_that_a_document_names_exists() {
    fn add(folder: &Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, names);
            }
            names.push(path.display().to_string());
        }
    }
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "fixtures"] {
        add(&root().join(folder), &mut files);
    }
    let mut count = 0;
    for path in texts().into_iter().map(|(path, _)| PathBuf::from(path)) {
        for span in code_spans(&std::fs::read_to_string(&path).unwrap()) {
            if span.ends_with(".rs") && !span.contains([' ', '*', '<']) {
                count += 1;
                let end = format!("/{}", span.trim_start_matches("./"));
                assert!(
                    files.iter().any(|file| file.ends_with(&end)) || root().join(&span).exists(),
                    "{} names {span}",
                    path.display()
                );
            }
        }
    }
    assert!(count > 15, "only {count} files named");
}

#[test]
fn decisions_are_numbered_without_a_gap_and_listed() {
    let list = read("docs/adr/README.md");
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(root().join("docs/adr")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(number) = name.get(..4).and_then(|number| number.parse::<usize>().ok()) {
            assert!(list.contains(&format!("]({name})")), "docs/adr/README.md does not list {name}");
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

/// The blocks of a document that are marked `run`, done in a directory of their own beside a monitor with its `toml`.
async fn is_done(document: &str, times: usize) {
    let blocks = blocks(&read(document));
    let marked = |kind: &str| {
        let of_kind = blocks.iter().filter(|(says, _)| says == &format!("{kind} run"));
        of_kind.map(|(_, block)| block.as_str()).collect::<Vec<_>>()
    };
    let (config, script) = (marked("toml").concat(), marked("sh").concat());
    assert!(!script.is_empty(), "{document} has no block that is marked");
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("fixtures"), directory.path().join("fixtures")).unwrap();
    let monitor = Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await;
    let port = monitor.mqtt_url().rsplit(':').next().unwrap();
    let bin = Path::new(PROGRAM).parent().unwrap().display();
    let script = format!(
        "set -euo pipefail\nPATH={bin}:$PATH\nexport HEARTWATCH_URL={} HEARTWATCH_MQTT={}\n\
         mosquitto_pub() {{ command mosquitto_pub -p {port} \"$@\"; }}\n{}",
        monitor.page(),
        monitor.mqtt_url(),
        script.repeat(times)
    );
    let mut bash = command_of("bash", monitor.directory());
    bash.args(["-c", &script]);
    let mut bash = Program::start(bash);
    let status = bash.exit(RECIPE).await;
    assert!(status.success(), "{document}: {status}\n{}\n{}", bash.stdout(), bash.stderr());
    if times > 1 {
        let ledger = monitor.ledger().await;
        assert_eq!((ledger.total.received, ledger.total.duplicates), (times as u64, 0), "{document}");
    }
}

#[tokio::test]
async fn the_recipe_of_a_csv_file_is_done() {
    is_done("docs/recipes/csv.md", 1).await;
}

#[tokio::test]
async fn the_recipe_of_a_program_is_done() {
    is_done("docs/recipes/program.md", 1).await;
}

#[tokio::test]
async fn the_recipe_of_this_host_is_done() {
    is_done("docs/recipes/host.md", 1).await;
}

#[tokio::test]
async fn the_recipe_of_a_device_is_done() {
    if support::installed("mosquitto_pub") {
        is_done("docs/recipes/mqtt-device.md", 1).await;
    }
}

#[tokio::test]
async fn the_recipe_of_collectd_is_done() {
    if support::installed("mosquitto_pub") {
        is_done("docs/recipes/collectd.md", 1).await;
    }
}

#[tokio::test]
async fn a_reading_by_hand_that_is_pasted_twice_is_two_readings() {
    if support::installed("mosquitto_pub") {
        is_done("docs/protocol.md", 2).await;
    }
}

#[test]
fn every_make_target_that_is_named_exists_and_has_a_help_text() {
    let makefile = read("Makefile");
    let mut named = BTreeSet::new();
    for file in documents() {
        let text = std::fs::read_to_string(file).unwrap();
        for before in ["`make ", "\nmake ", "&& make "] {
            for (at, _) in text.match_indices(before) {
                let target = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
                named.insert(text[at + before.len()..].chars().take_while(target).collect::<String>());
            }
        }
    }
    assert!(named.contains("demo-scenario-2") && named.contains("test"), "{named:?}");
    for target in named {
        let has_help = |line: &str| line.starts_with(&format!("{target}:")) && line.contains("## ");
        assert!(makefile.lines().any(has_help), "the documents name 'make {target}', which `make help` does not list");
    }
}

/// The anchors that a page's headings have, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_file_that_a_document_links_to_exists() {
    let mut links = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            // one without a file is a heading of the same page
            let target = if target.is_empty() { file.file_name().unwrap().to_str().unwrap() } else { target };
            links += 1;
            let linked = file.parent().unwrap().join(target);
            assert!(linked.exists(), "{} links to {target}, which is not there", file.display());
            let whole = text[at + 2..].split(')').next().unwrap_or_default();
            if let Some((_, anchor)) = whole.split_once('#').filter(|_| target.ends_with(".md")) {
                let headings = anchors(&std::fs::read_to_string(&linked).unwrap());
                assert!(headings.contains(anchor), "{} links to {whole}: there is no such heading", file.display());
            }
        }
    }
    assert!(links > 10, "only {links} links found");
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    let mut names = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap();
        for start in ["`src/", "`tests/", "`crates/"] {
            for (at, _) in text.match_indices(start) {
                let name = text[at + 1..].split('`').next().unwrap_or_default();
                names += 1;
                let path = root().join(name);
                assert!(path.exists() || path.with_extension("rs").exists(), "{} names {name}", file.display());
            }
        }
    }
    assert!(names > 20, "only {names} names found");
}
