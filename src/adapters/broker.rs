//! The broker adapter.
