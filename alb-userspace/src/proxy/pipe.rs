//! Pipes for `splice(2)`: bytes go from socket to socket without a copy. Taken while bulk is
//! moved, given back empty.

use std::{cell::RefCell, io, os::fd::OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::pipe2,
};
use tokio::{io::Interest, net::TcpStream};

/// Bytes a pipe holds.
const SIZE: i32 = 256 * 1024;
/// Pipes a worker keeps for later.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe and how much is in it.
#[derive(Debug)]
pub(in crate::proxy) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// Fails if the process is out of files: copying needs none.
    pub(in crate::proxy) fn take() -> io::Result<Self> {
        if let Some(ends) = FREE.with_borrow_mut(Vec::pop) {
            return Ok(Self { ends: Some(ends), held: 0 });
        }
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // Without the right to a larger one it works as it is.
        let _size = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE)).is_ok();
        Ok(Self { ends: Some(Ends { read, write }), held: 0 })
    }

    pub(in crate::proxy) fn held(&self) -> usize {
        self.held
    }

    /// Takes in what a socket has, at most `most` bytes; 0 = its end. Only called while the pipe is empty, so that
    /// "would block" is the socket's word.
    pub(in crate::proxy) fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let Some(Ends { write, .. }) = &self.ends else { return Ok(0) };
        let count = from.try_io(Interest::READABLE, || again(|| moved(from, write, most)))?;
        self.held += count;
        Ok(count)
    }

    /// Gives what it holds to a socket.
    pub(in crate::proxy) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let Some(Ends { read, .. }) = &self.ends else { return Ok(0) };
        let held = self.held;
        let count = to.try_io(Interest::WRITABLE, || again(|| moved(read, to, held)))?;
        self.held -= count;
        Ok(count)
    }
}

fn moved(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> nix::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    splice(from, None, to, None, most, flags)
}

fn again(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

impl Drop for Pipe {
    /// A pipe with bytes in it is closed: they belong to nobody else.
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT {
                free.push(ends);
            }
        });
    }
}
