//! Puts the charting library into the program: compressed once, here, so that it is served as it is.

use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let mut script = GzEncoder::new(Vec::new(), Compression::best());
    script.write_all(rustlavel_chart::plugin::CHART_JS.as_bytes())?;
    std::fs::write(out.join("chart.js.gz"), script.finish()?)?;
    println!("cargo::rustc-env=HEARTWATCH_CHART_JS_VERSION={}", rustlavel_chart::plugin::CHART_JS_VERSION);
    Ok(())
}
