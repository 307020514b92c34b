//! Bulk transfers whose content is checked by hash, and what the kernel says of them.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    mem,
    net::TcpStream,
    os::fd::AsRawFd as _,
};

use sha2::{Digest as _, Sha256};

const BLOCK: usize = 64 * 1024;

/// Sends `bytes` bytes, no two blocks alike, and returns their hash.
pub fn send(to: &mut impl Write, bytes: u64) -> io::Result<String> {
    let mut block: Vec<u8> = (0..=250).cycle().take(BLOCK).collect();
    let mut hasher = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_be_bytes());
        let length = left.min(BLOCK as u64);
        let part = &block[..usize::try_from(length).unwrap_or(BLOCK)];
        to.write_all(part)?;
        hasher.update(part);
        left -= length;
    }
    Ok(hex(&hasher.finalize()))
}

/// Reads exactly `bytes` bytes and returns their hash.
pub fn hash_of(from: &mut impl Read, bytes: u64) -> io::Result<String> {
    let mut block = vec![0; BLOCK];
    let mut hasher = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left.min(BLOCK as u64)).unwrap_or(BLOCK);
        from.read_exact(&mut block[..length])?;
        hasher.update(&block[..length]);
        left -= length as u64;
    }
    Ok(hex(&hasher.finalize()))
}

/// What is written to it is hashed.
#[derive(Clone, Debug, Default)]
pub struct Hash(Sha256);

impl Hash {
    /// The hash of everything, as [`send`] returns it.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends to the small server; the hash sent and the hash the server saw.
pub fn upload(mut stream: &TcpStream, bytes: u64) -> io::Result<(String, String)> {
    writeln!(stream, "take {bytes}")?;
    let sent = send(&mut stream, bytes)?;
    let mut seen = String::new();
    BufReader::new(stream).read_line(&mut seen)?;
    Ok((sent, seen.trim().to_owned()))
}

/// Fetches from the small server; the hash expected and the hash seen.
pub fn download(mut stream: &TcpStream, bytes: u64) -> io::Result<(String, String)> {
    writeln!(stream, "give {bytes}")?;
    let seen = hash_of(&mut stream, bytes)?;
    let expected = send(&mut io::sink(), bytes)?;
    Ok((expected, seen))
}

/// Segments this end has sent again since it connected.
pub fn retransmits(stream: &TcpStream) -> io::Result<u32> {
    info(stream).map(|info| info.tcpi_total_retrans)
}

/// Bytes of data in the segments that this end sends now.
pub fn segment_size(stream: &TcpStream) -> io::Result<u32> {
    info(stream).map(|info| info.tcpi_snd_mss)
}

/// `TCP_INFO`.
fn info(stream: &TcpStream) -> io::Result<libc::tcp_info> {
    #[expect(unsafe_code, reason = "plain data that the kernel fills")]
    // SAFETY: tcp_info is made of integers, for which zero bytes are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "std has no TCP_INFO")]
    // SAFETY: the descriptor is open, and the pointer and length describe `info`, which outlives
    // the call.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
