//! Every file is compiled, and who may import whom. A room imports rooms on lower floors only, and on its own floor none but
//! what is written here. The plan of the house is in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Floor of each room; the room of a file is the first folder (or file) below `src/`.
const FLOORS: [(&str, u32); 8] = [
    ("messages", 1),
    ("sources", 1),
    ("runtime", 2),
    ("actors", 3),
    ("web", 3),
    ("config", 4),
    ("roles", 5),
    ("main", 6),
];

/// Each crate below `src/`, and the ones below it.
const CRATES: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("formats", &["domain"]),
    ("system", &["domain"]),
    ("ports", &["domain", "formats"]),
    ("console", &["domain", "formats"]),
    ("store", &["domain", "formats", "system", "ports"]),
    ("adapters", &["domain", "formats", "system", "ports"]),
    ("fleet", &["domain", "formats", "system", "ports"]),
    ("servers", &["domain", "system"]),
    ("lab", &["domain", "formats", "system", "ports", "console", "store", "adapters", "fleet", "servers"]),
];

/// Crates of which every part is on its own, and what their parts have in common.
const APART: [(&str, &[&str]); 2] = [("adapters", &[]), ("fleet", &["tls", "wire", "agents"])];

/// What a room must not name, though it could: room, crate, what of it all the same, why not.
const FORBIDDEN: [(&str, &str, &str, &str); 3] = [
    ("actors", "heartwatch_adapters", "", "an actor reaches the outside world through a port"),
    ("actors", "heartwatch_fleet", "plugins", "an actor reaches the outside world through a port"),
    ("config", "heartwatch_fleet", "", "it is read by a program without the fleet, too: its Config types are in ports"),
];

fn floor_of(room: &str) -> u32 {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("src/{room} has no floor: give it one in tests/documents/architecture.rs")).1
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Every `crate::room` (or `heartwatch::room`), and every part of a crate of ours, that a file names outside comments, with its line.
fn imports(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for marker in ["crate::", "heartwatch::"] {
            let starts = code
                .match_indices(marker)
                .filter(|(at, _)| !code[..*at].ends_with(|c: char| c == '_' || c == '"' || c.is_alphanumeric()));
            for (at, _) in starts {
                let rest = &code[at + marker.len()..];
                let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                let room = path.split("::").next().unwrap_or_default().to_owned();
                if !room.is_empty() {
                    found.push((number + 1, room, path));
                }
            }
        }
        for (at, _) in code.match_indices("heartwatch_") {
            let path: String =
                code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            if let Some((name, _)) = path.split_once("::") {
                found.push((number + 1, name.to_owned(), path));
            }
        }
    }
    found
}

/// What is wrong with one import, or nothing.
fn objection(room: &str, own_module: &str, to: &str, path: &str) -> Option<String> {
    let target = path.split("::").nth(1).unwrap_or_default();
    if to.starts_with("heartwatch_") {
        let forbidden = FORBIDDEN.iter().find(|(from, name, but, _)| *from == room && *name == to && *but != target);
        return forbidden.map(|(_, _, _, why)| format!("{room} must not import {path}: {why}"));
    }
    if room == to {
        return (room == "actors" && !own_module.is_empty() && target != own_module)
            .then(|| format!("actors never import each other ({own_module} → {target})"));
    }
    let (from_floor, to_floor) = (floor_of(room), floor_of(to));
    (to_floor >= from_floor).then(|| format!("{room} (floor {from_floor}) imports {to} (floor {to_floor})"))
}

