//! The documents and the structure.

mod architecture;
#[path = "../support/mod.rs"]
mod support;
mod texts;
