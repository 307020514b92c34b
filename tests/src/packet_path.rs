//! The packet path in the kernel without a device: loaded into fresh maps of its own, run on
//! single frames by `PROG_TEST_RUN`, its maps read and written as typed values.

mod lines;
mod records;
mod skb;

use std::{
    collections::BTreeMap,
    env, fs,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use alb_common::{
    Reason,
    abi::{self, Plain, map},
    filter::{FilterEntry, FilterKey},
    flow::Totals,
    flow_table::lines_for,
    local::{Held6, place, place6, word},
    net::{Be32, Be128},
    reason::{COUNTERS, Event},
};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, ProgramArray, lpm_trie::Key},
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};

use self::lines::Tables;
pub use self::lines::{SEEDS, active, lines};

/// A contract type as aya takes it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Raw<T>(pub T);

#[expect(unsafe_code, reason = "aya's marker")]
// SAFETY: transparent over a type that has made the same promise.
unsafe impl<T: Plain> Pod for Raw<T> {}

/// Sizes of the maps that matter to a test, entries.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// `FLOWS`: two a flow. Of IPv4 there is room for more than these.
    pub flows: u32,
    /// `HALF_OPEN`: two a flow.
    pub half_open: u32,
    /// Both rings, a power of two.
    pub ring: u32,
    /// Tables of listeners.
    pub listeners: u32,
    /// Arrays by target.
    pub targets: u32,
    /// Selection slots.
    pub slots: u32,
    /// Prefixes of security groups.
    pub prefixes: u32,
    /// `FLOW_LOG`, bytes.
    pub flow_log: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            flows: 64,
            half_open: 64,
            ring: 16,
            listeners: 16,
            targets: 16,
            slots: 64,
            prefixes: 64,
            flow_log: 4_096,
        }
    }
}

/// What the program said to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`
    Drop,
    /// `XDP_PASS`
    Pass,
    /// `XDP_TX`
    Transmit,
    /// `XDP_REDIRECT`
    Redirect,
}

/// The loaded program and its maps; all gone when it is dropped.
#[derive(Debug)]
pub struct Prog {
    ebpf: Ebpf,
    /// Its flow tables and counters.
    tables: Tables,
    /// The TC program over maps of its own, which are written like the others.
    twin: Option<Ebpf>,
    twin_tables: Option<Tables>,
}

/// The object under test: the one that `ALB_BPF_OBJECT` names, else the committed one.
pub fn object() -> Vec<u8> {
    read(&object_path())
}

/// The object of `alb capture`, which is beside it.
pub fn capture_object() -> Vec<u8> {
    read(&object_path().with_file_name("capture.bpf.o"))
}

