//! What a person sees in a terminal: coloured tables there, plain text in a pipe.

pub mod change_line;
pub mod paint;
pub mod prompt;
pub mod status_footer;
pub mod tables;
pub mod top;
