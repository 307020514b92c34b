//! House rules that no compiler checks, as tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::workspace;

const MAX_LINES: usize = 500;

/// Packages of this repository whose sources follow the rules.
const PACKAGES: [&str; 5] = ["alb-common", "alb-ebpf", "alb-userspace", "tests", "xtask"];

/// A file whose path starts with `of` contains none of `words`.
struct Edge {
    of: &'static str,
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const EDGES: [Edge; 5] = [
    Edge {
        of: "alb-userspace/src/",
        except: &["alb-userspace/src/datapath/"],
        words: &["aya::", "use aya"],
        why: "only the loader and its tables name aya",
    },
    Edge {
        of: "alb-userspace/src/model",
        except: &[],
        words: &["crate::", "serde", "tokio", "std::fs"],
        why: "the model knows nothing but itself",
    },
    Edge {
        of: "alb-userspace/src/config",
        except: &[],
        words: &["crate::state", "crate::datapath", "crate::health", "crate::control", "tokio"],
        why: "a file becomes a model; who uses it is not its business",
    },
    Edge {
        of: "alb-userspace/src/health",
        except: &[],
        words: &["crate::datapath", "crate::control", "crate::config"],
        why: "checks report states to the store; what follows from them is not their business",
    },
    Edge {
        of: "alb-common/src/",
        except: &[],
        words: &["extern crate alloc", "aya"],
        why: "the contract is plain data for both sides",
    },
];

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

/// Name from the top of the repository, and text, of every file with this extension.
fn files(extension: &str) -> Vec<(String, String)> {
    let root = workspace::root();
    let mut paths = Vec::new();
    for package in PACKAGES {
        walk(&root.join(package), &mut paths);
    }
    let examples = root.join("examples");
    if examples.is_dir() {
        walk(&examples, &mut paths);
    }
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Panics with one line for each file that `wrong` has something to say about.
fn check(what: &str, wrong: impl Fn(&str, &str) -> Option<String>) {
    let sources = files("rs");
    assert!(sources.len() > 50, "only {} files found", sources.len());
    let found = sources.iter().filter_map(|(name, text)| {
        wrong(name, text).map(|complaint| format!("\n  {name}: {complaint}"))
    });
    let complaints: String = found.collect();
    assert!(complaints.is_empty(), "{what}{complaints}");
}

#[test]
fn files_are_small() {
    check("files have one subject and at most 500 lines", |_, text| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines"))
    });
}

#[test]
fn files_say_what_they_own() {
    check("a file begins with a `//!` header", |_, text| {
        let mut lines = text.lines().skip_while(|line| line.starts_with("#!["));
        let header = lines.next().is_some_and(|line| line.starts_with("//! "));
        (!header).then(|| "no header".to_owned())
    });
}

#[test]
fn modules_are_named_files() {
    check("modules are foo.rs and foo/, never mod.rs", |name, _| {
        name.ends_with("/mod.rs").then(|| "rename it".to_owned())
    });
}

#[test]
fn modules_know_only_what_they_may() {
    check("module dependencies", |name, text| {
        let applies = |edge: &&Edge| {
            name.starts_with(edge.of) && !edge.except.iter().any(|other| name.starts_with(other))
        };
        let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
        EDGES.iter().filter(applies).find_map(|edge| {
            let named = edge.words.iter().find(|word| code().any(|line| line.contains(**word)))?;
            Some(format!("names `{named}`, but {}", edge.why))
        })
    });
}

#[test]
fn no_path_of_a_machine() {
    // In pieces, so that this file passes.
    let homes = ["/ro", "/ho", "/wo"].map(str::to_owned);
    let rests = ["ot/", "me/", "rk/"];
    let words: Vec<String> =
        homes.iter().zip(rests).map(|(home, rest)| format!("{home}{rest}")).collect();
    let wrong = |text: &str| words.iter().find(|word| text.contains(word.as_str())).cloned();
    check("paths of a developer's machine", |_, text| wrong(text));
    for (name, text) in [files("toml"), files("yaml")].concat() {
        assert_eq!(wrong(&text), None, "{name}");
    }
    for object in [workspace::prebuilt_object(), workspace::prebuilt_capture()] {
        let bytes = fs::read(&object).unwrap();
        assert_eq!(wrong(&String::from_utf8_lossy(&bytes)), None, "{}", object.display());
    }
}