#[test]
fn rooms_import_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 30, "only {} files found: the test looks in the wrong place", files.len());
    let mut objections = BTreeSet::new();
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let mut parts = inside.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs"));
        let room = parts.next().unwrap();
        if room == "lib" {
            continue;
        }
        let own_module = parts.next().filter(|module| *module != "mod").unwrap_or_default();
        for (line, to, path) in imports(&std::fs::read_to_string(&file).unwrap()) {
            if let Some(objection) = objection(room, own_module, &to, &path) {
                objections.insert(format!("src/{}:{line}: {objection}", inside.display()));
            }
        }
    }
    assert!(objections.is_empty(), "\n{}\n", objections.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Whether `text`, the file that a folder belongs to, makes `file` of that folder a module.
fn declares(text: &str, file: &str) -> bool {
    let declaration = format!("mod {};", file.trim_end_matches(".rs"));
    let path = format!("#[path = \"{file}\"]");
    text.lines().map(str::trim).any(|line| {
        let is_declaration = line.strip_suffix(declaration.as_str()).is_some_and(|visibility| {
            visibility.is_empty() || (visibility.starts_with("pub") && visibility.ends_with(' '))
        });
        is_declaration || line == path
    })
}

/// A file that no `mod` names is not compiled, and its tests pass by never being run.
#[test]
fn every_file_is_a_module_of_its_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "crates"] {
        rust_files(&root.join(folder), &mut files);
    }
    // Cargo finds these by itself; what lies beside them is a module of whichever of them needs it.
    let is_target = |file: &&PathBuf| ["tests", "benches"].iter().any(|name| file.parent() == Some(&root.join(name)));
    let targets: Vec<PathBuf> = files.iter().filter(is_target).cloned().collect();
    let mut orphans = BTreeSet::new();
    for file in files {
        let mut folder = file.parent().unwrap().to_owned();
        let mut name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let is_root = ["main.rs", "lib.rs", "build.rs"].contains(&name.as_str());
        if is_root || targets.contains(&file) {
            continue;
        }
        if name == "mod.rs" {
            name = format!("{}.rs", folder.file_name().unwrap().to_str().unwrap());
            folder = folder.parent().unwrap().to_owned();
        }
        let owners = ["mod.rs", "lib.rs", "main.rs"].map(|owner| folder.join(owner));
        let beside = targets.iter().filter(|target| target.parent() == Some(&folder));
        let of_its_name = folder.with_extension("rs");
        // what the programs of tests/ share is a module of each of them
        let shared = file == root.join("tests/support/mod.rs");
        if shared && declares(&std::fs::read_to_string(root.join("tests/rows/main.rs")).unwrap(), "../support/mod.rs") {
            continue;
        }
        let mut owners = owners.iter().chain([&of_its_name]).chain(beside);
        if !owners.any(|owner| std::fs::read_to_string(owner).is_ok_and(|text| declares(&text, &name))) {
            orphans.insert(format!("{}: no `mod {};`", file.display(), name.trim_end_matches(".rs")));
        }
    }
    assert!(orphans.is_empty(), "\n{}\n", orphans.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_comment_or_another_name_declares_no_module() {
    assert!(declares("mod watch;", "watch.rs") && declares("    pub(super) mod watch;", "watch.rs"));
    assert!(declares("#[cfg(not(kafka))]\n#[path = \"without_kafka.rs\"]\nmod kafka;", "without_kafka.rs"));
    assert!(!declares("// mod watch;\nmod stopwatch;\nmod watch { }", "watch.rs"));
}

#[test]
fn the_domain_reads_no_clock_and_does_no_io() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/domain/src");
    let mut files = Vec::new();
    rust_files(&folder, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for banned in ["tokio", "actix", "std::fs", "std::net", "std::io", "Instant::now", "SystemTime", "rusqlite"]
            {
                assert!(!code.contains(banned), "{}:{}: {banned} in domain", file.display(), number + 1);
            }
        }
    }
}

/// Cargo refuses what a crate does not name; this says what it may name.
#[test]
fn a_crate_depends_on_the_crates_below_it_and_the_domain_on_no_runtime() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = |name: &str| -> BTreeSet<String> {
        let package = format!("heartwatch-{name}");
        let output = std::process::Command::new(&cargo)
            .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--package", &package])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    for (name, below) in CRATES {
        let of_ours = tree(name).into_iter().filter_map(|name| name.strip_prefix("heartwatch-").map(str::to_owned));
        let strangers: Vec<_> = of_ours.filter(|other| other != name && !below.contains(&other.as_str())).collect();
        assert!(strangers.is_empty(), "crates/{name} depends on {strangers:?}");
    }
    let domain = tree("domain");
    assert!(domain.contains("heartwatch-domain"), "{domain:?}");
    for banned in ["tokio", "actix", "rusqlite", "rustix"] {
        assert!(!domain.contains(banned), "the domain depends on {banned}");
    }
}

#[test]
fn a_part_of_the_outside_world_knows_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut objections = BTreeSet::new();
    for (name, shared) in APART {
        let source = root.join("crates").join(name).join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        assert!(files.len() > 5, "only {} files found in crates/{name}", files.len());
        for file in files {
            let inside = file.strip_prefix(&source).unwrap();
            let own = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
            for (line, to, _) in imports(&std::fs::read_to_string(&file).unwrap()) {
                let is_part = source.join(&to).exists() || source.join(format!("{to}.rs")).exists();
                if is_part && to != own && !shared.contains(&to.as_str()) {
                    objections.insert(format!("crates/{name}/src/{}:{line}: {own} imports {to}", inside.display()));
                }
            }
        }
    }
    assert!(objections.is_empty(), "\n{}\n", objections.into_iter().collect::<Vec<_>>().join("\n"));
}