fn object_path() -> PathBuf {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../alb-ebpf/prebuilt/alb.bpf.o");
    env::var_os("ALB_BPF_OBJECT").map_or_else(|| committed.into(), PathBuf::from)
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Prog {
    /// Loads the XDP program of IPv4 into maps of its own.
    pub fn load(sizes: Sizes) -> Self {
        Self::load_object(&object(), sizes)
    }

    /// The same of another object, whose maps are of the same layout.
    pub fn load_object(object: &[u8], sizes: Sizes) -> Self {
        let mut ebpf = parse(object, sizes);
        xdp(&mut ebpf, abi::XDP_PROGRAM);
        let tables = Tables::of(&ebpf);
        Self { ebpf, tables, twin: None, twin_tables: None }
    }

    /// The same, and the TC program beside it.
    pub fn load_both(sizes: Sizes) -> Self {
        let mut twin = parse(&object(), sizes);
        tc(&mut twin, abi::TC_PROGRAM);
        let twin_tables = Some(Tables::of(&twin));
        Self { twin: Some(twin), twin_tables, ..Self::load(sizes) }
    }

    /// The same with the programs of IPv6, to which those of IPv4 then go on. An emulated processor's
    /// kernel looks at them for ten seconds.
    #[must_use]
    pub fn with_ipv6(mut self) -> Self {
        xdp(&mut self.ebpf, abi::XDP6_PROGRAM);
        join(&mut self.ebpf, map::XDP_PARTS, abi::XDP6_PROGRAM);
        if let Some(twin) = &mut self.twin {
            tc(twin, abi::TC6_PROGRAM);
            join(twin, map::TC_PARTS, abi::TC6_PROGRAM);
        }
        self
    }

    /// Pins a map, so that other programs can be loaded with it.
    pub fn pin(&self, name: &str, path: &Path) {
        self.ebpf.map(name).expect("a map").pin(path).expect("a place under a bpffs");
    }

    /// Kernel memory that a map takes by its own account, bytes.
    pub fn memory(&self, name: &str) -> u64 {
        let (aya::maps::Map::HashMap(data) | aya::maps::Map::Array(data)) =
            self.ebpf.map(name).expect("a map")
        else {
            panic!("{name} is another kind of map")
        };
        let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
        let text = fs::read_to_string(path).expect("the kernel's account");
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        line.and_then(|bytes| bytes.trim().parse().ok()).expect("a number of bytes")
    }

    /// The XDP program.
    pub fn program(&self) -> &Xdp {
        let program = self.ebpf.program(abi::XDP_PROGRAM).expect("the object has the program");
        program.try_into().expect("it is an XDP program")
    }

    /// Runs the program on a frame that came in by loopback: what is to be done, and the frame
    /// as it is then.
    pub fn run(&self, frame: &[u8]) -> (Action, Vec<u8>) {
        self.run_on(frame, None)
    }

    /// As [`Prog::run`] on a frame that came in by the device of this index, of the network
    /// namespace the thread is in.
    pub fn run_on(&self, frame: &[u8], ifindex: Option<u32>) -> (Action, Vec<u8>) {
        let mut out = vec![0; frame.len() + 256];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let linear = u32::try_from(frame.len()).expect("a frame");
        let context: Option<Vec<u8>> = ifindex.map(|ifindex| {
            [0, linear, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
        });
        let result = self
            .program()
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: context.as_deref(),
                ..TestRunOptions::default()
            })
            .expect("the kernel runs the program");
        out.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            4 => Action::Redirect,
            other => panic!("the program returned {other}"),
        };
        (action, out)
    }

    /// Runs the TC program on a frame that came in by the device of this index; `None` if the frame
    /// is too short for the kernel. `is_cut`: the program is to shorten it. It has no way of its own
    /// to send a frame back: that is [`Action::Redirect`].
    pub fn run_twin(
        &self,
        frame: &[u8],
        ifindex: Option<u32>,
        is_cut: bool,
    ) -> Option<(Action, Vec<u8>)> {
        let twin = self.twin.as_ref().expect("both are loaded");
        let program = twin.program(abi::TC_PROGRAM).expect("it has the program");
        skb::run(program.try_into().expect("a TC program"), frame, ifindex, is_cut)
    }

    /// Instructions that the verifier looked at, of a program by name.
    pub fn instructions(&self, name: &str) -> u32 {
        let tc = [abi::TC_PROGRAM, abi::TC6_PROGRAM].contains(&name);
        let ebpf = if tc { self.twin.as_ref().expect("both are loaded") } else { &self.ebpf };
        let info = ebpf.program(name).expect("it has the program").info().expect("it is loaded");
        info.verified_instruction_count().expect("Linux 5.16")
    }

    fn both(&mut self) -> impl Iterator<Item = &mut Ebpf> {
        [&mut self.ebpf].into_iter().chain(&mut self.twin)
    }

    /// Writes an array element.
    pub fn set<V: Plain>(&mut self, name: &str, index: u32, value: V) {
        for ebpf in self.both() {
            let mut array: Array<&mut MapData, Raw<V>> =
                ebpf.map_mut(name).expect("a map").try_into().expect("an array");
            array.set(index, Raw(value), 0).expect("an element");
        }
    }

    /// Reads an array element.
    pub fn get<V: Plain>(&self, name: &str, index: u32) -> V {
        let array: Array<&MapData, Raw<V>> =
            self.ebpf.map(name).expect("a map").try_into().expect("an array");
        array.get(&index, 0).expect("an element").0
    }

    /// Inserts or replaces an element of a hash map.
    pub fn insert<K: Plain, V: Plain>(&mut self, name: &str, key: K, value: V) {
        for ebpf in self.both() {
            hash(ebpf, name).insert(Raw(key), Raw(value), 0).expect("room in the map");
        }
    }

    /// Says what an address is, where the daemon would.
    pub fn local(&mut self, addr: Ipv4Addr, flags: u32) {
        let addr = Be32::from(addr);
        self.insert(map::LOCALS, addr, flags);
        self.set(map::LOCAL_CACHE, place(addr), word(addr, flags));
    }

    /// The same of IPv6.
    pub fn local6(&mut self, addr: Be128, flags: u32) {
        self.insert(map::LOCALS6, addr, flags);
        self.set(map::LOCAL_CACHE6, place6(addr), Held6::new(addr, flags));
    }

    /// A hash map of the XDP program, to do many things with.
    pub fn hash<K: Plain, V: Plain>(
        &mut self,
        name: &str,
    ) -> HashMap<&mut MapData, Raw<K>, Raw<V>> {
        hash(&mut self.ebpf, name)
    }

    /// Inserts or replaces a prefix of a security group.
    pub fn allow(&mut self, key: FilterKey, entry: FilterEntry) {
        let key = Key::new(key.bits, [key.id, key.addr.0]);
        for ebpf in self.both() {
            let mut trie: LpmTrie<&mut MapData, [u32; 2], Raw<FilterEntry>> =
                ebpf.map_mut(map::FILTERS).expect("a map").try_into().expect("a trie");
            trie.insert(&key, Raw(entry), 0).expect("room in the map");
        }
    }

    /// As [`Prog::allow`] of IPv6.
    pub fn allow6(&mut self, key: FilterKey<Be128>, entry: FilterEntry) {
        let [a, b, c, d] = key.addr.0;
        let key = Key::new(key.bits, [key.id, a, b, c, d]);
        for ebpf in self.both() {
            let mut trie: LpmTrie<&mut MapData, [u32; 5], Raw<FilterEntry>> =
                ebpf.map_mut(map::FILTERS6).expect("a map").try_into().expect("a trie");
            trie.insert(&key, Raw(entry), 0).expect("room in the map");
        }
    }

    /// Removes an element of a hash map.
    pub fn remove<K: Plain, V: Plain>(&mut self, name: &str, key: K) {
        for ebpf in self.both() {
            hash::<K, V>(ebpf, name).remove(&Raw(key)).expect("an element");
        }
    }

    /// Counters that are not zero, of all CPUs together, by label.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        counters(&self.ebpf)
    }

    /// The same of the TC program, if it is loaded.
    pub fn twin_counters(&self) -> Option<BTreeMap<&'static str, u64>> {
        self.twin.as_ref().map(counters)
    }

    /// Totals of all CPUs together: [`map::TARGET_TOTALS`] or [`map::LISTENER_TOTALS`].
    pub fn totals(&self, name: &str, index: u32) -> Totals {
        let array: PerCpuArray<&MapData, Raw<Totals>> =
            self.ebpf.map(name).expect("a map").try_into().expect("an array");
        array.get(&index, 0).expect("totals").iter().fold(Totals::default(), |sum, each| Totals {
            new_flows: sum.new_flows + each.0.new_flows,
            packets_in: sum.packets_in + each.0.packets_in,
            packets_out: sum.packets_out + each.0.packets_out,
            bytes_in: sum.bytes_in + each.0.bytes_in,
            bytes_out: sum.bytes_out + each.0.bytes_out,
        })
    }
}

