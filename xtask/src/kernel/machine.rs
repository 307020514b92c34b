//! The virtual machine: boots, shows what it prints, and says how the tests ended.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// What the machine prints before the tests' exit code.
pub(super) const RESULT: &str = "tests ended with ";
/// No run takes longer.
const LIMIT: Duration = Duration::from_mins(50);

/// Ends the machine whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots the kernel with these files and waits for the tests.
pub(super) fn run(kernel: &Path, initramfs: &Path) -> Result<()> {
    let images = fs::read_dir(kernel.join("boot"))?.filter_map(Result::ok);
    let image = images
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
        .context("the package has no kernel image")?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3000"]);
    command.args(["-nographic", "-no-reboot", "-nic", "none"]);
    command.args(["-append", "console=ttyS0 panic=-1 quiet"]);
    command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut machine = Running(command.spawn().context("cannot start qemu-system-x86_64")?);
    let output = machine.0.stdout.take().context("the machine's console is piped")?;

    let (lines, printed) = mpsc::channel();
    thread::spawn(move || {
        let mut console = BufReader::new(output);
        let mut line = Vec::new();
        while console.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = plain(String::from_utf8_lossy(&line).trim_end());
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + LIMIT;
    loop {
        match printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("  | {line}");
                if let Some((_, code)) = line.split_once(RESULT) {
                    if code == "0" {
                        return Ok(());
                    }
                    bail!("the tests failed under this kernel");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine was not done after {} minutes", LIMIT.as_secs() / 60)
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the machine ended before the tests did")
            }
        }
    }
}

/// Without what would set or clear the user's terminal, which the firmware begins with: an escape
/// and one character, or a control sequence up to its final byte (ECMA-48, 5.4).
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            if letters.next() == Some('[') {
                letters.find(|letter| ('\u{40}'..='\u{7e}').contains(letter));
            }
        } else if letter == '\t' || !letter.is_control() {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_does_not_clear_the_screen() {
        let said = "\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS\r (version 1)\tx";
        assert_eq!(plain(said), "SeaBIOS (version 1)\tx");
        assert_eq!(plain("6.1.0 \u{1b}[1"), "6.1.0 ");
    }
}
