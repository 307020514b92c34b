//! Named network namespaces, owned: made under a unique name, removed on drop.
//!
//! They are entered by `setns` in a thread, or in a child before it starts its program; never by
//! `ip netns exec`, which gives each command a mount namespace of its own and so hides bpffs.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use alb_userspace::datapath::pins::Pins;
use nix::sched::{CloneFlags, setns};

use crate::{daemon::BPFFS, wait};

/// Where `ip netns` keeps names.
const DIR: &str = "/run/netns";

/// One network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace named `alb-{pid}-{n}-{label}` with loopback up. The first call also
    /// removes what dead processes left, and mounts bpffs where nobody has.
    pub fn new(label: &str) -> Self {
        static FIRST: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        FIRST.call_once(|| {
            // Before any two daemons could do so at once, and for what is pinned before there is one.
            Pins::at(Path::new(BPFFS)).expect("bpffs");
            remove_leftovers();
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("alb-{}-{number}-{label}", process::id());
        must(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.name)
    }

    /// Runs `work` in a thread inside the namespace and waits for it. Sockets keep the namespace
    /// they were made in, so that what `work` returns may be used anywhere.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = self.open();
        let inside = move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("entering a network namespace");
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Listens inside the namespace. What another test has just forked holds every socket until it
    /// has become its program, so an address that was given up may be taken for a moment.
    pub fn listen(&self, address: SocketAddr) -> TcpListener {
        wait::until(&format!("{address} to be free"), wait::LONG, || {
            match self.enter(|| TcpListener::bind(address)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
                listener => Some(listener.unwrap_or_else(|error| panic!("{address}: {error}"))),
            }
        })
    }

    /// A command that will run inside the namespace, in a process group of its own and not
    /// outliving the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let file = self.open();
        let mut command = Command::new(program);
        command.process_group(0);
        let enter = move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "only the child can enter a namespace for itself")]
        // SAFETY: between fork and exec `enter` makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(enter)
        };
        command
    }

    /// Runs `ip {words}` in the namespace; not as `ip -n`, which hides bpffs too.
    pub fn ip(&self, words: &str) -> String {
        must(self.command("ip").args(words.split_whitespace()))
    }

    /// Empties its neighbour tables. `ip` fails if somebody else changes an entry meanwhile.
    pub fn forget_neighbours(&self) {
        wait::until("neighbours to be forgotten", wait::LONG, || {
            let flushed = self.command("ip").args(["neighbour", "flush", "all"]).output();
            flushed.is_ok_and(|flushed| flushed.status.success()).then_some(())
        });
    }

    /// Runs `ethtool {words}` in the namespace.
    pub fn ethtool(&self, words: &str) -> String {
        must(self.command("ethtool").args(words.split_whitespace()))
    }

    /// Runs `tc {words}` in the namespace.
    pub fn tc(&self, words: &str) -> String {
        must(self.command("tc").args(words.split_whitespace()))
    }

    /// Writes a file under `/proc/sys/net`, which shows the writer's namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn open(&self) -> File {
        let path = self.path();
        File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Runs a command to its end and returns what it printed; panics with its error if it fails.
pub fn must(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("{command:?}: not installed; run `cargo xtask setup`")
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Never panics: it runs while a failed test unwinds.
fn delete(name: &str) {
    match Command::new("ip").args(["netns", "del", name]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("cannot delete {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Err(error) => eprintln!("cannot delete {name}: {error}"),
    }
}

fn remove_leftovers() {
    for name in names_in(Path::new(DIR)) {
        if is_of_dead_process(&name, "alb-") {
            delete(&name);
        }
    }
    let bpffs = Path::new(BPFFS);
    for name in names_in(bpffs) {
        if is_of_dead_process(&name, crate::daemon::PIN_PREFIX) {
            let path = bpffs.join(&name);
            let is_dir = path.is_dir();
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                eprintln!("cannot remove {name}: {error}");
            }
        }
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Names are a prefix, the maker's process id, and more.
fn is_of_dead_process(name: &str, prefix: &str) -> bool {
    let id = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
    id.and_then(|id| id.parse::<u32>().ok())
        .is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_known_by_their_makers_process() {
        assert!(!is_of_dead_process(&format!("alb-{}-0-client", process::id()), "alb-"));
        assert!(is_of_dead_process("alb-4194999-0-client", "alb-"));
        assert!(!is_of_dead_process("albatross", "alb-"));
        assert!(!is_of_dead_process("eth0", "alb-"));
    }
}
