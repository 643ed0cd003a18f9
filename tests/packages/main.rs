//! What users are given: demos, units, the stack, rights and descendants.

mod compose;
mod demo;
mod security;
#[path = "../support/mod.rs"]
mod support;
