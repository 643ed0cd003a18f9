//! The process_probe actor.