/// The modules of one crate, each by its path below the crate, with the file that it is in.
fn modules(source: &Path) -> BTreeMap<Vec<String>, PathBuf> {
    let mut files = Vec::new();
    rust_files(source, &mut files);
    let of_file = |file: &PathBuf| {
        let inside = file.strip_prefix(source).unwrap().with_extension("");
        let mut path: Vec<String> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        path.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
        path
    };
    files.iter().map(|file| (of_file(file), file.clone())).collect()
}

/// Every path that a piece of code names, from its crate's root or from its own module on: `use` trees are taken apart.
fn paths(code: &str) -> BTreeSet<Vec<String>> {
    fn take_apart(before: &str, tree: &str, found: &mut BTreeSet<Vec<String>>) {
        let Some((common, rest)) = tree.split_once('{') else {
            let path = format!("{before}{tree}");
            let names = path.split("::").map(|name| name.split(" as ").next().unwrap_or_default().trim().to_owned());
            found.insert(names.collect());
            return;
        };
        let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
        let (mut depth, mut begin) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let part = inside[begin..at].trim();
                    if !part.is_empty() {
                        take_apart(&format!("{before}{}", common.trim()), part, found);
                    }
                    begin = at + 1;
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    for start in ["crate::", "super::", "self::"] {
        let starts = code
            .match_indices(start)
            .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || ['_', ':', '"'].contains(&c)));
        for (at, _) in starts {
            let in_a_use = code[..at].trim_end().ends_with("use");
            let is_tree_end = |c: char| c == ';' || c == '"';
            let is_path_end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
            let rest = &code[at..];
            let end = if in_a_use { rest.find(is_tree_end) } else { rest.find(is_path_end) };
            let tree = rest[..end.unwrap_or(rest.len())].split_whitespace().collect::<Vec<_>>().join(" ");
            take_apart("", &tree, &mut found);
        }
    }
    found
}

/// Which other files of its crate each file names. A folder's own file and what is in the folder belong together.
fn edges(modules: &BTreeMap<Vec<String>, String>) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let named = |module: &Vec<String>, path: Vec<String>| -> Option<Vec<String>> {
        let mut base = module.clone();
        let mut rest = path.as_slice();
        match rest.first()?.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            _ => {}
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        while !base.is_empty() && !modules.contains_key(&base) {
            base.pop();
        }
        (!base.is_empty() && !module.starts_with(&base) && !base.starts_with(module)).then_some(base)
    };
    let of_module = |(module, text): (&Vec<String>, &String)| {
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let code = code.join("\n");
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        (module.clone(), paths(code).into_iter().filter_map(|path| named(module, path)).collect())
    };
    modules.iter().filter(|(module, _)| !module.iter().any(|name| name.ends_with("tests"))).map(of_module).collect()
}

