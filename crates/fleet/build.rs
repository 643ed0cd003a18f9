//! Makes the gRPC types from `proto/`, by a compiler that is a crate: nobody needs `protoc`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "hosts")]
    compile_protocols()?;
    Ok(())
}

#[cfg(feature = "hosts")]
fn compile_protocols() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=../../proto");
    let files = protox::compile(["monitoring.proto", "etcd.proto"], ["../../proto"]).map_err(std::io::Error::other)?;
    tonic_prost_build::configure().compile_fds(files)?;
    // The generator's attributes give no reason, which `src/wire.rs` cannot allow from outside.
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    for package in ["monitoring.rs", "etcdserverpb.rs"] {
        let code = std::fs::read_to_string(out.join(package))?;
        let code = code.replace("#[allow(non_camel_case_types)]", "");
        let code = code.replace("clippy::let_unit_value,", "clippy::let_unit_value, reason = \"generated\"");
        std::fs::write(out.join(package), code)?;
    }
    Ok(())
}
