//! What a person sees in a terminal: coloured tables there, plain text in a pipe.

pub mod aside;
pub mod paint;
pub mod prompt;
pub mod story;
pub mod tables;
pub mod top;
