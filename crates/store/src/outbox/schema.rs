//! The tables of an outbox.

use crate::layout::Layout;
use crate::records;

pub(super) const LAYOUT: Layout = Layout {
    what: "an outbox",
    application_id: 0x4857_4f42, // "HWOB"
    version: 2,
    create: concat!(
        "
        CREATE TABLE IF NOT EXISTS lives (
            incarnation INTEGER PRIMARY KEY,
            last INTEGER NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE IF NOT EXISTS readings (
            id INTEGER PRIMARY KEY,
            incarnation INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            reading BLOB NOT NULL,
            UNIQUE (incarnation, sequence)
        ) STRICT;
        CREATE TABLE IF NOT EXISTS given_up (
            id INTEGER PRIMARY KEY,
            incarnation INTEGER NOT NULL,
            first INTEGER NOT NULL,
            last INTEGER NOT NULL,
            reason TEXT NOT NULL,
            checksum INTEGER NOT NULL DEFAULT 0
        ) STRICT;
    ",
        records::table!()
    ),
    tables: &["lives", "given_up", "readings", "records"],
    sealed: &["lives", "given_up", "records"],
    earlier: &[VERSION_1],
};

/// Without checksums of lives and ranges, and without `records`.
const VERSION_1: Layout = Layout {
    what: "an outbox",
    application_id: 0x4857_4f42, // "HWOB"
    version: 1,
    create: "
        CREATE TABLE IF NOT EXISTS lives (
            incarnation INTEGER PRIMARY KEY,
            last INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE IF NOT EXISTS readings (
            id INTEGER PRIMARY KEY,
            incarnation INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            reading BLOB NOT NULL,
            UNIQUE (incarnation, sequence)
        ) STRICT;
        CREATE TABLE IF NOT EXISTS given_up (
            id INTEGER PRIMARY KEY,
            incarnation INTEGER NOT NULL,
            first INTEGER NOT NULL,
            last INTEGER NOT NULL,
            reason TEXT NOT NULL
        ) STRICT;
    ",
    tables: &["lives", "given_up", "readings"],
    sealed: &[],
    earlier: &[],
};
