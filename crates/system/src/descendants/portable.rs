//! Where there is no `/proc`: nothing is found.

use std::fmt;

/// A process as the system lists it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) is_zombie: bool,
    pub(super) start_ticks: u64,
    pub(super) name: String,
}

/// A process that can be signalled.
#[derive(Debug)]
pub(super) struct Process(u32);

impl Process {
    pub(super) const fn open(row: &Row) -> Option<Self> {
        let _ = (row.start_ticks, &row.name);
        None
    }

    pub(super) const fn pid(&self) -> u32 {
        self.0
    }

    pub(super) const fn runs(&self) -> bool {
        false
    }

    pub(super) const fn terminate(&self) {}

    pub(super) const fn kill(&self) {}
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn become_subreaper() -> std::io::Result<()> {
    Ok(())
}

pub(super) const fn has_zombie() -> bool {
    false
}

pub(super) const fn processes() -> Vec<Row> {
    Vec::new()
}

pub(super) fn has_variable(_: u32, _: &str, _: impl Fn(&str) -> bool) -> bool {
    false
}

pub(super) const fn collect(_: u32) {}
