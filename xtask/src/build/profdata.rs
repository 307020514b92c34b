//! `llvm-profdata`, which makes one profile out of what programs recorded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Rustc;
use crate::shell::{self, capture, find_program, step};

/// An `llvm-profdata` that reads what the compiler's programs record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Profdata(PathBuf);

impl Profdata {
    /// That of the compiler's own component, else one that is installed; an error that says how to
    /// get it if there is none.
    pub(super) fn find(rustc: &Rustc) -> Result<Self> {
        let component =
            rustc.sysroot.join("lib/rustlib").join(&rustc.host).join("bin/llvm-profdata");
        let names = [format!("llvm-profdata-{}", rustc.llvm), "llvm-profdata".to_owned()];
        let installed = names.iter().filter_map(|name| find_program(name));
        let found = std::iter::once(component).filter(|path| path.exists()).chain(installed);
        Self::of(rustc.llvm, found.map(|path| (version(&path), path)))
    }

    /// The first that is new enough.
    fn of(wanted: u32, found: impl Iterator<Item = (Option<u32>, PathBuf)>) -> Result<Self> {
        let mut older = Vec::new();
        for (version, path) in found {
            if version.is_some_and(|version| version >= wanted) {
                return Ok(Self(path));
            }
            let version = version.map_or("of an unknown version".into(), |v| format!("of {v}"));
            older.push(format!("{} is {version}", path.display()));
        }
        let found = if older.is_empty() { "there is none".into() } else { older.join(", ") };
        bail!(
            "a profile needs the llvm-profdata of LLVM {wanted}, the compiler's, or a later one; \
             {found}: run `rustup component add llvm-tools`, or install a package like llvm-{wanted}"
        )
    }

    /// Makes one profile of all that was recorded into `dir`.
    pub(super) fn merge(&self, dir: &Path, out: &Path) -> Result<()> {
        step("reading what was recorded");
        let entries = fs::read_dir(dir)
            .with_context(|| format!("nothing was recorded in {}", dir.display()))?;
        let recorded: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        let Self(program) = self;
        let mut merge = Command::new(program);
        shell::run(merge.args(["merge", "-o"]).arg(out).args(recorded))
    }
}

/// The LLVM it belongs to; old ones do not say.
fn version(program: &Path) -> Option<u32> {
    read_version(&capture(Command::new(program).arg("--version"))?)
}

fn read_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("LLVM version ")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(read_version("Debian LLVM version 22.1.8\n  Optimized build."), Some(22));
        assert_eq!(read_version("USAGE: llvm-profdata <merge|show|overlap>"), None);
    }

    #[test]
    fn the_first_that_is_new_enough_is_taken_and_its_absence_says_what_to_do() {
        let found = |versions: &[Option<u32>]| {
            let found: Vec<_> =
                versions.iter().zip(["a", "b"]).map(|(v, path)| (*v, path.into())).collect();
            Profdata::of(22, found.into_iter()).map_err(|error| error.to_string())
        };
        assert_eq!(found(&[Some(21), Some(23)]), Ok(Profdata("b".into())));
        let advice = "run `rustup component add llvm-tools`, or install a package like llvm-22";
        let error = found(&[Some(21), None]).unwrap_err();
        assert!(error.contains("a is of 21, b is of an unknown version"), "{error}");
        assert!(error.ends_with(advice), "{error}");
        let error = found(&[]).unwrap_err();
        assert!(error.contains("there is none"), "{error}");
    }
}
