//! What a person sees in a terminal: coloured tables there, plain text in a pipe.

pub mod change_line;
pub mod paint;
pub mod prompt;
pub mod status_footer;
pub mod tables;
pub mod top;

use std::io::{IsTerminal as _, Write as _};

use self::tables::Drawing;

/// How to draw on standard output: coloured and as wide as the terminal, or plain for a pipe.
#[must_use]
pub fn drawing() -> Drawing {
    if !std::io::stdout().is_terminal() {
        return Drawing::PLAIN;
    }
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let width =
        rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|width| *width > 0);
    Drawing { colour, width }
}

/// One line to standard output. A reader that has gone away (`| head`) does not end the demo.
pub fn print_line(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
