//! Access to packet bytes. The only file that dereferences a packet pointer.

use core::marker::PhantomData;

use alb_common::net::{Be16, Be32, Be128, Mac};

/// A packet under the program's hands.
#[expect(clippy::len_without_is_empty, reason = "an empty frame does not reach the program")]
pub trait Packet {
    /// Checksums need not stand in the bytes: the sender may have left them to the device, or the
    /// device have summed the whole packet. Only [`Packet::correct`] changes them then.
    const OFFLOADS: bool = false;

    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address after the last byte that can be accessed directly: a frame of several buffers
    /// goes on behind it.
    fn end(&self) -> usize;
    /// Length of the whole frame, bytes.
    fn len(&self) -> usize;
    /// Index of the interface it came in by.
    fn ifindex(&self) -> u32;
    /// Cuts the frame to `len` bytes; `false` if the host refuses.
    fn truncate(&mut self, len: usize) -> bool;

    /// VLAN tags that the host keeps beside the bytes.
    #[inline(always)]
    fn tags_aside(&self) -> usize {
        0
    }

    /// Length of the IP packet at `l3` whose header says `said`, bytes. A super-packet beyond
    /// 64 KiB says 0 (Linux 6.3, `gso_ipv4_max_size`).
    #[inline(always)]
    fn ip_len(&self, _l3: usize, said: usize) -> usize {
        said
    }

    /// Length of the longest IP packet that a frame leaves as, bytes: a super-packet is cut up
    /// behind us. `ip_len` is its length now, `headers` that of its IP and TCP headers.
    #[inline(always)]
    fn longest(&self, ip_len: u32, _headers: u32) -> u32 {
        ip_len
    }

    /// Corrects the TCP checksum at `offset` by what was added to the sums of the pseudo-header
    /// and of the segment. Called only of a host that [`Packet::OFFLOADS`].
    #[inline(always)]
    fn correct(&mut self, _offset: usize, _pseudo: u16, _segment: u16) {}

    /// The sum of so many 32-bit words from `offset`. Asked only of a host that
    /// [`Packet::OFFLOADS`].
    #[inline(always)]
    fn sum(&self, _offset: usize, _words: usize) -> u16 {
        0
    }

    /// Tells the host what was added to the sum of the packet as a whole.
    #[inline(always)]
    fn rewritten(&mut self, _delta: u16) {}

    /// Marks the frame as ours, so that it is known when loopback brings it back.
    #[inline(always)]
    fn mark(&self) {}

    /// `N` bytes from `offset`, or `None` if the first buffer ends before.
    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<Window<'_, N>> {
        let start = self.start() + offset;
        (start + N <= self.end()).then_some(Window { start: start as *mut u8, packet: PhantomData })
    }
}

/// `N` bytes of a packet that are known to be there. Offsets are constants that are checked
/// against `N` when the program is compiled.
///
/// A window borrows its packet, so it cannot outlive a [`Packet::truncate`].
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, const N: usize> {
    start: *mut u8,
    packet: PhantomData<&'a ()>,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $doc:literal) => {
        #[doc = concat!("Reads ", $doc, " at `OFFSET` as it stands in memory.")]
        #[inline(always)]
        pub fn $read<const OFFSET: usize>(self) -> $type {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            // SAFETY: `Packet::window` found `N` bytes behind `start`, and the assert keeps the
            // access within them.
            #[expect(unsafe_code, reason = "packet access")]
            let pointer = unsafe { self.start.add(OFFSET) }.cast::<$type>();
            // SAFETY: as above. BPF loads need no alignment on the machines that the JIT
            // allows it for, and the verifier refuses the others.
            #[cfg(target_arch = "bpf")]
            #[expect(unsafe_code, reason = "packet access")]
            return unsafe { *pointer };
            // SAFETY: as above; on the host the bytes are a test's frame.
            #[cfg(not(target_arch = "bpf"))]
            #[expect(unsafe_code, reason = "packet access")]
            return unsafe { pointer.read_unaligned() };
        }

        #[doc = concat!("Writes ", $doc, " at `OFFSET` as it stands in memory.")]
        #[inline(always)]
        pub fn $write<const OFFSET: usize>(self, value: $type) {
            const { assert!(OFFSET + size_of::<$type>() <= N) };
            // SAFETY: as for reading.
            #[expect(unsafe_code, reason = "packet access")]
            let pointer = unsafe { self.start.add(OFFSET) }.cast::<$type>();
            // SAFETY: as for reading. Nothing else holds a reference into the packet: windows
            // are raw pointers.
            #[cfg(target_arch = "bpf")]
            #[expect(unsafe_code, reason = "packet access")]
            unsafe {
                *pointer = value;
            }
            // SAFETY: as above.
            #[cfg(not(target_arch = "bpf"))]
            #[expect(unsafe_code, reason = "packet access")]
            unsafe {
                pointer.write_unaligned(value);
            }
        }
    };
}

