//! The driver and the offloads of an interface, by the ethtool ioctl: sysfs may show another
//! network namespace.

use std::{collections::BTreeSet, io, os::fd::AsRawFd};

use socket2::{Domain, Socket, Type};

/// `ETHTOOL_GDRVINFO` of linux/ethtool.h, and so on.
const GET_DRIVER_INFO: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_STRING_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN` in words.
const NAME_WORDS: usize = 8;
/// Words of a `struct ethtool_drvinfo`.
const DRIVER_INFO_WORDS: usize = 49;

/// What ethtool tells of an interface.
#[derive(Debug, Default)]
pub(super) struct Features {
    /// `None` = it has none, or none that says its name.
    pub(super) driver: Option<String>,
    /// Offloads that are on.
    pub(super) on: BTreeSet<String>,
}

/// Asks everything; what the driver does not answer is left out.
pub(super) fn query(interface: &str) -> Features {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::DGRAM, None) else {
        return Features::default();
    };
    Features {
        driver: driver(&socket, interface).ok().filter(|name| !name.is_empty()),
        on: features(&socket, interface).unwrap_or_default(),
    }
}

fn driver(socket: &Socket, interface: &str) -> io::Result<String> {
    let mut info = vec![0; DRIVER_INFO_WORDS];
    info[0] = GET_DRIVER_INFO;
    call(socket, interface, &mut info)?;
    Ok(name(&info[1..9]))
}

fn features(socket: &Socket, interface: &str) -> io::Result<BTreeSet<String>> {
    // command, reserved, mask of sets (64 bits), length of the set
    let mut info = [GET_STRING_SET_INFO, 0, 1 << FEATURES, 0, 0];
    call(socket, interface, &mut info)?;
    let count = usize::try_from(info[4]).map_err(io::Error::other)?;

    // command, set, length, names
    let mut names = vec![0; 3 + count * NAME_WORDS];
    names[..3].copy_from_slice(&[GET_STRINGS, FEATURES, info[4]]);
    call(socket, interface, &mut names)?;

    // command, number of blocks, blocks of 32 features: available, requested, active, fixed
    let blocks = count.div_ceil(32);
    let mut states = vec![0; 2 + blocks * 4];
    states[0] = GET_FEATURES;
    states[1] = u32::try_from(blocks).map_err(io::Error::other)?;
    call(socket, interface, &mut states)?;

    let is_on = |number: usize| states[2 + number / 32 * 4 + 2] & (1 << (number % 32)) != 0;
    let names = names[3..].chunks_exact(NAME_WORDS).enumerate();
    Ok(names.filter(|(number, _)| is_on(*number)).map(|(_, words)| name(words)).collect())
}

/// Text up to the first zero byte.
fn name(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// One ethtool request. `words` begins with the command and has room for its whole answer.
#[expect(unsafe_code, reason = "ethtool is an ioctl")]
fn call(socket: &Socket, interface: &str, words: &mut [u32]) -> io::Result<()> {
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (place, byte) in ifr_name.iter_mut().zip(interface.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() };
    let mut request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: the request names an interface with a terminating zero and points to `words`,
    // which this function borrows exclusively. The callers above give each command's answer
    // its room: the driver info has a fixed size, the kernel's number of features does not
    // change while it runs, and the feature states are bounded by the number of blocks given.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
