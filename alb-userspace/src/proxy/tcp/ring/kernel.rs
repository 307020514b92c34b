//! The ring itself: requests in, completions out, and the buffers that reads are given. The only
//! file that hands memory to the kernel.
//!
//! Sends never wait (`MSG_DONTWAIT`): they are over when `submit` returns. Reads last; they write
//! to buffers of the ring's own, which live until the kernel has no request left.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    net::TcpStream,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, Fd, SubmitArgs, Timespec},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::exchange::{self, LARGE};

/// Buffers of a worker; a power of two. One is taken as long as a message is on its way.
const BUFFERS: u16 = 256;
const SIZE: usize = LARGE as usize;
/// Requests that are handed over at once, and completions that wait to be seen. More of these
/// are kept by the kernel until there is room.
const REQUESTS: u32 = 256;
const COMPLETIONS: u32 = 1024;
const GROUP: u16 = 0;
/// What the kernel aligns a ring of buffers to.
const PAGE: usize = 4096;

/// Bytes that came. It is the only name of its buffer: the kernel does not write to it until it
/// is given back.
#[derive(Debug)]
pub(super) struct Piece {
    buffer: u16,
    from: u32,
    end: u32,
}

impl Piece {
    /// Its buffer, which has no other name then.
    fn into_buffer(self) -> u16 {
        self.buffer
    }
}

impl exchange::Piece for Piece {
    fn len(&self) -> u32 {
        self.end - self.from
    }

    fn consume(&mut self, count: u32) {
        self.from += count.min(self.end - self.from);
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) tag: u64,
    pub(super) result: i32,
    /// There will be others of the same request.
    pub(super) more: bool,
    /// Of a read; it may be empty.
    pub(super) piece: Option<Piece>,
}

/// Memory that the kernel uses too: only pointers to it are kept.
#[derive(Debug)]
struct Shared {
    start: NonNull<u8>,
    layout: Layout,
}

impl Shared {
    fn new(bytes: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(io::Error::other)?;
        #[expect(unsafe_code, reason = "memory that is shared with the kernel is no `Box`")]
        // SAFETY: the layout is that of a constant number of bytes, which is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Ok(Self { start, layout })
    }

    /// Where a buffer begins.
    fn buffer(&self, buffer: u16) -> NonNull<u8> {
        let at = usize::from(buffer % BUFFERS) * SIZE;
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: `at` is less than `BUFFERS * SIZE`, the bytes that were allocated.
        unsafe {
            self.start.add(at)
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: allocated with this layout, by `new` alone, and freed here alone.
        unsafe {
            dealloc(self.start.as_ptr(), self.layout);
        }
    }
}

/// A ring and its buffers.
pub(super) struct Ring {
    /// Closed before what follows is freed.
    uring: Option<IoUring>,
    /// Where buffers are offered to the kernel, and the buffers; leaked if it does not let go.
    memory: Option<(Shared, Shared)>,
    tail: u16,
    /// Requests whose last completion was not seen.
    open: usize,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Ring {
    /// Fails where the kernel has no `io_uring`, lets this process not use it, or is older than
    /// 6.0: `SINGLE_ISSUER` came with reads that go on by themselves.
    pub(super) fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(REQUESTS)?;
        let offers = Shared::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let buffers = Shared::new(usize::from(BUFFERS) * SIZE)?;
        let address = offers.start.as_ptr().expose_provenance() as u64;
        #[expect(unsafe_code, reason = "the kernel is given an address")]
        // SAFETY: `offers` is page-aligned, has room for `BUFFERS` entries, and lives until the
        // ring is closed, by the order of fields, or for ever.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)?;
        }
        let memory = Some((offers, buffers));
        let mut ring = Self { uring: Some(uring), memory, tail: 0, open: 0 };
        for buffer in 0..BUFFERS {
            ring.offer(buffer);
        }
        Ok(ring)
    }

    /// Readable when completions come.
    pub(super) fn watched(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let uring = self.uring.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let descriptor = uring.as_fd().try_clone_to_owned()?;
        #[expect(unsafe_code, reason = "the runtime is given a descriptor's number")]
        // SAFETY: an `OwnedFd` is open until it is dropped, and always the same.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(watched?)
    }

