//! What docs/security.md promises, on the real program and real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

mod authority;
mod descendants;
mod files;
mod passwords;
mod units;
