//! One hash over everything the object is made of.
//!
//! The sources of `alb-ebpf` and `alb-common`, the profiles of the workspace, the locked versions
//! of the crates compiled into the object, and the compiler's flags.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::FLAGS;

/// Crates from a registry whose code ends up in the object.
const LINKED: [&str; 5] =
    ["aya-ebpf", "aya-ebpf-bindings", "aya-ebpf-cty", "aya-ebpf-macros", "network-types"];

/// The hash as hexadecimal digits.
pub(super) fn of(root: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in sources(root)? {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        entry(&mut hasher, &name, &bytes);
    }
    let manifest = read(root, "Cargo.toml")?;
    entry(&mut hasher, "profiles", profiles(&manifest).as_bytes());
    let lock = read(root, "Cargo.lock")?;
    for name in LINKED {
        entry(&mut hasher, name, locked(&lock, name).as_bytes());
    }
    entry(&mut hasher, "flags", FLAGS.join("\n").as_bytes());
    Ok(hasher.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

/// Names and contents are length-prefixed: moving bytes between files changes the hash.
fn entry(hasher: &mut Sha256, name: &str, bytes: &[u8]) {
    for part in [name.as_bytes(), bytes] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

fn read(root: &Path, name: &str) -> Result<String> {
    let path = root.join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for package in ["alb-common", "alb-ebpf"] {
        let dir = root.join(package);
        files.push(dir.join("Cargo.toml"));
        let build_script = dir.join("build.rs");
        files.extend(build_script.exists().then_some(build_script));
        collect(&dir.join("src"), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The `[profile…]` tables of the workspace's manifest, which decide how the object is optimized.
fn profiles(manifest: &str) -> String {
    let mut within = false;
    let mut found = String::new();
    for line in manifest.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with('[') {
            within = line.starts_with("[profile");
        }
        if within && !line.trim().is_empty() {
            found.push_str(line);
            found.push('\n');
        }
    }
    found
}

/// The lock file's record of one package; empty if it has none.
fn locked(lock: &str, name: &str) -> String {
    let wanted = format!("name = \"{name}\"");
    let records = lock.split("[[package]]");
    records.filter(|record| record.lines().any(|line| line == wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("Cargo.toml", "[workspace]\n[profile.release]\nlto = \"fat\"\n"),
            ("Cargo.lock", "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n"),
            ("alb-common/Cargo.toml", ""),
            ("alb-common/src/lib.rs", "one"),
            ("alb-ebpf/Cargo.toml", ""),
            ("alb-ebpf/src/main.rs", "two"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn everything_compiled_in_changes_the_hash_and_nothing_else_does() {
        let root = tree();
        let base = of(root.path()).unwrap();
        let changed = |name: &str, text: &str| {
            let path = root.path().join(name);
            let before = fs::read(&path).ok();
            fs::write(&path, text).unwrap();
            let hash = of(root.path()).unwrap();
            match before {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            hash != base
        };
        assert!(changed("alb-ebpf/src/main.rs", "three"));
        assert!(changed("alb-common/src/new.rs", ""));
        assert!(changed("alb-ebpf/Cargo.toml", "[lib]"));
        assert!(changed("Cargo.toml", "[workspace]\n[profile.release]\nlto = false\n"));
        assert!(changed("Cargo.lock", "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.2\"\n"));
        assert!(!changed("Cargo.toml", "[workspace]\n# why\n[profile.release]\nlto = \"fat\"\n"));
        assert!(!changed("alb-ebpf/README.md", "text"));
        assert_eq!(of(root.path()).unwrap(), base);
    }
}
