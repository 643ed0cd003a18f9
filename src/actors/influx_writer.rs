//! The influx_writer actor.
