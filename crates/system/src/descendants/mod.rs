//! What a program has started, and what that has started in turn: found and ended together with the program.
//!
//! A process leaves its process group with one call (`setsid`), and its parent with another (a second `fork`), so a signal to
//! the group does not reach it. Two traces stay: every process inherits a mark in its environment, and a process whose parent
//! ends becomes a child of the nearest *subreaper* (prctl(2)), which [`adopt_orphans`] makes this process.
//! A process that clears its environment and loses its parent is known as a descendant of this process only: it ends with it.
//!
//! Only Linux has `/proc` and subreapers; elsewhere nothing is found, and the process group alone is ended.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(target_os = "linux"))]
use portable as platform;

use platform::{Process, Row};

/// The variable that holds the marks: one for each program on the way down, separated by `/`.
pub const MARK_VARIABLE: &str = "HEARTWATCH_DESCENT";
/// What a notification's command has in its environment: what it leaves running on purpose may stay.
const MAY_STAY: &str = "HEARTWATCH_DELIVERY";
/// How long between two looks for processes that have been told to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often processes are killed that come back (a fork may be faster than one look), before it is said that some are left.
const KILL_ROUNDS_MAX: u32 = 40;
/// How long between two looks for orphans that have ended; one that is found twice is collected.
const COLLECT_EVERY: Duration = Duration::from_secs(5);

/// The processes that descend from one start of a program. When it is dropped before they were ended in order, they are killed.
#[derive(Debug)]
pub struct Descendants {
    mark: String,
    found: Vec<Process>,
    ended: bool,
}

impl Descendants {
    /// Marks a program that is about to be started. Call it after other changes of the environment.
    #[must_use]
    pub fn mark(command: &mut Command) -> Self {
        // Nobody gains by knowing or repeating it: who carries it is ended.
        let mark = format!("{:016x}", RandomState::new().build_hasher().finish());
        let above = std::env::var(MARK_VARIABLE).unwrap_or_default();
        command.env(MARK_VARIABLE, if above.is_empty() { mark.clone() } else { format!("{above}/{mark}") });
        Self { mark, found: Vec::new(), ended: false }
    }

    /// The program could not be started: there is nobody to look for.
    pub fn forget(mut self) {
        self.ended = true;
    }

    /// SIGTERM for all that descend from the program `root`, which still runs and gets none.
    pub async fn terminate(&mut self, root: Option<u32>) {
        let mark = self.mark.clone();
        self.found = in_background(move || find(&mark, root)).await;
        for process in &self.found {
            process.terminate();
        }
    }

