//! Puts the BPF object where the loader embeds it from: the one `ALB_BPF_OBJECT` names, else the
//! committed one, so that a plain build needs no BPF toolchain.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=ALB_BPF_OBJECT");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let object = env::var_os("ALB_BPF_OBJECT")
        .map_or_else(|| manifest.join("../alb-ebpf/prebuilt/alb.bpf.o"), PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("alb.bpf.o");
    if let Err(error) = fs::copy(&object, &out) {
        panic!("cannot embed the BPF object {}: {error}", object.display());
    }
}
