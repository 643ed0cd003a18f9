//! The subscriber actor.
