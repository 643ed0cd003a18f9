//! The publisher actor.
