//! The watchdog actor.