#[allow(clippy::cast_ptr_alignment, reason = "each access says why it needs none")]
impl<const N: usize> Window<'_, N> {
    access!(u8, set_u8, u8, "a byte");
    access!(u16, set_u16, u16, "a 16-bit word");
    access!(u32, set_u32, u32, "a 32-bit word");

    /// An address at `OFFSET`.
    #[inline(always)]
    pub fn be32<const OFFSET: usize>(self) -> Be32 {
        Be32(self.u32::<OFFSET>())
    }

    /// An IPv6 address at `OFFSET`.
    #[inline(always)]
    pub fn be128<const OFFSET: usize>(self) -> Be128 {
        const { assert!(OFFSET + size_of::<Be128>() <= N) };
        let word = |at: usize| {
            // SAFETY: as in `access`: the four words are within the window.
            #[expect(unsafe_code, reason = "packet access")]
            let pointer = unsafe { self.start.add(OFFSET + at * 4) }.cast::<u32>();
            // SAFETY: as in `access`.
            #[cfg(target_arch = "bpf")]
            #[expect(unsafe_code, reason = "packet access")]
            return unsafe { *pointer };
            // SAFETY: as in `access`.
            #[cfg(not(target_arch = "bpf"))]
            #[expect(unsafe_code, reason = "packet access")]
            return unsafe { pointer.read_unaligned() };
        };
        Be128([word(0), word(1), word(2), word(3)])
    }

    /// Writes an IPv6 address at `OFFSET`.
    #[inline(always)]
    pub fn set_be128<const OFFSET: usize>(self, address: Be128) {
        const { assert!(OFFSET + size_of::<Be128>() <= N) };
        for (at, word) in address.0.into_iter().enumerate() {
            // SAFETY: as in `access`: the four words are within the window.
            #[expect(unsafe_code, reason = "packet access")]
            let pointer = unsafe { self.start.add(OFFSET + at * 4) }.cast::<u32>();
            // SAFETY: as in `access`.
            #[cfg(target_arch = "bpf")]
            #[expect(unsafe_code, reason = "packet access")]
            unsafe {
                *pointer = word;
            }
            // SAFETY: as in `access`.
            #[cfg(not(target_arch = "bpf"))]
            #[expect(unsafe_code, reason = "packet access")]
            unsafe {
                pointer.write_unaligned(word);
            }
        }
    }

    /// A port at `OFFSET`.
    #[inline(always)]
    pub fn be16<const OFFSET: usize>(self) -> Be16 {
        Be16(self.u16::<OFFSET>())
    }
}

/// An Ethernet header (IEEE 802.3 §3.1): destination, source, type.
pub type Ethernet<'a> = Window<'a, { network_types::eth::EthHdr::LEN }>;

impl Ethernet<'_> {
    /// The station the frame is for.
    #[inline(always)]
    pub fn destination(self) -> Mac {
        Mac([self.u16::<0>(), self.u16::<2>(), self.u16::<4>()])
    }

    /// The station it came from.
    #[inline(always)]
    pub fn source(self) -> Mac {
        Mac([self.u16::<6>(), self.u16::<8>(), self.u16::<10>()])
    }

    /// Writes both stations.
    #[inline(always)]
    pub fn set(self, destination: Mac, source: Mac) {
        self.set_u16::<0>(destination.0[0]);
        self.set_u16::<2>(destination.0[1]);
        self.set_u16::<4>(destination.0[2]);
        self.set_u16::<6>(source.0[0]);
        self.set_u16::<8>(source.0[1]);
        self.set_u16::<10>(source.0[2]);
    }
}

/// A frame in memory, for tests and fuzzing on the host.
#[cfg(not(target_arch = "bpf"))]
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a mut [u8],
}

#[cfg(not(target_arch = "bpf"))]
impl<'a> Frame<'a> {
    /// A frame over these bytes.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes that are left of it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Packet for Frame<'_> {
    fn start(&self) -> usize {
        self.bytes.as_ptr().expose_provenance()
    }

    fn end(&self) -> usize {
        self.start() + self.bytes.len()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn ifindex(&self) -> u32 {
        1
    }

    fn truncate(&mut self, len: usize) -> bool {
        if len > self.bytes.len() {
            return false;
        }
        self.bytes = &mut core::mem::take(&mut self.bytes)[..len];
        true
    }
}
