//! roles
pub mod check;
pub mod cli;