/// The tick that the packet path reads now.
pub fn now() -> u32 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
    let time = nix::time::clock_gettime(clock).expect("the clock");
    let nanoseconds = std::time::Duration::from(time).as_nanos() >> alb_common::expiry::TICK_SHIFT;
    #[expect(clippy::cast_possible_truncation, reason = "ticks wrap")]
    {
        nanoseconds as u32
    }
}

fn xdp(ebpf: &mut Ebpf, name: &str) {
    let program = ebpf.program_mut(name).expect("the object has the program");
    let program: &mut Xdp = program.try_into().expect("it is an XDP program");
    retry(|| program.load()).expect("the verifier takes the program");
}

fn tc(ebpf: &mut Ebpf, name: &str) {
    let program = ebpf.program_mut(name).expect("the object has the program");
    let program: &mut SchedClassifier = program.try_into().expect("it is a TC program");
    retry(|| program.load()).expect("the verifier takes the program");
}

/// Puts a program in the array from which another goes on to it.
fn join(ebpf: &mut Ebpf, parts: &str, program: &str) {
    let program = ebpf.program(program).expect("the object has the program");
    let program = program.fd().and_then(|fd| fd.try_clone().map_err(ProgramError::IOError));
    let program = program.expect("it is loaded");
    let mut parts: ProgramArray<&mut MapData> =
        ebpf.map_mut(parts).expect("a map").try_into().expect("an array of programs");
    parts.set(0, &program, 0).expect("a place in it");
}

