//! The secret that cookies are signed with: from the configuration, where several nodes have
//! to agree, else a file in the state directory, made at the first start.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{hmac, rand};

use crate::model::{CookieKey, Node};

/// Name of the file in the state directory.
const FILE: &str = "cookie.key";
const BYTES: usize = 32;
/// Hexadecimal digits and a line end.
const TEXT: usize = 2 * BYTES + 1;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or made.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what was once written.
    #[error(
        "{path} does not hold 64 hexadecimal digits; restore it, or remove it to bind clients anew",
        path = path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// The operating system has no randomness.
    #[error("the operating system gave no randomness for {path}", path = path.display())]
    Random {
        /// The file that was to be made.
        path: PathBuf,
    },
}

/// What all keys of cookies derive from; never printed.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// From text of the configuration, the same on every node that shares clients.
    pub fn from_text(text: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    /// The node's: the configured one, else that of its state directory.
    pub fn of(node: &Node) -> Result<Self, SecretError> {
        match &node.cookie_key {
            Some(CookieKey(text)) => Ok(Self::from_text(text)),
            None => Self::load(&node.state_dir),
        }
    }

    /// From the state directory, which must exist. The first call makes the file, readable for
    /// its owner only; of several at once all get the same secret, and a crash leaves either
    /// the whole file or none.
    pub fn load(state_dir: &Path) -> Result<Self, SecretError> {
        let path = state_dir.join(FILE);
        if let Some(secret) = read(&path)? {
            return Ok(secret);
        }
        make(state_dir, &path)?;
        read(&path)?.ok_or(SecretError::Broken { path })
    }

    /// A key for one purpose. Parts are told apart by their lengths.
    pub(super) fn derive(&self, parts: &[&[u8]]) -> hmac::Key {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    let failed = |source| SecretError::Io { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::with_capacity(TEXT + 1);
    file.take(TEXT as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    let digits = text.trim_ascii();
    if digits.len() != 2 * BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(SecretError::Broken { path: path.to_owned() });
    }
    Ok(Some(Secret(hmac::Key::new(hmac::HMAC_SHA256, &digits.to_ascii_lowercase()))))
}

/// Written whole under another name, then linked to its own: that fails, and is no failure, if
/// somebody else was first.
fn make(dir: &Path, path: &Path) -> Result<(), SecretError> {
    let mut random = [0_u8; BYTES + 8];
    if rand::fill(&mut random).is_err() {
        return Err(SecretError::Random { path: path.to_owned() });
    }
    let (secret, tail) = random.split_at(BYTES);
    let draft = dir.join(format!("{FILE}.{}", hex(tail)));
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SecretError::Io { what, path, source }
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(format!("{}\n", hex(secret)).as_bytes())?;
            file.sync_all()
        })
        .map_err(io("write", &draft));
    let linked = written.and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io("create", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    });
    // Nobody reads a draft; one that cannot be removed hurts nothing but the eye.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %draft.display(), %error, "cannot remove a draft");
    }
    linked?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
