//! Plain sockets, read and written by the system calls themselves. Those of the C library are
//! points where a thread can be cancelled, which in a process of many threads costs two locked
//! instructions and two mispredicted returns a call: 3 % of a small message. Knows nothing of
//! what the bytes mean.

use std::{
    io::{self, IoSlice},
    ops::Deref,
    os::fd::AsRawFd as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A connection whose bytes are what goes over the wire.
#[derive(Debug)]
pub struct Plain(TcpStream);

impl Plain {
    /// The socket, as the runtime knows it.
    pub fn into_inner(self) -> TcpStream {
        self.0
    }

    /// Whether something came, or the end, as far as the runtime has heard.
    pub fn has_come(socket: &TcpStream) -> bool {
        socket.try_io(Interest::READABLE, || Ok(())).is_ok()
    }
}

impl From<TcpStream> for Plain {
    fn from(socket: TcpStream) -> Self {
        Self(socket)
    }
}

impl Deref for Plain {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &self.0;
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            if let Some(count) =
                once(socket, Interest::READABLE, room.len(), || recv(socket, room))?
            {
                buf.advance(count);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.0;
        poll_once(socket, cx, bytes.len(), || send(socket, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Records are mostly written one by one, and the kernel has less to do for a buffer than for a
        // list of one.
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        let socket = &self.0;
        let len = slices.iter().map(|slice| slice.len()).sum();
        poll_once(socket, cx, len, || writev(socket, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Writes once, as soon as there is room. There mostly is: the runtime is asked only if not.
fn poll_once(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    asked: usize,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if let Some(count) = once(socket, Interest::WRITABLE, asked, &mut write)? {
            return Poll::Ready(Ok(count));
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

/// A transfer of fewer bytes than asked for was the last for now: the runtime is told as if the
/// next had been tried, and waits for an event. `None` = not even one byte.
fn once(
    socket: &TcpStream,
    interest: Interest,
    asked: usize,
    transfer: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut moved = 0;
    let outcome = socket.try_io(interest, || {
        moved = transfer()?;
        if (1..asked).contains(&moved) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Ok(()) => Ok(Some(moved)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Ok(Some(moved).filter(|moved| *moved > 0))
        }
        Err(error) => Err(error),
    }
}

fn recv(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let (fd, none) = (socket.as_raw_fd(), std::ptr::null_mut::<libc::c_void>());
    #[expect(unsafe_code, reason = "there is no safe wrapper that is not the C library's `recv`")]
    // SAFETY: the descriptor is open as long as `socket` is borrowed, the kernel writes at most
    // `room.len()` bytes to `room`, and no address is asked for.
    let count = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, room.as_mut_ptr(), room.len(), 0, none, none)
    };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let (fd, none) = (socket.as_raw_fd(), std::ptr::null::<libc::c_void>());
    let flags = libc::MSG_NOSIGNAL;
    #[expect(unsafe_code, reason = "there is no safe wrapper that is not the C library's `send`")]
    // SAFETY: the descriptor is open as long as `socket` is borrowed, the kernel reads
    // `bytes.len()` bytes of `bytes`, and no address is given.
    let count =
        unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, none, 0) };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

/// SIGPIPE is ignored from the start of every Rust program: a closed peer is an error here too.
fn writev(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    /// More in one call are refused (`UIO_MAXIOV`).
    const MOST: usize = 1024;
    let slices = &slices[..slices.len().min(MOST)];
    let fd = socket.as_raw_fd();
    #[expect(unsafe_code, reason = "there is no safe wrapper that is not the C library's `writev`")]
    // SAFETY: the descriptor is open as long as `socket` is borrowed, an `IoSlice` is an `iovec`
    // by its documentation, and the kernel reads what the `slices.len()` of them describe.
    let count = unsafe { libc::syscall(libc::SYS_writev, fd, slices.as_ptr(), slices.len()) };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

#[cfg(test)]
mod tests;
