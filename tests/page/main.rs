//! The page, its JSON and its logins; the terminal; what Grafana is given.

mod access;
mod browser_page;
mod console;
mod grafana;
mod pictures;
#[path = "../support/mod.rs"]
mod support;
