//! Whole frames: built by hand, sent and received on a device of a namespace.

use std::{
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Namespace;

/// `ETH_P_ALL`, in the width of the field that takes it.
const ALL: u16 = 3;
/// `AF_PACKET`, likewise.
const FAMILY: u16 = 17;

/// A device's raw end.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    /// Hardware address of the device.
    pub mac: [u8; 6],
}

impl Wire {
    /// Opens a device; frames are received from now on, sent ones included.
    pub fn open(namespace: &Namespace, device: &str) -> Self {
        let socket = namespace.enter(|| open(device)).expect("a packet socket");
        Self { socket, mac: mac(namespace, device) }
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) {
        let sent = self.socket.send(frame).expect("the device takes the frame");
        assert_eq!(sent, frame.len());
    }

    /// Frames addressed to this device until one satisfies `last`; panics after `limit`.
    pub fn receive_until(&self, limit: Duration, last: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + limit;
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut frames = Vec::new();
        while Instant::now() < deadline {
            let mut buffer = vec![MaybeUninit::uninit(); 65_536];
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(error) => panic!("receiving frames: {error}"),
            };
            #[expect(unsafe_code, reason = "the library receives into uninitialized memory")]
            // SAFETY: `recv` has written the first `length` bytes.
            let frame: Vec<u8> =
                buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
            if frame.starts_with(&self.mac) {
                let is_last = last(&frame);
                frames.push(frame);
                if is_last {
                    return frames;
                }
            }
        }
        panic!("the last frame did not arrive within {limit:?}; {} others did", frames.len());
    }
}

/// The hardware address of a device.
pub fn mac(namespace: &Namespace, device: &str) -> [u8; 6] {
    let link = namespace.ip(&format!("-o link show {device}"));
    let mut words = link.split_whitespace().skip_while(|&word| word != "link/ether");
    let text = words.nth(1).expect("an Ethernet device");
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

fn open(device: &str) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL.to_be()))))?;
    let index = nix::net::if_::if_nametoindex(device)?;
    let size =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    let fill = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let link = storage.cast::<libc::sockaddr_ll>();
        #[expect(unsafe_code, reason = "neither std nor the library knows link addresses")]
        // SAFETY: the storage is zeroed, aligned and large enough for every kind of address.
        let link = unsafe { &mut *link };
        link.sll_family = FAMILY;
        link.sll_protocol = ALL.to_be();
        link.sll_ifindex = index.cast_signed();
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: the caller's pointer to a length is valid for writes.
        unsafe {
            *length = size;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: `fill` writes a whole link address and its length.
    let ((), address) = unsafe { SockAddr::try_init(fill) }?;
    socket.bind(&address)?;
    Ok(socket)
}

/// A SYN, right in every field, to be spoiled in one.
#[derive(Clone, Copy, Debug)]
pub struct Syn<A = Ipv4Addr> {
    /// Hardware addresses: to, from.
    pub link: ([u8; 6], [u8; 6]),
    /// Source address and port.
    pub from: (A, u16),
    /// Destination address and port.
    pub to: (A, u16),
    /// Sequence number.
    pub sequence: u32,
}

impl Syn {
    /// The frame, with these IP options (a multiple of four bytes).
    pub fn frame(&self, options: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.link.0);
        frame.extend(self.link.1);
        frame.extend([0x08, 0x00]);
        let header = 20 + options.len();
        frame.push(0x40 | u8::try_from(header / 4).expect("few options"));
        frame.push(0);
        frame.extend(u16::try_from(header + 24).expect("small").to_be_bytes());
        frame.extend([0, 7, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.from.0.octets());
        frame.extend(self.to.0.octets());
        frame.extend(options);
        frame.extend(self.segment());
        seal(&mut frame);
        frame
    }
}

impl Syn<Ipv6Addr> {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut segment = self.segment();
        let addresses = [self.from.0.octets(), self.to.0.octets()].concat();
        let length = u16::try_from(segment.len()).expect("small");
        let pseudo = ones_sum(&addresses, 6 + u32::from(length));
        let sum = !ones_sum(&segment, u32::from(pseudo));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [self.link.0, self.link.1].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([6, 64]);
        frame.extend(addresses);
        frame.extend(segment);
        frame
    }
}

impl<A> Syn<A> {
    /// The TCP header, without a checksum.
    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.from.1.to_be_bytes());
        segment.extend(self.to.1.to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        // No acknowledgement; 6 words of header, SYN, window, checksum and urgent pointer; MSS 1400.
        segment.extend([0, 0, 0, 0, 0x60, 0x02, 0x72, 0x10, 0, 0, 0, 0, 2, 4, 0x05, 0x78]);
        segment
    }
}

/// Makes both checksums right for what the frame says now.
pub fn seal(frame: &mut [u8]) {
    let header = usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = !ones_sum(&frame[14..14 + header], 0);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let tcp = 14 + header;
    frame[tcp + 16..tcp + 18].fill(0);
    let sum = !tcp_sum(frame, tcp);
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
}

/// Whether a TCP stack would accept the frame: lengths fit and both checksums are right.
pub fn is_acceptable(frame: &[u8]) -> bool {
    let Some(&first) = frame.get(14) else { return false };
    let header = usize::from(first & 15) * 4;
    let tcp = 14 + header;
    first >> 4 == 4
        && header >= 20
        && frame.len() >= tcp + 20
        && ones_sum(&frame[14..tcp], 0) == 0xffff
        && tcp_sum(frame, tcp) == 0xffff
}

/// Sequence number and flags of a TCP frame.
pub fn tcp_of(frame: &[u8]) -> Option<(u32, u8)> {
    let tcp = 14 + usize::from(frame.get(14)? & 15) * 4;
    let sequence = frame.get(tcp + 4..tcp + 8)?.try_into().ok()?;
    (frame.get(23) == Some(&6)).then_some((u32::from_be_bytes(sequence), *frame.get(tcp + 13)?))
}

fn tcp_sum(frame: &[u8], tcp: usize) -> u16 {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let end = (14 + total).clamp(tcp, frame.len());
    let length = u16::try_from(end - tcp).expect("a frame");
    let pseudo = ones_sum(&frame[26..34], 6 + u32::from(length));
    ones_sum(&frame[tcp..end], u32::from(pseudo))
}

fn ones_sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_frame_is_acceptable_until_a_bit_flips() {
        let syn = Syn {
            link: ([2; 6], [4; 6]),
            from: (Ipv4Addr::new(198, 18, 0, 100), 40_000),
            to: (Ipv4Addr::new(198, 18, 0, 10), 80),
            sequence: 0xbad0_0001,
        };
        for options in [[].as_slice(), &[1, 1, 1, 0]] {
            let frame = syn.frame(options);
            assert!(is_acceptable(&frame));
            assert_eq!(tcp_of(&frame), Some((0xbad0_0001, 2)));
            for bit in 14 * 8..frame.len() * 8 {
                let mut other = frame.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(!is_acceptable(&other), "bit {bit}");
            }
        }
    }
}
