//! The programs, loaded and chained; one measurement.

use std::{env, fs, path::PathBuf, process::Command};

use alb_common::{abi::map, flow_table::lines_for};
use alb_ebpf::bench::{FRAME, FRAME6, Plan};
use alb_tests::{
    netns::{Namespace, must},
    packet_path::{Prog, Raw, Sizes, object},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun as _, TestRunOptions, Xdp, XdpMode},
};

use crate::fill::Tables;

/// Flows that the tables are made for, unless a row says otherwise: the default.
pub(crate) const ROOM: u32 = 1 << 20;

/// The kernel's hash table, which the bench's primitives work on.
const TABLE: &str = "TABLE";

/// What a packet goes on to, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Program {
    Empty,
    PacketPath,
    Lookup,
    Insert,
    Remove,
    Load,
}

/// The loaded programs.
pub(crate) struct Runner {
    /// Flows that its tables are made for.
    room: u32,
    pub(crate) path: Prog,
    bench: Ebpf,
    _devices: Namespace,
    /// The kernel empties a program array that nothing in userspace holds.
    _programs: ProgramArray<MapData>,
}

/// A bpffs of the bench's own, gone with it.
struct BpfFs(tempfile::TempDir);

impl BpfFs {
    fn mount() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        must(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(dir.path()));
        Self(dir)
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        must(Command::new("umount").arg(self.0.path()));
    }
}

impl Runner {
    /// Loads the packet path with tables of the default size, and the bench's programs.
    pub(crate) fn new() -> Self {
        Self::of(&object(), ROOM)
    }

    /// The same with tables for so many flows.
    pub(crate) fn with_room(flows: u32) -> Self {
        Self::of(&object(), flows)
    }

    /// The same with the packet path of another object.
    pub(crate) fn of(object: &[u8], room: u32) -> Self {
        let entries = 2 * room;
        let sizes = Sizes {
            flows: entries,
            half_open: alb_common::limits::half_open_entries(1 << 16),
            ring: 1 << 16,
            listeners: 1 << 14,
            targets: 1 << 17,
            prefixes: 16_384,
            slots: 1 << 17,
            ..Sizes::default()
        };
        let path = Prog::load_object(object, sizes).with_ipv6();
        let bpffs = BpfFs::mount();
        let pin = bpffs.0.path().join(map::FLOWS);
        path.pin(map::FLOWS, &pin);
        let object = env::var_os("ALB_BENCH_OBJECT").map(PathBuf::from);
        let object = object.expect("ALB_BENCH_OBJECT: run `cargo xtask bench datapath`");
        let object = fs::read(object).expect("the bench's object");
        let mut loader = EbpfLoader::new();
        // The packet path's library brings its maps along; nothing here uses them.
        for name in map::ALL {
            // Of a ring buffer it is bytes, a page at least.
            loader.map_max_entries(name, if name == map::FLOW_LOG { 1 << 16 } else { 1 });
        }
        loader.map_max_entries(TABLE, entries);
        loader.map_max_entries("LINES", lines_for(entries)).map_pin_path("LINES", &pin);
        let mut bench = loader.load(&object).expect("the bench's object loads");
        let programs = bench.take_map("PROGRAMS").expect("a map");
        let mut programs: ProgramArray<_> = programs.try_into().expect("a program array");
        let own = [
            ("bench_empty", Program::Empty),
            ("bench_lookup", Program::Lookup),
            ("bench_insert", Program::Insert),
            ("bench_remove", Program::Remove),
            ("bench_load", Program::Load),
        ];
        for (name, slot) in own {
            let program = load(&mut bench, name);
            programs.set(slot as u32, program.fd().expect("loaded"), 0).expect("a slot");
        }
        let fd = path.program().fd().expect("loaded");
        programs.set(Program::PacketPath as u32, fd, 0).expect("a slot");
        let devices = Namespace::new("bench");
        devices.ip("link add six type veth peer name peer");
        for (wrapper, device) in [("bench_packet", "lo"), ("bench_packet6", "six")] {
            load(&mut bench, wrapper);
            attach(&mut bench, wrapper, &devices, device);
        }
        let mut runner = Self { room, path, bench, _devices: devices, _programs: programs };
        crate::fill::configure(&mut runner);
        runner
    }

    /// Nanoseconds a packet over `packets` packets of a plan, wrapper included, and what the
    /// last one's program returned.
    pub(crate) fn raw(&mut self, plan: &Plan, program: Program, packets: u32) -> (u32, u32) {
        let map = self.bench.map_mut("PLAN").expect("a map");
        let mut plans: Array<&mut MapData, Raw<Plan>> = map.try_into().expect("an array");
        plans.set(0, Raw(Plan { slot: program as u32, ..*plan }), 0).expect("the plan");
        let (wrapper, len) =
            if is_ipv6(plan) { ("bench_packet6", FRAME6) } else { ("bench_packet", FRAME) };
        let wrapper: &Xdp =
            self.bench.program(wrapper).expect("the wrapper").try_into().expect("an XDP program");
        let result = wrapper
            .test_run(TestRunOptions {
                data_in: Some(&vec![0; len]),
                repeat: packets,
                ..TestRunOptions::default()
            })
            .expect("the kernel runs the bench");
        // A packet that was answered is shorter than the next one has to be.
        let counters = || self.path.counters();
        assert_ne!(result.return_value, 0, "the wrapper could not go on: {:?}", counters());
        let nanoseconds = u32::try_from(result.duration.as_nanos()).expect("a short time");
        (nanoseconds, result.return_value)
    }

    /// The tables of open flows.
    pub(crate) fn tables(&mut self) -> Tables<'_> {
        let hash = self.bench.map_mut(TABLE).expect("a map").try_into().expect("a hash map");
        Tables { lines: self.path.lines(map::FLOWS), hash }
    }

    /// Kernel memory of the flow table, by its own account, a flow.
    pub(crate) fn bytes_per_flow(&self) -> u64 {
        self.path.memory(map::FLOWS) / u64::from(self.room)
    }
}

/// Whether a plan's packets are of IPv6, by their Ethernet type.
fn is_ipv6(plan: &Plan) -> bool {
    plan.template[3].to_ne_bytes()[..2] == [0x86, 0xdd]
}

/// Attaches a program to a device, where no packet comes. For a program that is nowhere the kernel
/// patches its XDP dispatcher before and after each test run (`bpf_prog_change_xdp`), and waits for an
/// RCU grace period each time: some 20 ms in which others use the CPU's caches, so that nothing would
/// ever be hot.
fn attach(bench: &mut Ebpf, program: &str, devices: &Namespace, device: &str) {
    let program: &mut Xdp = bench
        .program_mut(program)
        .and_then(|program| program.try_into().ok())
        .expect("an XDP program of the bench");
    devices.enter(|| program.attach(device, XdpMode::Skb).expect("attached"));
}

fn load<'a>(bench: &'a mut Ebpf, name: &str) -> &'a Xdp {
    let program = bench.program_mut(name).expect("a program of the bench");
    let program: &mut Xdp = program.try_into().expect("an XDP program");
    program.load().expect("the verifier takes the bench's programs");
    program
}
