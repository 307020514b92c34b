//! Where things are in the repository.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The top of the repository. Cargo says where it is when it runs us; a copied binary falls back
/// to where it was built.
pub(crate) fn root() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The cargo that runs us, so that every step uses the toolchain the user chose.
pub(crate) fn cargo() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Cargo's home, where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin"))
}

/// The committed BPF object.
pub(crate) fn prebuilt_object() -> PathBuf {
    root().join("alb-ebpf/prebuilt/alb.bpf.o")
}

/// The committed object of `alb capture`.
#[cfg(test)]
pub(crate) fn prebuilt_capture() -> PathBuf {
    root().join("alb-ebpf/prebuilt/capture.bpf.o")
}

/// The hash of the sources the committed objects were built from.
pub(crate) fn prebuilt_hash() -> PathBuf {
    root().join("alb-ebpf/prebuilt/sources.sha256")
}

/// The object the tests run: built from source, never the committed one.
pub(crate) fn built_object() -> PathBuf {
    root().join("target/bpf/alb.bpf.o")
}
