//! What a person types at the server's and the analysis' console, read once.

/// A line at the server's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerLine {
    /// What there is.
    Help,
    /// Who is connected.
    List,
    /// How everybody does.
    Health,
    /// What has come and gone.
    Stats,
    /// A new configuration for an agent.
    Config {
        /// Its node.
        host: String,
        /// The document.
        json: String,
    },
    /// A command for agents.
    Send(Sending),
    /// The end.
    Quit,
}

/// A command for agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// A client id, or `all`.
    pub target: String,
    /// What to do.
    pub kind: String,
    /// What it is about.
    pub data: String,
}

/// A line at the analysis' console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnalysisLine {
    /// What there is.
    Help,
    /// Count, average, minimum and maximum.
    Stats,
    /// A command for agents.
    Send(Sending),
    /// The end.
    Quit,
}

/// The words of the server's console, for completion.
pub const SERVER_WORDS: [&str; 7] = ["help", "list", "health", "stats", "config", "send", "quit"];
/// The words of the analysis' console, for completion.
pub const ANALYSIS_WORDS: [&str; 4] = ["help", "stats", "send", "quit"];
/// The commands that agents know, for completion.
pub const AGENT_COMMANDS: [&str; 5] = ["status", "get_config", "probe", "ping", "reload"];

/// What the server's console can do.
pub const SERVER_HELP: &str = "\
help                               this
list                               the agents that are connected
health                             the verdict on every publisher, and the parts of the server
stats                              readings and commands, and what waits
config <host> <json>               a new configuration for an agent, by etcd: config node-1 {\"interval\": 2}
send <client|all> <command> [data] status, get_config, probe <pid>, ping, reload
quit                               end in order";

/// What the analysis' console can do.
pub const ANALYSIS_HELP: &str = "\
help                               this
stats                              count, average, minimum and maximum for each client and metric
send <client|all> <command> [data] status, get_config, probe <pid>, ping, reload
quit                               end";

/// The first word of a line, and the rest.
fn word(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.split_once(char::is_whitespace) {
        Some((first, rest)) => (first, rest.trim()),
        None => (line, ""),
    }
}

fn sending(rest: &str) -> Result<Sending, String> {
    let (target, rest) = word(rest);
    let (kind, data) = word(rest);
    if kind.is_empty() {
        return Err("send whom what? For example: send all status".to_owned());
    }
    Ok(Sending { target: target.to_owned(), kind: kind.to_owned(), data: data.to_owned() })
}

fn unknown(word: &str, words: &[&str]) -> String {
    let excerpt: String = word.chars().take(40).collect();
    format!("'{excerpt}' is not a command; there are {}", words.join(", "))
}

/// Reads a line at the server's console; none for an empty one.
///
/// # Errors
/// What would be right.
pub fn server_line(line: &str) -> Result<Option<ServerLine>, String> {
    let (first, rest) = word(line);
    Ok(Some(match first {
        "" => return Ok(None),
        "help" | "?" => ServerLine::Help,
        "list" => ServerLine::List,
        "health" => ServerLine::Health,
        "stats" => ServerLine::Stats,
        "quit" | "exit" => ServerLine::Quit,
        "send" => ServerLine::Send(sending(rest)?),
        "config" => {
            let (host, json) = word(rest);
            if json.is_empty() {
                return Err("config whose, and what? For example: config node-1 {\"interval\": 2}".to_owned());
            }
            ServerLine::Config { host: host.to_owned(), json: json.to_owned() }
        }
        other => return Err(unknown(other, &SERVER_WORDS)),
    }))
}

/// Reads a line at the analysis' console; none for an empty one.
///
/// # Errors
/// What would be right.
pub fn analysis_line(line: &str) -> Result<Option<AnalysisLine>, String> {
    let (first, rest) = word(line);
    Ok(Some(match first {
        "" => return Ok(None),
        "help" | "?" => AnalysisLine::Help,
        "stats" => AnalysisLine::Stats,
        "quit" | "exit" => AnalysisLine::Quit,
        "send" => AnalysisLine::Send(sending(rest)?),
        other => return Err(unknown(other, &ANALYSIS_WORDS)),
    }))
}

/// The words that may stand where the cursor is; `clients` are the names that are known.
#[must_use]
pub fn completions(before: &str, words: &[&str], clients: &[String]) -> Vec<String> {
    let begun = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let complete: Vec<&str> = before.get(..before.len() - begun.len()).unwrap_or_default().split_whitespace().collect();
    let choices: Vec<&str> = match complete.as_slice() {
        [] => words.to_vec(),
        ["send"] if words.contains(&"send") => clients.iter().map(String::as_str).chain(["all"]).collect(),
        ["send", _] if words.contains(&"send") => AGENT_COMMANDS.to_vec(),
        ["config"] if words.contains(&"config") => clients.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    choices.into_iter().filter(|choice| choice.starts_with(begun)).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_wrong_ones_explained() {
        let sending = |target: &str, kind: &str, data: &str| Sending {
            target: target.to_owned(),
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(server_line("  send  a probe 4711 "), Ok(Some(ServerLine::Send(sending("a", "probe", "4711")))));
        assert_eq!(analysis_line("send all status"), Ok(Some(AnalysisLine::Send(sending("all", "status", "")))));
        let config = ServerLine::Config { host: "n".to_owned(), json: "{\"interval\": 2}".to_owned() };
        assert_eq!(server_line("config n {\"interval\": 2}"), Ok(Some(config)));
        assert_eq!(server_line(" "), Ok(None));
        for wrong in ["send", "send all", "config n", "format c:"] {
            assert!(server_line(wrong).is_err(), "{wrong}");
        }
        assert!(analysis_line("list").unwrap_err().contains("stats, send"));
    }

    #[test]
    fn what_is_begun_is_completed() {
        let clients = ["agent-1".to_owned()];
        assert_eq!(completions("s", &SERVER_WORDS, &clients), ["stats", "send"]);
        assert_eq!(completions("send a", &SERVER_WORDS, &clients), ["agent-1", "all"]);
        assert_eq!(completions("send agent-1 p", &SERVER_WORDS, &clients), ["probe", "ping"]);
        assert_eq!(completions("config ", &SERVER_WORDS, &clients), ["agent-1"]);
        assert_eq!(completions("config ", &ANALYSIS_WORDS, &clients), [""; 0]);
    }
}
