//! The tables of the journal.

use crate::layout::Layout;
use crate::records;

/// `blocks.delivered` of a block that waits for the sink.
pub(super) const WAITING: i64 = 0;
/// Of one that the sink has: it is history.
pub(super) const DELIVERED: i64 = 1;
/// Of one that was stored here while there was no sink: it is the one copy.
pub(super) const HERE: i64 = 2;

pub(super) const LAYOUT: Layout = Layout {
    what: "a journal",
    application_id: 0x4857_4a4c, // "HWJL"
    version: 2,
    create: concat!(
        "
        CREATE TABLE IF NOT EXISTS blocks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            committed_at INTEGER NOT NULL DEFAULT (unixepoch()),
            delivered INTEGER NOT NULL DEFAULT 0,
            rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            time_min INTEGER,
            time_max INTEGER,
            row_index BLOB NOT NULL,
            lines_checksum INTEGER NOT NULL,
            lines BLOB NOT NULL
        ) STRICT;
        CREATE INDEX IF NOT EXISTS blocks_waiting ON blocks (id) WHERE delivered = 0;
        CREATE INDEX IF NOT EXISTS blocks_by_age ON blocks (delivered, committed_at);
        CREATE TABLE IF NOT EXISTS incarnations (
            id INTEGER PRIMARY KEY,
            publisher TEXT NOT NULL,
            incarnation INTEGER NOT NULL,
            state BLOB NOT NULL,
            UNIQUE (publisher, incarnation)
        ) STRICT;
        CREATE TABLE IF NOT EXISTS changes (
            epoch INTEGER PRIMARY KEY,
            publisher TEXT NOT NULL,
            json TEXT NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX IF NOT EXISTS changes_by_publisher ON changes (publisher, epoch);
        CREATE TABLE IF NOT EXISTS dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            refused_at TEXT NOT NULL,
            publisher TEXT,
            incarnation INTEGER,
            sequence INTEGER,
            reason TEXT NOT NULL,
            line BLOB NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
    ",
        records::table!()
    ),
    tables: &["incarnations", "changes", "blocks", "dead_letters", "records"],
    sealed: &["changes", "dead_letters", "records"],
    earlier: &[VERSION_1],
};

/// Without checksums of changes and dead letters, and without `records`.
const VERSION_1: Layout = Layout {
    what: "a journal",
    application_id: 0x4857_4a4c, // "HWJL"
    version: 1,
    create: "
        CREATE TABLE IF NOT EXISTS blocks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            committed_at INTEGER NOT NULL DEFAULT (unixepoch()),
            delivered INTEGER NOT NULL DEFAULT 0,
            rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            time_min INTEGER,
            time_max INTEGER,
            row_index BLOB NOT NULL,
            lines_checksum INTEGER NOT NULL,
            lines BLOB NOT NULL
        ) STRICT;
        CREATE INDEX IF NOT EXISTS blocks_waiting ON blocks (id) WHERE delivered = 0;
        CREATE INDEX IF NOT EXISTS blocks_by_age ON blocks (delivered, committed_at);
        CREATE TABLE IF NOT EXISTS incarnations (
            id INTEGER PRIMARY KEY,
            publisher TEXT NOT NULL,
            incarnation INTEGER NOT NULL,
            state BLOB NOT NULL,
            UNIQUE (publisher, incarnation)
        ) STRICT;
        CREATE TABLE IF NOT EXISTS changes (
            epoch INTEGER PRIMARY KEY,
            publisher TEXT NOT NULL,
            json TEXT NOT NULL
        ) STRICT;
        CREATE INDEX IF NOT EXISTS changes_by_publisher ON changes (publisher, epoch);
        CREATE TABLE IF NOT EXISTS dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            refused_at TEXT NOT NULL,
            publisher TEXT,
            incarnation INTEGER,
            sequence INTEGER,
            reason TEXT NOT NULL,
            line BLOB NOT NULL
        ) STRICT;
    ",
    tables: &["incarnations", "changes", "blocks", "dead_letters"],
    sealed: &[],
    earlier: &[],
};
