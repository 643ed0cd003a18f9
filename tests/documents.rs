//! The documents and the program say the same: verdicts, commands, make targets, payloads, links.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use heartwatch::roles::cli::Cli;
use heartwatch_domain::verdict::Verdict;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn documents() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["", "docs", "docs/adr"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn the_readme_has_every_verdict_with_its_level() {
    let readme = read("README.md");
    for verdict in Verdict::ALL {
        let row = format!("| `{verdict}` | {} |", verdict.level());
        assert!(readme.contains(&row), "README.md has no row '{row}'");
    }
}

/// Commands that are not finished: the README promises nothing of them.
const UNFINISHED: [&str; 0] = [];

#[test]
fn the_readme_has_every_command_that_works() {
    let readme = read("README.md");
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        if UNFINISHED.contains(&name) {
            assert!(!readme.contains(&format!("heartwatch {name}")), "README.md speaks of {name}: is it finished?");
            continue;
        }
        let named = |before: &str| [" ", "`"].iter().any(|after| readme.contains(&format!("{before}{name}{after}")));
        assert!(named("| `") || named(", `"), "README.md's table of commands lacks {name}");
    }
}

#[test]
fn the_readme_shows_the_payloads_that_the_code_documents() {
    let readme = read("README.md");
    let code = read("crates/formats/src/envelope/mod.rs");
    let (_, block) = code.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("//! ```").unwrap();
    for line in block.lines() {
        let line = line.trim_start_matches("//! ").trim_end();
        assert!(readme.contains(line), "README.md lacks '{line}'");
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

#[test]
fn every_file_that_a_document_links_to_exists() {
    let mut links = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let linked = file.parent().unwrap().join(target);
            assert!(linked.exists(), "{} links to {target}, which is not there", file.display());
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
