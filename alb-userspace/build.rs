//! Puts the BPF objects where the loader embeds them from: the one `ALB_BPF_OBJECT` names and the
//! one of `alb capture` beside it, else the committed ones, so that a plain build needs no BPF
//! toolchain.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-env-changed=ALB_BPF_OBJECT");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let prebuilt = manifest.join("../alb-ebpf/prebuilt");
    let object =
        env::var_os("ALB_BPF_OBJECT").map_or_else(|| prebuilt.join("alb.bpf.o"), PathBuf::from);
    embed(&object, "alb.bpf.o");
    let capture = object.with_file_name("capture.bpf.o");
    // An object may have been kept alone.
    let capture = if capture.exists() { capture } else { prebuilt.join("capture.bpf.o") };
    embed(&capture, "capture.bpf.o");
}

fn embed(object: &Path, name: &str) {
    println!("cargo:rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name);
    if let Err(error) = fs::copy(object, &out) {
        panic!("cannot embed the BPF object {}: {error}", object.display());
    }
}
