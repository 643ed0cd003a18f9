//! What `/proc/PID/stat` tells beyond sysinfo, in the form of proc(5).

/// What `/proc/PID/stat` tells beyond sysinfo.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) start_ticks: u64,
}

/// The name is in parentheses and may hold anything, more parentheses too: the fields follow the last one.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (before, fields) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // The first of these is field 3, the state.
    let state = fields.split_ascii_whitespace().next()?.chars().next()?;
    let start_ticks = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    Some(Stat { name: name.to_owned(), state, start_ticks })
}
