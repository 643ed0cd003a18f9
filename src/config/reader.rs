//! Reads one key through all layers, remembers every mistake with its place, and knows in the end
//! which names nobody asked for.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Diagnostics, nearest};
use super::document::{Given, SourceFile};
use super::environment::{Environment, PREFIX, READ_ELSEWHERE, variables_of};

/// Where a value came from, lowest layer first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A line of the file.
    Line(usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

/// A value that some layer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    /// Who gave it.
    pub(super) origin: Origin,
}

/// A table of the file (perhaps absent) and the keys that belong to it.
#[derive(Debug, Clone)]
pub(super) struct Scope<'a> {
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// The line of its header.
    pub(super) line: usize,
    has_variables: bool,
}

impl Scope<'_> {
    /// A key with its tables.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// All layers, and what was wrong in them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a SourceFile,
    root: &'a DeTable<'a>,
    environment: &'a Environment,
    mistakes: Vec<Diagnostic>,
    syntax_mistakes: Vec<Diagnostic>,
    notes: Vec<String>,
    known_keys: BTreeSet<String>,
    known_tables: BTreeSet<String>,
    known_lists: BTreeSet<String>,
    known_variables: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// A reader over a parsed file and the environment.
    pub(super) fn new(
        file: &'a SourceFile,
        root: &'a DeTable<'a>,
        syntax_mistakes: Vec<Diagnostic>,
        environment: &'a Environment,
    ) -> Self {
        Self {
            file,
            root,
            environment,
            mistakes: Vec::new(),
            syntax_mistakes,
            notes: Vec::new(),
            known_keys: BTreeSet::new(),
            known_tables: BTreeSet::new(),
            known_lists: BTreeSet::new(),
            known_variables: BTreeSet::new(),
        }
    }

    /// The keys outside any table.
    pub(super) fn root(&self) -> Scope<'a> {
        Scope { path: String::new(), table: Some(self.root), line: 1, has_variables: true }
    }

    /// A `[table]` at the top.
    pub(super) fn table(&mut self, name: &str) -> Scope<'a> {
        self.known_tables.insert(name.to_owned());
        let mut scope = Scope { path: name.to_owned(), table: None, line: 1, has_variables: true };
        if let Some(value) = self.root.get(name) {
            scope.line = self.file.line_at(value.span().start);
            match value.get_ref() {
                DeValue::Table(table) => scope.table = Some(table),
                _ => self.mistake(&Origin::Line(scope.line), name, format!("is not a table: write [{name}]")),
            }
        }
        scope
    }

    /// The `[[tables]]` of a name within a scope, in the file's order.
    pub(super) fn tables(&mut self, within: &Scope<'a>, name: &str) -> Vec<Scope<'a>> {
        let path = within.key(name);
        self.known_lists.insert(path.clone());
        let Some(value) = within.table.and_then(|table| table.get(name)) else { return Vec::new() };
        let line = self.file.line_at(value.span().start);
        let wrong = format!("is not a list of tables: write [[{path}]], with two brackets");
        let DeValue::Array(items) = value.get_ref() else {
            self.mistake(&Origin::Line(line), &path, wrong);
            return Vec::new();
        };
        let mut scopes = Vec::new();
        for item in items.iter() {
            let line = self.file.line_at(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => {
                    scopes.push(Scope { path: path.clone(), table: Some(table), line, has_variables: false });
                }
                _ => self.mistake(&Origin::Line(line), &path, wrong.clone()),
            }
        }
        scopes
    }

    /// One key through all layers: the highest that gives it wins, a mistake in any of them is remembered.
    pub(super) fn read<T>(
        &mut self,
        scope: &Scope<'a>,
        name: &str,
        flag: Option<(&'static str, T)>,
        parse: impl Fn(Given<'_>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let key = scope.key(name);
        self.known_keys.insert(key.clone());
        let mut found = None;
        if let Some(value) = scope.table.and_then(|table| table.get(name)) {
            let origin = Origin::Line(self.file.line_at(value.span().start));
            match parse(Given::of(value.get_ref())) {
                Ok(value) => found = Some(Sourced { value, origin }),
                Err(message) => self.mistake(&origin, &key, message),
            }
        }
        if scope.has_variables {
            found = self.read_variables(&variables_of(&key), &parse).or(found);
        }
        flag.map(|(flag, value)| Sourced { value, origin: Origin::Flag(flag) }).or(found)
    }

    /// A list in the file; each wrong item is a mistake of its own, at its own line.
    pub(super) fn list<T>(
        &mut self,
        scope: &Scope<'a>,
        name: &str,
        parse: impl Fn(Given<'_>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let key = scope.key(name);
        self.known_keys.insert(key.clone());
        let value = scope.table.and_then(|table| table.get(name))?;
        let line = self.file.line_at(value.span().start);
        let DeValue::Array(items) = value.get_ref() else {
            self.mistake(&Origin::Line(line), &key, "is not a list: write it in brackets, like [\"…\"]");
            return None;
        };
        let mut list = Vec::new();
        for item in items.iter() {
            match parse(Given::of(item.get_ref())) {
                Ok(item) => list.push(item),
                Err(message) => {
                    let line = self.file.line_at(item.span().start);
                    self.mistake(&Origin::Line(line), &key, message);
                }
            }
        }
        Some(list)
    }

    /// Whether a key of the file is a list.
    pub(super) fn is_list(&self, scope: &Scope<'a>, name: &str) -> bool {
        let value = scope.table.and_then(|table| table.get(name));
        value.is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_)))
    }

    /// One value from variables that mean the same.
    pub(super) fn read_variables<T>(
        &mut self,
        names: &[String],
        parse: impl Fn(Given<'_>) -> Result<T, String>,
    ) -> Option<Sourced<T>> {
        let mut found: Option<Sourced<T>> = None;
        let environment = self.environment;
        for name in names {
            self.known_variables.insert(name.clone());
            let Some(value) = environment.get(name) else { continue };
            let origin = Origin::Variable(name.clone());
            let parsed = match value.to_str() {
                Some(text) => parse(Given::Plain(text)),
                None => Err("is not UTF-8 text".to_owned()),
            };
            match (parsed, &found) {
                (Ok(_), Some(Sourced { origin: Origin::Variable(other), .. })) => {
                    let message = format!("means the same as {other}: set only one of them");
                    self.mistake(&origin, name, message);
                }
                (Ok(value), _) => found = Some(Sourced { value, origin }),
                (Err(message), _) => self.mistake(&origin, name, message),
            }
        }
        found
    }

    /// Remembers a mistake at the place that a value came from.
    pub(super) fn mistake(&mut self, origin: &Origin, key: &str, message: impl Into<String>) {
        let (file, line, key) = match origin {
            Origin::Line(line) => (self.file.name(), Some(*line), key),
            Origin::Variable(name) => ("environment".to_owned(), None, name.as_str()),
            Origin::Flag(flag) => ("command line".to_owned(), None, *flag),
        };
        let diagnostic = Diagnostic::new(&file, line, key, &message.into());
        if !self.mistakes.contains(&diagnostic) {
            self.mistakes.push(diagnostic);
        }
    }

    /// Remembers what is odd but not wrong about a key.
    pub(super) fn note(&mut self, key: &str, what: &str) {
        let note = format!("{key}: {what}");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Remembers that a key is missing from a table; not said where the file could not be read
    /// whole, because then it may well be there.
    pub(super) fn missing(&mut self, scope: &Scope<'_>, name: &str, message: impl Into<String>) {
        if self.syntax_mistakes.is_empty() {
            self.mistake(&Origin::Line(scope.line), &scope.key(name), message);
        }
    }

    /// Remembers a mistake at the line of a key of the file, be its value right or wrong.
    pub(super) fn mistake_at(&mut self, scope: &Scope<'_>, name: &str, message: impl Into<String>) {
        let at = self.origin_of(scope, name).unwrap_or(Origin::Line(scope.line));
        self.mistake(&at, &scope.key(name), message);
    }

    /// Where a key of the file's table stands, be its value right or wrong.
    pub(super) fn origin_of(&self, scope: &Scope<'_>, name: &str) -> Option<Origin> {
        let offset = scope.table?.get(name)?.span().start;
        Some(Origin::Line(self.file.line_at(offset)))
    }

    /// Whether the file's table has this key, be its value right or wrong.
    pub(super) fn has(&self, scope: &Scope<'_>, name: &str) -> bool {
        scope.table.is_some_and(|table| table.contains_key(name))
    }

    /// The file that is being read.
    pub(super) fn file(&self) -> &'a SourceFile {
        self.file
    }

    /// Every mistake, those about unknown names included, in the order of the file; and what is odd
    /// but not wrong.
    pub(super) fn finish(mut self) -> (Diagnostics, Vec<String>) {
        self.unknown_in(self.root, "");
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.unknown_variables());
        // a line that is not TOML is one mistake, however many follow from it
        let mut mistakes = self.syntax_mistakes;
        let broken: BTreeSet<usize> = mistakes.iter().filter_map(|mistake| mistake.line).collect();
        mistakes.extend(
            self.mistakes.into_iter().filter(|mistake| mistake.line.is_none_or(|line| !broken.contains(&line))),
        );
        mistakes.sort_by_key(|mistake| (mistake.line.is_none(), mistake.line));
        (Diagnostics(mistakes), notes)
    }

    fn unknown_in(&mut self, table: &'a DeTable<'a>, path: &str) {
        for (key, value) in table {
            let full = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            // one of the wrong shape is a mistake already, and what is in it is not looked at
            if self.known_tables.contains(&full) {
                if let DeValue::Table(inner) = value.get_ref() {
                    self.unknown_in(inner, &full);
                }
            } else if self.known_lists.contains(&full) {
                let items = value.get_ref().as_array().into_iter().flat_map(|items| items.iter());
                for inner in items.filter_map(|item| item.get_ref().as_table()) {
                    self.unknown_in(inner, &full);
                }
            } else if !self.known_keys.contains(&full) {
                let origin = Origin::Line(self.file.line_at(key.span().start));
                let message = self.unknown_message(&full, path, key.get_ref(), value.get_ref());
                self.mistake(&origin, &full, message);
            }
        }
    }

    fn unknown_message(&self, full: &str, path: &str, name: &str, value: &DeValue<'_>) -> String {
        if name == "secret" && path == "notify" {
            return "a secret does not belong in this file: set secret_file to a file with it".to_owned();
        }
        if matches!(name, "password" | "token") && matches!(path, "mqtt" | "influx" | "mail") {
            let variable = variables_of(full).swap_remove(0);
            return format!("a secret does not belong in this file: set {full}_file to a file with it, or {variable}");
        }
        let is_table = matches!(value, DeValue::Table(_))
            || matches!(value, DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()));
        let what = if is_table { "table" } else { "key" };
        // first among its neighbours, then wherever a key has this very name, then by all names
        let known: BTreeSet<&String> = if is_table {
            self.known_tables.union(&self.known_lists).collect()
        } else {
            self.known_keys.iter().collect()
        };
        let neighbours = known.iter().filter_map(|key| {
            let neighbour =
                if path.is_empty() { Some(key.as_str()) } else { key.strip_prefix(path)?.strip_prefix('.') };
            neighbour.filter(|neighbour| !neighbour.contains('.'))
        });
        let near = nearest(name, neighbours).map(ToOwned::to_owned);
        let elsewhere = || known.iter().find(|key| key.rsplit('.').next() == Some(name)).map(|key| (*key).clone());
        let anywhere = || nearest(full, known.iter().map(|key| key.as_str())).map(ToOwned::to_owned);
        match near.or_else(elsewhere).or_else(anywhere) {
            Some(name) => format!("unknown {what}: did you mean '{name}'?"),
            None => format!("unknown {what}"),
        }
    }

    /// A variable that is one slip away from a known one is a mistake. Another one of our prefix may
    /// be somebody else's (Kubernetes sets `HEARTWATCH_SERVICE_HOST` by itself): that is only noted.
    fn unknown_variables(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        let environment = self.environment;
        let unknown = environment.names().filter(|name| !READ_ELSEWHERE.contains(name));
        for name in unknown {
            if self.known_variables.contains(name) {
                continue;
            }
            let distance = |known: &str| strsim::damerau_levenshtein(name, known);
            let meant = self.known_variables.iter().min_by_key(|known| distance(known)).cloned();
            match meant {
                Some(known) if distance(&known) <= 2 && name.len() > PREFIX.len() + 2 => {
                    let origin = Origin::Variable(name.to_owned());
                    self.mistake(&origin, name, format!("unknown variable: did you mean {known}?"));
                }
                _ => notes.push(format!("the variable {name} means nothing to heartwatch")),
            }
        }
        notes
    }
}