/// The object with maps of these sizes.
fn parse(object: &[u8], sizes: Sizes) -> Ebpf {
    let mut loader = EbpfLoader::new();
    for (name, size) in [
        (map::FLOWS, lines_for(sizes.flows)),
        (map::HALF_OPEN, lines_for(sizes.half_open)),
        (map::HALF_OPEN_RING, sizes.ring),
        (map::CLOSED_RING, sizes.ring),
        (map::TARGETS, sizes.targets),
        (map::HOPS, sizes.targets),
        (map::TARGET_TIMES, sizes.targets),
        (map::TARGET_TOTALS, sizes.targets),
        (map::TARGET_SYN_RATES, sizes.targets),
        (map::LISTENER_TOTALS, sizes.listeners),
        (map::LISTENER_STATES, sizes.listeners),
        (map::LISTENER_ACTIVE, sizes.listeners),
        (map::LISTENERS, sizes.listeners),
        (map::LOCALS, 16),
        (map::SLOTS, sizes.slots),
        (map::FILTERS, sizes.prefixes),
        (map::FLOWS6, lines_for(sizes.flows)),
        (map::HALF_OPEN6, lines_for(sizes.half_open)),
        (map::HALF_OPEN_RING6, sizes.ring),
        (map::CLOSED_RING6, sizes.ring),
        (map::TARGETS6, sizes.targets),
        (map::LISTENERS6, 16),
        (map::LOCALS6, 16),
        (map::FILTERS6, sizes.prefixes),
        (map::FLOW_LOG, sizes.flow_log),
    ] {
        loader.map_max_entries(name, size);
    }
    loader.load(object).expect("the object loads")
}

fn hash<'a, K: Plain, V: Plain>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> HashMap<&'a mut MapData, Raw<K>, Raw<V>> {
    ebpf.map_mut(name).expect("a map").try_into().expect("a hash map")
}

fn counters(ebpf: &Ebpf) -> BTreeMap<&'static str, u64> {
    let labels = Reason::ALL
        .iter()
        .map(|reason| reason.label())
        .chain(Event::ALL.iter().map(|event| event.label()));
    let array: PerCpuArray<&MapData, u64> =
        ebpf.map(map::COUNTERS).expect("a map").try_into().expect("an array");
    let counters = (0..u32::try_from(COUNTERS).expect("few"))
        .map(|index| array.get(&index, 0).expect("a counter").iter().copied().sum::<u64>());
    labels.zip(counters).filter(|(_, count)| *count > 0).collect()
}

/// Loads a program; as libbpf does, again when the verifier was interrupted by a signal
/// (`EAGAIN`), up to five times.
fn retry(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let mut result = load();
    for _ in 0..4 {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(()) | Err(_) => break,
        }
        result = load();
    }
    result
}