    /// Waits until all have ended; at `deadline` they get SIGKILL. The answer names those that had to be killed.
    pub async fn end(mut self, deadline: Instant) -> Vec<String> {
        let mut killed = Vec::new();
        let mut rounds = 0;
        loop {
            let mark = self.mark.clone();
            let marked = in_background(move || find(&mark, None)).await;
            let known: HashSet<u32> = self.found.iter().map(Process::pid).collect();
            self.found.extend(marked.into_iter().filter(|process| !known.contains(&process.pid())));
            self.found.retain(Process::runs);
            if self.found.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                rounds += 1;
                if rounds > KILL_ROUNDS_MAX {
                    let left = names(&self.found);
                    tracing::error!(left, "processes that a program has started cannot be ended");
                    break;
                }
                for process in &self.found {
                    process.kill();
                    let name = process.to_string();
                    if !killed.contains(&name) {
                        killed.push(name);
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.ended = true;
        killed
    }
}

impl Drop for Descendants {
    /// One look at `/proc`, some milliseconds: it is for a program whose owner has failed.
    fn drop(&mut self) {
        if !self.ended {
            for process in self.found.drain(..).chain(find(&self.mark, None)) {
                process.kill();
            }
        }
    }
}

/// Makes this process the parent of every descendant whose own parent ends.
///
/// # Errors
/// When the system has no subreapers.
pub fn adopt_orphans() -> std::io::Result<()> {
    platform::become_subreaper()
}

/// Collects adopted orphans that have ended, for ever. Our own children are waited for at once by whoever started them, so one
/// that is a zombie at two looks in a row is an orphan.
pub async fn collect_orphans() {
    let mut before: HashSet<(u32, u64)> = HashSet::new();
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        let own = std::process::id();
        let rows = if platform::has_zombie() { in_background(platform::processes).await } else { Vec::new() };
        let zombies =
            rows.iter().filter(|row| row.parent == own && row.is_zombie).map(|row| (row.pid, row.start_ticks));
        let zombies: HashSet<(u32, u64)> = zombies.collect();
        for (pid, _) in zombies.intersection(&before) {
            platform::collect(*pid);
        }
        before = zombies;
    }
}

/// Kills everything that descends from this process, at its end.
pub async fn end_all() {
    let own = std::process::id();
    for _ in 0..KILL_ROUNDS_MAX {
        let left: Vec<Process> = in_background(move || {
            let rows = platform::processes();
            let wanted = below(&rows, HashSet::from([own]));
            rows.iter()
                .filter(|row| row.pid != own && wanted.contains(&row.pid) && !row.is_zombie)
                .filter(|row| !platform::has_variable(row.pid, MAY_STAY, |_| true))
                .filter_map(Process::open)
                .collect()
        })
        .await;
        if left.is_empty() {
            return;
        }
        tracing::warn!(processes = names(&left), "processes that a program has left behind are killed");
        for process in &left {
            process.kill();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn names(processes: &[Process]) -> String {
    processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn in_background<T: Send + 'static>(look: impl FnOnce() -> Vec<T> + Send + 'static) -> Vec<T> {
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Those that carry the mark or descend from `root`, with all that descends from them, but `root` itself.
fn find(mark: &str, root: Option<u32>) -> Vec<Process> {
    let rows = platform::processes();
    let carries = |row: &&Row| {
        platform::has_variable(row.pid, MARK_VARIABLE, |marks| marks.split('/').any(|carried| carried == mark))
    };
    let marked = rows.iter().filter(|row| !row.is_zombie).filter(carries).map(|row| row.pid);
    let wanted = below(&rows, marked.chain(root).collect());
    let above = above(&rows, std::process::id());
    rows.iter()
        .filter(|row| wanted.contains(&row.pid) && !above.contains(&row.pid))
        .filter(|row| Some(row.pid) != root && !row.is_zombie)
        .filter_map(Process::open)
        .collect()
}

/// These and all that descend from them.
fn below(rows: &[Row], mut of: HashSet<u32>) -> HashSet<u32> {
    loop {
        let children: Vec<u32> =
            rows.iter().filter(|row| of.contains(&row.parent) && !of.contains(&row.pid)).map(|row| row.pid).collect();
        if children.is_empty() {
            return of;
        }
        of.extend(children);
    }
}

/// A process and its ancestors, which are never ended.
fn above(rows: &[Row], of: u32) -> HashSet<u32> {
    let mut found = HashSet::from([0, 1]);
    let mut next = Some(of);
    while let Some(pid) = next.filter(|pid| found.insert(*pid)) {
        next = rows.iter().find(|row| row.pid == pid).map(|row| row.parent);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn row(pid: u32, parent: u32) -> Row {
        Row { pid, parent, is_zombie: false, start_ticks: 0, name: String::new() }
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_ancestors_are_never_among_them() {
        let rows = [row(1, 0), row(10, 1), row(20, 10), row(30, 20), row(40, 30), row(50, 1)];
        assert_eq!(below(&rows, HashSet::from([20])), HashSet::from([20, 30, 40]));
        assert_eq!(above(&rows, 20), HashSet::from([0, 1, 10, 20]));
        let circle = [row(5, 6), row(6, 5)];
        assert_eq!(above(&circle, 5), HashSet::from([0, 1, 5, 6]));
        assert_eq!(below(&circle, HashSet::from([5])), HashSet::from([5, 6]));
    }
}
