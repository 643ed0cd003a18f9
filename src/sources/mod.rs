//! Floor 3: what a publisher reads.

pub mod csv;