    /// Reads again and again, until the socket ends or fails, buffers run out or it is called off.
    pub(super) fn read(&mut self, socket: &TcpStream, tag: u64) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(&entry.user_data(tag));
    }

    /// Sends as much as there is room for now.
    pub(super) fn send(&mut self, socket: &TcpStream, piece: &Piece, tag: u64) {
        let bytes = self.bytes(piece);
        let (start, len) = (bytes.as_ptr(), exchange::Piece::len(piece));
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), start, len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build();
        self.push(&entry.user_data(tag));
    }

    /// Calls the request off that has this tag.
    pub(super) fn cancel(&mut self, of: u64, tag: u64) {
        self.push(&opcode::AsyncCancel::new(of).build().user_data(tag));
    }

    /// What came.
    pub(super) fn bytes(&self, piece: &Piece) -> &[u8] {
        let Some((_, buffers)) = &self.memory else { return &[] };
        let whole = NonNull::slice_from_raw_parts(buffers.buffer(piece.buffer), SIZE);
        #[expect(unsafe_code, reason = "the kernel wrote what is read here")]
        // SAFETY: `whole` lies within the buffers and was zeroed at first. A `Piece` is made of a
        // completion by which the kernel gave the buffer up, and is consumed by offering it again:
        // while one is borrowed nobody writes to it.
        let whole = unsafe { whole.as_ref() };
        whole.get(piece.from as usize..piece.end as usize).unwrap_or_default()
    }

    /// The kernel may use the buffer again.
    pub(super) fn give_back(&mut self, piece: Piece) {
        self.offer(piece.into_buffer());
    }

    fn offer(&mut self, buffer: u16) {
        let Some((offers, buffers)) = &self.memory else { return };
        let entries = offers.start.cast::<BufRingEntry>();
        let address = buffers.buffer(buffer).as_ptr().expose_provenance() as u64;
        #[expect(unsafe_code, reason = "an entry is written in place")]
        // SAFETY: the place is less than `BUFFERS`, as many entries as were allocated.
        let mut entry = unsafe { entries.add(usize::from(self.tail % BUFFERS)) };
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: it is aligned and was zeroed, which is a valid entry. The kernel reads entries
        // before the tail alone, and this one is not: there are as many entries as buffers, and
        // the buffer in hand is in none.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address);
        entry.set_len(LARGE);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: the first entry was allocated; its last field, 16 aligned bits, is the tail,
        // which nobody writes but this thread.
        let tail = unsafe { BufRingEntry::tail(entries.as_ptr()) };
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: `tail` is valid as long as `offers` is, which is borrowed; the kernel reads it
        // atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        let Some(uring) = &mut self.uring else { return };
        self.open += 1;
        loop {
            #[expect(unsafe_code, reason = "the kernel is given the addresses in an entry")]
            // SAFETY: a read names no address but those of buffers that were offered, a send one
            // of a buffer that is not, a cancellation none. All lie in `memory`, which `drop`
            // frees only when no request is open.
            let pushed = unsafe { uring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // Full. A kernel that is out of memory says so for a while.
            let _tried_again = uring.submit().is_ok();
        }
    }

    /// Hands the requests over; whether there are some left.
    pub(super) fn submit(&mut self) -> bool {
        let Some(uring) = &mut self.uring else { return false };
        if uring.submission().is_empty() && !uring.submission().cq_overflow() {
            return false;
        }
        // An error is one of the moment: out of memory, too many completions waiting.
        let _submitted = uring.submit().is_ok();
        !uring.submission().is_empty()
    }

    /// Takes the completions that are there.
    pub(super) fn take(&mut self, into: &mut Vec<Completion>) {
        let Some(uring) = &mut self.uring else { return };
        for entry in uring.completion() {
            let (result, flags) = (entry.result(), entry.flags());
            let more = cqueue::more(flags);
            let len = u32::try_from(result).unwrap_or(0).min(LARGE);
            let piece =
                cqueue::buffer_select(flags).map(|buffer| Piece { buffer, from: 0, end: len });
            self.open = self.open.saturating_sub(usize::from(!more));
            into.push(Completion { tag: entry.user_data(), result, more, piece });
        }
    }

    /// Ends every request; whether the kernel has none left.
    fn quiesce(&mut self) -> bool {
        /// A cancellation takes effect at once: a kernel that needs longer is at fault.
        const PATIENCE: Timespec = Timespec::new().nsec(100_000_000);
        const TRIES: u32 = 20;
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            self.take(&mut seen);
            seen.clear();
            if self.open == 0 {
                return true;
            }
            let every = io_uring::types::CancelBuilder::any();
            self.push(&opcode::AsyncCancel2::new(every).build());
            let Some(uring) = &mut self.uring else { return true };
            let patience = SubmitArgs::new().timespec(&PATIENCE);
            let _waited = uring.submitter().submit_with_args(2, &patience).is_ok();
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let is_free = self.quiesce();
        drop(self.uring.take());
        if !is_free {
            tracing::error!(
                requests = self.open,
                "the kernel holds on to buffers; they are not freed"
            );
            std::mem::forget(self.memory.take());
        }
    }
}
