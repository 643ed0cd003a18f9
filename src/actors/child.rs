//! The child actor.
