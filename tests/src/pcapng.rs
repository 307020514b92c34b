//! A reader of pcapng files, written from the format's description and knowing nothing of who writes
//! them: whatever is not as it must be panics.

/// A packet of a file.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Name of its interface.
    pub interface: String,
    /// Inbound, not outbound.
    pub is_inbound: bool,
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
    /// What is there of it.
    pub bytes: Vec<u8>,
    /// Bytes that it had.
    pub len: usize,
    /// Its comment.
    pub comment: String,
    /// What ties it to others.
    pub id: u64,
    /// Who decided about it (1 = TC, 2 = XDP), and how.
    pub verdict: (u8, i64),
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

/// The value of an option that has to be there.
fn option(mut options: &[u8], code: u16) -> &[u8] {
    loop {
        let (found, len) = (half(options, 0), usize::from(half(options, 2)));
        assert_ne!(found, 0, "no option {code}");
        if found == code {
            return &options[4..4 + len];
        }
        options = &options[4 + len.next_multiple_of(4)..];
    }
}

fn text(option: &[u8]) -> String {
    str::from_utf8(option).expect("UTF-8").to_owned()
}

/// Reads a whole file of a machine with this one's byte order.
pub fn read(mut file: &[u8]) -> Vec<Packet> {
    let mut interfaces: Vec<String> = Vec::new();
    let mut packets = Vec::new();
    assert_eq!(word(file, 0), SECTION, "a section begins the file");
    while !file.is_empty() {
        let (kind, len) = (word(file, 0), word(file, 4) as usize);
        assert_eq!(word(file, len - 4) as usize, len, "both lengths of a block");
        let body = &file[8..len - 4];
        match kind {
            SECTION => {
                assert_eq!((word(body, 0), half(body, 4)), (0x1a2b_3c4d, 1), "order and version");
            }
            INTERFACE => {
                assert_eq!(half(body, 0), 1, "Ethernet");
                assert_eq!(option(&body[8..], 9), [9], "nanoseconds");
                interfaces.push(text(option(&body[8..], 2)));
            }
            ENHANCED_PACKET => {
                let here = word(body, 12) as usize;
                let options = &body[20 + here.next_multiple_of(4)..];
                let (who, action) = option(options, 7).split_first().expect("a verdict");
                packets.push(Packet {
                    interface: interfaces[word(body, 0) as usize].clone(),
                    is_inbound: match word(option(options, 2), 0) & 3 {
                        1 => true,
                        2 => false,
                        other => panic!("direction {other}"),
                    },
                    at: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
                    bytes: body[20..20 + here].to_vec(),
                    len: word(body, 16) as usize,
                    comment: text(option(options, 1)),
                    id: u64::from_le_bytes(option(options, 5).try_into().expect("eight bytes")),
                    verdict: (*who, i64::from_le_bytes(action.try_into().expect("eight bytes"))),
                });
            }
            other => panic!("block of type {other}"),
        }
        file = &file[len..];
    }
    packets
}
