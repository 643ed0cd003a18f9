//! Puts the charting library into the program: compressed once, here, so that it is served as it is. Makes
//! the gRPC types from `proto/`, by a compiler that is a crate: nobody needs `protoc`.

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
    #[cfg(feature = "hosts")]
    compile_protocols()?;
    Ok(())
}

#[cfg(feature = "hosts")]
fn compile_protocols() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["monitoring.proto", "etcd.proto"], ["proto"]).map_err(std::io::Error::other)?;
    tonic_prost_build::configure().compile_fds(files)?;
    // The generator's attributes give no reason, which `src/wire.rs` cannot allow from outside.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    for package in ["monitoring.rs", "etcdserverpb.rs"] {
        let code = std::fs::read_to_string(out.join(package))?;
        let code = code.replace("#[allow(non_camel_case_types)]", "");
        let code = code.replace("clippy::let_unit_value,", "clippy::let_unit_value, reason = \"generated\"");
        std::fs::write(out.join(package), code)?;
    }
    Ok(())
}
