//! The influx adapter.
