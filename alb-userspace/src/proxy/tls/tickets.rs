//! Session tickets (RFC 5077, RFC 8446 §4.6.1): one set of keys for all listeners and workers,
//! that survives reloads and restarts and is the same on nodes that begin with the same seed.
//!
//! Keys follow from a seed that is replaced by its own hash every few hours: who learns it can
//! read tickets from then on, but none from before.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hmac, rand,
};
use rustls::server::ProducesTickets;

/// How long one key makes tickets. They are taken for as long again.
const EPOCH: Duration = Duration::from_hours(6);
/// How far a chain may be ahead of the clock, epochs: a week, which no ticket outlives either (RFC
/// 8446 §4.6.1). One that is further came from a clock that was wrong; it would never be left.
const AHEAD: u64 = 28;
/// The first epoch of 2025. A clock that says it is earlier has not been set yet: it says nothing.
const UNSET: u64 = 1_735_689_600 / EPOCH.as_secs();
/// No seed has a later epoch than this one, of the year 9999.
const LAST: u64 = 253_402_300_800 / EPOCH.as_secs();
const NAME_LEN: usize = 16;
/// In the state directory.
const FILE: &str = "ticket-seed";

type Seed = [u8; 32];

/// Why there are no ticket keys.
#[derive(Debug, thiserror::Error)]
pub enum TicketsError {
    /// The seed cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The seed cannot be written.
    #[error("{}: cannot be written: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{}: is no ticket seed (a number and 64 hexadecimal digits); remove it to begin anew", file.display())]
    Format {
        /// The file.
        file: PathBuf,
    },
    /// The library refuses a key, or has no randomness.
    #[error("no ticket keys: {0}")]
    Crypto(#[from] Unspecified),
}

/// Makes tickets and takes them back.
#[derive(Debug)]
pub struct Tickets {
    keys: RwLock<Keys>,
    state: Mutex<State>,
    file: Option<PathBuf>,
}

/// Where the keys come from.
#[derive(Debug)]
struct State {
    chain: Chain,
    /// The file says the same.
    saved: bool,
}

/// The seed of an epoch; the one before the present, so that its tickets outlive a restart.
#[derive(Clone, PartialEq, Eq)]
struct Chain {
    epoch: u64,
    seed: Seed,
}

/// The present key, and the neighbours': clocks of nodes differ.
struct Keys([Key; 3]);

struct Key {
    name: [u8; NAME_LEN],
    key: RandomizedNonceKey,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Tickets {
    /// Keys that end with this process.
    pub fn random(now: SystemTime) -> Result<Self, TicketsError> {
        Self::new(Chain::random(now)?, None)
    }

    /// Keys from the seed in a directory; it is made if there is none.
    pub fn open(dir: &Path, now: SystemTime) -> Result<Self, TicketsError> {
        let file = dir.join(FILE);
        let chain = match fs::read_to_string(&file) {
            Ok(text) => Chain::parse(&text).ok_or(TicketsError::Format { file: file.clone() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Chain::random(now)?,
            Err(source) => return Err(TicketsError::Read { file, source }),
        };
        let tickets = Self::new(chain.at(now)?, Some(file))?;
        tickets.save(&mut tickets.lock())?;
        Ok(tickets)
    }

    fn new(chain: Chain, file: Option<PathBuf>) -> Result<Self, TicketsError> {
        let keys = RwLock::new(chain.keys()?);
        Ok(Self { keys, state: Mutex::new(State { chain, saved: false }), file })
    }

    /// Goes on to the keys of this time, and saves what could not be saved before; to be called
    /// every minute or so.
    pub fn rotate(&self, now: SystemTime) -> Result<(), TicketsError> {
        let mut state = self.lock();
        let next = state.chain.clone().at(now)?;
        if next != state.chain {
            let keys = next.keys()?;
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            *state = State { chain: next, saved: false };
        }
        if state.saved { Ok(()) } else { self.save(&mut state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is replaced as a whole and readable by its owner only.
    fn save(&self, state: &mut State) -> Result<(), TicketsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = state.chain.text();
        let new = file.with_extension("new");
        let write = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut handle = options.open(&new)?;
            io::Write::write_all(&mut handle, text.as_bytes())?;
            handle.sync_all()?;
            fs::rename(&new, file)
        };
        write().map_err(|source| TicketsError::Write { file: file.clone(), source })?;
        state.saved = true;
        Ok(())
    }
}

impl Chain {
    fn random(now: SystemTime) -> Result<Self, Unspecified> {
        let mut seed = Seed::default();
        rand::fill(&mut seed)?;
        Ok(Self { epoch: epoch(now).saturating_sub(1), seed })
    }

    /// The chain whose present is at `now`. It never goes back; another one begins if it is too
    /// far ahead.
    fn at(mut self, now: SystemTime) -> Result<Self, Unspecified> {
        let (present, found) = (epoch(now), self.epoch);
        if present < UNSET {
            return Ok(self);
        }
        if found > present.saturating_add(AHEAD) {
            tracing::warn!(
                found,
                present,
                "the seed of the session tickets is of a time to come; beginning anew, sessions are not \
                 resumed once"
            );
            return Self::random(now);
        }
        while self.epoch + 1 < present {
            self = self.next();
        }
        Ok(self)
    }

    fn next(&self) -> Self {
        Self { epoch: self.epoch + 1, seed: derive(&self.seed, "next") }
    }

    /// Of the present first, then of the past and the next one.
    fn keys(&self) -> Result<Keys, Unspecified> {
        let present = self.next();
        Ok(Keys([present.key()?, self.key()?, present.next().key()?]))
    }

    fn key(&self) -> Result<Key, Unspecified> {
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(&derive(&self.seed, "name")[..NAME_LEN]);
        Ok(Key { name, key: RandomizedNonceKey::new(&AES_256_GCM, &derive(&self.seed, "key"))? })
    }

    fn parse(text: &str) -> Option<Self> {
        let (epoch, digits) = text.trim().split_once(' ')?;
        let mut seed = Seed::default();
        if digits.len() != 2 * seed.len() || !digits.is_ascii() {
            return None;
        }
        for (octet, at) in seed.iter_mut().zip((0..).step_by(2)) {
            *octet = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
        }
        let epoch = epoch.parse().ok().filter(|epoch| *epoch <= LAST)?;
        Some(Self { epoch, seed })
    }

    fn text(&self) -> String {
        let digits: Vec<String> = self.seed.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{} {}\n", self.epoch, digits.concat())
    }
}

fn epoch(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / EPOCH.as_secs()
}

fn derive(seed: &Seed, what: &str) -> Seed {
    let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
    let tag = hmac::sign(&key, format!("alb session tickets: {what}").as_bytes());
    let mut out = Seed::default();
    out.copy_from_slice(tag.as_ref());
    out
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(EPOCH.as_secs()).unwrap_or(u32::MAX)
    }

    /// Name of the key, nonce, sealed state.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Keys([Key { name, key }, ..]) = &*keys;
        let mut sealed = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(name), &mut sealed).ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Key { name, key } = keys.0.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut state = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(name), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

#[cfg(test)]
mod tests;
