//! The tables of the store of notifications.

use crate::layout::Layout;

pub(super) const LAYOUT: Layout = Layout {
    what: "a store of notifications",
    application_id: 0x4857_4e54, // "HWNT"
    version: 3,
    create: "
        CREATE TABLE IF NOT EXISTS progress (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            mark INTEGER NOT NULL,
            messages INTEGER NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE IF NOT EXISTS accounts (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL UNIQUE,
            taken INTEGER NOT NULL DEFAULT 0,
            sent INTEGER NOT NULL DEFAULT 0,
            given_up INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            last_given_up TEXT NOT NULL DEFAULT '',
            last_sent INTEGER,
            recent TEXT NOT NULL DEFAULT '[]',
            recent_urgent TEXT NOT NULL DEFAULT '[]',
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE IF NOT EXISTS waiting (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL,
            known_at INTEGER NOT NULL,
            message INTEGER,
            notice TEXT NOT NULL,
            urgent INTEGER NOT NULL DEFAULT 0,
            course_of TEXT NOT NULL DEFAULT '',
            told_with TEXT NOT NULL DEFAULT '',
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX IF NOT EXISTS waiting_by_target ON waiting (target, id);
    ",
    tables: &["progress", "accounts", "waiting"],
    sealed: &["progress", "accounts", "waiting"],
    earlier: &[VERSION_2, VERSION_1],
};

/// Without urgency.
const VERSION_2: Layout = Layout {
    what: "a store of notifications",
    application_id: 0x4857_4e54, // "HWNT"
    version: 2,
    create: "
        CREATE TABLE IF NOT EXISTS progress (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            mark INTEGER NOT NULL,
            messages INTEGER NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE IF NOT EXISTS accounts (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL UNIQUE,
            taken INTEGER NOT NULL DEFAULT 0,
            sent INTEGER NOT NULL DEFAULT 0,
            given_up INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            last_given_up TEXT NOT NULL DEFAULT '',
            last_sent INTEGER,
            recent TEXT NOT NULL DEFAULT '[]',
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE IF NOT EXISTS waiting (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL,
            known_at INTEGER NOT NULL,
            message INTEGER,
            notice TEXT NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX IF NOT EXISTS waiting_by_target ON waiting (target, id);
    ",
    tables: &["progress", "accounts", "waiting"],
    sealed: &["progress", "accounts", "waiting"],
    earlier: &[],
};

/// Without checksums.
const VERSION_1: Layout = Layout {
    what: "a store of notifications",
    application_id: 0x4857_4e54, // "HWNT"
    version: 1,
    create: "
        CREATE TABLE IF NOT EXISTS progress (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            mark INTEGER NOT NULL,
            messages INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE IF NOT EXISTS accounts (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL UNIQUE,
            taken INTEGER NOT NULL DEFAULT 0,
            sent INTEGER NOT NULL DEFAULT 0,
            given_up INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            last_error TEXT NOT NULL DEFAULT '',
            last_given_up TEXT NOT NULL DEFAULT '',
            last_sent INTEGER,
            recent TEXT NOT NULL DEFAULT '[]'
        ) STRICT;
        CREATE TABLE IF NOT EXISTS waiting (
            id INTEGER PRIMARY KEY,
            target TEXT NOT NULL,
            known_at INTEGER NOT NULL,
            message INTEGER,
            notice TEXT NOT NULL
        ) STRICT;
        CREATE INDEX IF NOT EXISTS waiting_by_target ON waiting (target, id);
    ",
    tables: &["progress", "accounts", "waiting"],
    sealed: &[],
    earlier: &[],
};
