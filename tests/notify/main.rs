//! Who is told: webhooks, mail, commands, alarms.

mod mail;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod targets;
