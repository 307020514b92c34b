//! The file: whole lines or nothing, and never much larger than it may be. During a takeover two
//! daemons write to it: who appends, rotates or takes back holds its lock (`flock`).

use std::{
    ffi::OsString,
    fs::{File, Metadata, OpenOptions, metadata, rename},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::model;

/// Owner and group: requests name people.
const MODE: u32 = 0o640;

pub(super) struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<Open>,
    /// The last renaming failed.
    stuck: bool,
}

struct Open {
    file: File,
    /// Bytes in it; counts for nothing if it is not a regular file.
    size: u64,
    regular: bool,
    /// It ends within a line, which could not be taken back.
    torn: bool,
}

impl LogFile {
    pub(super) fn new(settings: &model::AccessLog) -> Self {
        let model::AccessLog { file, format: _, max_bytes, keep, tcp_flows: _ } = settings;
        Self { path: file.clone(), max_bytes: *max_bytes, keep: *keep, open: None, stuck: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it unless it is open.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(Open::at(&self.path)?);
        }
        Ok(())
    }

    /// The next use opens the name anew.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Appends lines, all or none. After a failure the next call begins anew.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.lock()?;
        let max_bytes = self.max_bytes;
        let full = |open: &Open| {
            let size = open.size + lines.len() as u64;
            open.regular && open.size > 0 && size > max_bytes
        };
        while self.open.as_ref().is_some_and(full) {
            // What is there after a rotation may be full again, by another daemon's lines.
            // Somebody has done it already: that daemon, or who will send the signal.
            if self.open.as_ref().is_some_and(|open| !open.is_at(&self.path)) {
                self.close();
                self.lock()?;
                continue;
            }
            self.rotate()?;
            if self.stuck {
                break;
            }
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let appended = open.append(lines);
        let torn = open.torn;
        open.unlock();
        if appended.is_err() && !torn {
            self.open = None;
        }
        appended
    }

    /// Opens it if need be, and waits for its lock.
    fn lock(&mut self) -> io::Result<()> {
        self.open()?;
        self.open.as_mut().map_or(Ok(()), Open::lock)
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, …; the one beyond `keep` is replaced.
    fn rotate(&mut self) -> io::Result<()> {
        let renamed = self.shift();
        match &renamed {
            Err(error) if !self.stuck => {
                let path = self.path.display();
                tracing::error!(file = %path, %error, "the access log cannot be rotated, it goes on growing");
            }
            Ok(()) | Err(_) => {}
        }
        self.stuck = renamed.is_err();
        if renamed.is_ok() {
            // The lock goes with the file: who waits for it finds it renamed.
            self.close();
            self.lock()?;
        }
        Ok(())
    }

    fn shift(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, size: metadata.len(), regular: metadata.is_file(), torn: false })
    }

    /// Waits until nobody else writes, and learns how long it is by then.
    fn lock(&mut self) -> io::Result<()> {
        if self.regular {
            self.file.lock()?;
            self.size = self.file.metadata()?.len();
        }
        Ok(())
    }

    fn unlock(&self) {
        if self.regular
            && let Err(error) = self.file.unlock()
        {
            tracing::debug!(%error, "the access log stays locked until it is closed");
        }
    }

    /// Whether the name still stands for this file.
    fn is_at(&self, path: &Path) -> bool {
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let (own, there) = (self.file.metadata(), metadata(path));
        own.is_ok_and(|own| there.is_ok_and(|there| identity(&own) == identity(&there)))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write(b"\n")?;
            self.torn = false;
        }
        let before = self.size;
        let written = self.write(lines);
        if written.is_err() && self.size > before {
            // A disk that is full takes a part.
            match self.file.set_len(before) {
                Ok(()) if self.regular => self.size = before,
                Ok(()) | Err(_) => self.torn = true,
            }
        }
        written
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.size += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// As two daemons during a takeover.
    #[test]
    fn two_writers_rotate_one_file_once() {
        const MAX: u64 = 1_000;
        const LINES: usize = 40;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let settings = model::AccessLog {
            file: path.clone(),
            format: model::LogFormat::Json,
            max_bytes: MAX,
            keep: 20,
            tcp_flows: false,
        };
        thread::scope(|scope| {
            for writer in ["a", "b"] {
                let mut log = LogFile::new(&settings);
                scope.spawn(move || {
                    for number in 0..LINES {
                        let line = format!("{writer} {number:-<96}\n");
                        log.append(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        let files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(files.iter().map(|text| text.lines().count()).sum::<usize>(), 2 * LINES);
        // 80 lines of 99 bytes, ten in a file: none but the last is short of full.
        assert!(files.iter().all(|text| text.len() as u64 <= MAX), "{files:?}");
        assert_eq!(files.len(), 8);
    }
}