/// A way from a file over others back to it, where there is one.
fn circle(edges: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<String>> {
    fn follow<'a>(
        at: &'a Vec<String>,
        edges: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
        way: &mut Vec<&'a Vec<String>>,
        done: &mut BTreeSet<&'a Vec<String>>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|module| *module == at) {
            return Some(way[begin..].iter().chain([&at]).map(|module| module.join("::")).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = edges.get(at).into_iter().flatten().find_map(|next| follow(next, edges, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|module| follow(module, edges, &mut Vec::new(), &mut done))
}

#[test]
fn no_files_go_round_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = CRATES.iter().map(|(name, _)| root.join("crates").join(name).join("src"));
    let mut named = 0;
    for source in crates.chain([root.join("src")]) {
        let texts = modules(&source).into_iter().map(|(module, file)| (module, std::fs::read_to_string(file).unwrap()));
        let edges = edges(&texts.collect());
        named += edges.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(circle(&edges), None, "{}", source.display());
    }
    assert!(named > 1_000, "only {named} names of other files found: the test looks in the wrong place");
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let found = |texts: &[(&str, &str)]| {
        let path = |name: &str| name.split("::").map(str::to_owned).collect();
        circle(&edges(&texts.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect()))
    };
    let tree = "use std::fmt;\nuse super::{\n    c::{self, D},\n    e::F as G,\n};";
    assert!(found(&[("a::b", tree), ("a::c", ""), ("a::e", "fn f() { crate::a::b::g() }")]).is_some());
    assert!(found(&[("a::b", tree), ("a::c", "// super::b"), ("a::e", "use super::c::D;")]).is_none());
    assert!(found(&[("a", "use self::b::C;"), ("a::b", "use super::D;")]).is_none(), "a folder and its own file");
    assert!(found(&[("a", "use crate::b;"), ("b", "#[cfg(test)]\nmod tests {\n    use crate::a;\n}")]).is_none());
    assert!(found(&[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::a;")]).is_some());
}

/// Words that say how something feels, or that only this house knew. docs/glossary.md has the ones that are used.
const RETIRED: [&str; 35] = [
    "aside",
    "assemble",
    "begun",
    "calm",
    "consequences",
    "course",
    "crowd",
    "desk",
    "dissection",
    "draft",
    "engine",
    "everybody",
    "fresh",
    "feeds",
    "hearing",
    "helper",
    "helpers",
    "inquiry",
    "known",
    "line_limit",
    "manager",
    "manual",
    "objections",
    "own_thread",
    "receipts",
    "stamps",
    "stolen",
    "story",
    "surroundings",
    "takers",
    "tied",
    "touched",
    "utils",
    "vitals",
    "watchman",
];

/// `SetWatchman` → `set`, `watchman`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        words.last_mut().unwrap().extend(c.to_lowercase().filter(|c| *c != '_'));
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Which retired word a name is made of, if any.
fn retired(name: &str) -> Option<&'static str> {
    // The field's own word for systemd and its like.
    let words = words_of(name).join("_").replace("service_manager", "");
    RETIRED.into_iter().find(|retired| format!("_{words}_").contains(&format!("_{retired}_")))
}

#[test]
fn no_file_module_or_type_has_a_retired_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests", "benches"] {
        rust_files(&root.join(folder), &mut files);
    }
    let (mut objections, mut names) = (BTreeSet::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let declared = text.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            let line = line.trim_start_matches("pub ");
            let kind =
                ["struct ", "enum ", "trait ", "type ", "mod "].into_iter().find(|kind| line.starts_with(kind))?;
            line[kind.len()..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
        });
        for name in declared.chain(file.file_stem().and_then(std::ffi::OsStr::to_str)) {
            names += 1;
            if let Some(word) = retired(name) {
                objections.insert(format!("{}: {name} ({word})", file.display()));
            }
        }
    }
    assert!(names > 1_000, "only {names} names found: the test looks in the wrong place");
    assert!(objections.is_empty(), "\n{}\n", objections.into_iter().collect::<Vec<_>>().join("\n"));
    assert_eq!(
        (retired("SetWatchman"), retired("own_thread"), retired("OwnThread")),
        (Some("watchman"), Some("own_thread"), Some("own_thread"))
    );
    assert_eq!((retired("Recourse"), retired("thread")), (None, None));
}

/// Its private state is ours to break with every update: one file knows it, and the version is exact.
#[test]
fn the_mqtt_clients_private_state_is_touched_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("rumqttc = { version = \"="), "rumqttc is not pinned exactly");
    let mut files = Vec::new();
    rust_files(&root.join("crates/adapters/src"), &mut files);
    let touches = |file: &&PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        ["eventloop.state", "eventloop.network.", "eventloop.pending", "self.network.", "self.state."]
            .iter()
            .any(|field| text.contains(field))
    };
    let touching: Vec<_> = files.iter().filter(touches).map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(touching, ["client_state.rs"]);
}

#[test]
fn the_rules_object_to_what_they_forbid() {
    assert!(objection("messages", "beats", "actors", "actors::watchdog").is_some());
    assert!(objection("actors", "watchdog", "heartwatch_adapters", "heartwatch_adapters::mqtt").is_some());
    assert!(objection("actors", "collector", "heartwatch_fleet", "heartwatch_fleet::plugins").is_none());
    assert!(objection("actors", "watchdog", "actors", "actors::subscriber").is_some());
    assert!(objection("web", "api", "actors", "actors::watchdog").is_some());
    assert!(objection("web", "ports", "runtime", "runtime::outlet").is_none());
    assert!(objection("roles", "run", "actors", "actors::watchdog").is_none());
    assert!(objection("actors", "watchdog", "heartwatch_domain", "heartwatch_domain::watch").is_none());
    let named = imports("use crate::messages::beats;\n// crate::web\nlet x = my_crate::web; crate::runtime::outlet");
    assert_eq!(named.iter().map(|(_, room, _)| room.as_str()).collect::<Vec<_>>(), ["messages", "runtime"]);
}
