//! The mqtt adapter.
