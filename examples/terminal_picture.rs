//! Turns what a program wrote to a terminal (standard input, with its colours) into an SVG (standard
//! output), for the README. `make pictures` runs it on the real output of the demo. Its argument is the
//! command that is shown in the first line.

use std::io::{Read, Write};

use anstyle::{Color, RgbColor};
use anstyle_svg::{Palette, Term};

const BACKGROUND: Color = Color::Rgb(RgbColor(0x16, 0x1b, 0x22));
const FOREGROUND: Color = Color::Rgb(RgbColor(0xd0, 0xd7, 0xde));

/// Readable on the dark background, and told apart by people who see few colours: black, red, green,
/// yellow, blue, magenta, cyan, white, then the bright ones.
const COLOURS: Palette = Palette([
    RgbColor(0x48, 0x4f, 0x58),
    RgbColor(0xff, 0x7b, 0x72),
    RgbColor(0x56, 0xd3, 0x64),
    RgbColor(0xe3, 0xb3, 0x41),
    RgbColor(0x79, 0xc0, 0xff),
    RgbColor(0xd2, 0xa8, 0xff),
    RgbColor(0x76, 0xe3, 0xea),
    RgbColor(0xb1, 0xba, 0xc4),
    RgbColor(0x6e, 0x76, 0x81),
    RgbColor(0xff, 0xa1, 0x98),
    RgbColor(0x7e, 0xe7, 0x87),
    RgbColor(0xf2, 0xcc, 0x60),
    RgbColor(0xa5, 0xd6, 0xff),
    RgbColor(0xe2, 0xc5, 0xff),
    RgbColor(0xb3, 0xf0, 0xff),
    RgbColor(0xff, 0xff, 0xff),
]);

fn main() -> std::io::Result<()> {
    let command = std::env::args().nth(1).unwrap_or_default();
    let mut shown = format!("\x1b[2m$\x1b[0m \x1b[1m{command}\x1b[0m\n");
    std::io::stdin().read_to_string(&mut shown)?;
    // a terminal gets "\r\n"
    let shown = shown.replace('\r', "");
    let terminal = Term::new().palette(COLOURS).fg_color(FOREGROUND).bg_color(BACKGROUND);
    let picture = scalable(&terminal.render_svg(shown.trim_end()));
    // opacity does not apply to a part of a text
    let picture = picture.replace(".dimmed { opacity: 0.4", ".dimmed { fill-opacity: 0.6");
    std::io::stdout().write_all(picture.as_bytes())
}

/// With a `viewBox`, so that a page narrower than the terminal shrinks it instead of cutting it off.
fn scalable(svg: &str) -> String {
    let size = |name: &str| {
        let (_, after) = svg.split_once(&format!("{name}=\""))?;
        after.split_once("px\"").map(|(size, _)| size)
    };
    match (size("width"), size("height")) {
        (Some(width), Some(height)) => svg.replacen("<svg ", &format!("<svg viewBox=\"0 0 {width} {height}\" "), 1),
        _ => svg.to_owned(),
    }
}
