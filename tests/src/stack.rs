//! How much stack the programs of a BPF object take: the frame of every function, and the deepest
//! chain of calls, as the verifier of Linux 6.1 counts them (`check_max_stack_depth`).

use std::collections::{BTreeMap, BTreeSet};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// Frames are rounded up to this, bytes; a function without one counts as one byte.
const ROUND: u32 = 32;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// The frame pointer.
const FP: u8 = 10;

#[derive(Debug, Default)]
struct Function {
    name: String,
    frame: u32,
    calls: BTreeSet<usize>,
}

/// Bytes of stack that a program takes at most, and the functions of its deepest chain with their
/// frames.
pub fn deepest(object: &[u8], program: &str) -> (u32, Vec<(String, u32)>) {
    let functions = functions(object);
    let program = functions.iter().position(|function| function.name == program);
    let chain = chain(&functions, program.expect("the object has the program"));
    let named = |index: &usize| (functions[*index].name.clone(), functions[*index].frame);
    (depth(&functions, &chain), chain.iter().map(named).collect())
}

fn depth(functions: &[Function], chain: &[usize]) -> u32 {
    chain.iter().map(|index| functions[*index].frame.max(1).next_multiple_of(ROUND)).sum()
}

fn chain(functions: &[Function], from: usize) -> Vec<usize> {
    let below = functions[from].calls.iter().map(|callee| chain(functions, *callee));
    let deepest = below.max_by_key(|chain| depth(functions, chain)).unwrap_or_default();
    [vec![from], deepest].concat()
}

fn functions(bytes: &[u8]) -> Vec<Function> {
    let file = object::File::parse(bytes).expect("an ELF object");
    let symbols: Vec<_> = file.symbols().filter(|s| s.kind() == SymbolKind::Text).collect();
    let places: BTreeMap<(usize, u64), usize> = (0..)
        .zip(&symbols)
        .filter_map(|(index, symbol)| Some(((symbol.section_index()?.0, symbol.address()), index)))
        .collect();
    let function = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index().expect("a function is somewhere");
        let section = file.section_by_index(section).expect("the section is there");
        let relocations: BTreeMap<u64, RelocationTarget> =
            section.relocations().map(|(at, relocation)| (at, relocation.target())).collect();
        let data = section.data().expect("instructions");
        let start = usize::try_from(symbol.address()).expect("small");
        let end = start + usize::try_from(symbol.size()).expect("small");
        let code = data[start..end].chunks_exact(INSTRUCTION).map(Instruction::read);
        let mut function =
            Function { name: symbol.name().expect("a name").to_owned(), ..Function::default() };
        let mut copies = [false; 16];
        for (at, instruction) in (symbol.address()..).step_by(INSTRUCTION).zip(code) {
            function.frame = function.frame.max(instruction.reaches(&mut copies));
            if !instruction.names_a_function() {
                continue;
            }
            let target = relocations.get(&at).map(|target| {
                let RelocationTarget::Symbol(index) = target else {
                    panic!("a relocation to {target:?}")
                };
                let symbol = file.symbol_by_index(*index).expect("a symbol");
                let section = symbol.section_index().expect("a function");
                let is_section = symbol.kind() == SymbolKind::Section;
                (section.0, if is_section { instruction.target() } else { symbol.address() })
            });
            let near = || {
                let behind = at.cast_signed() + 8 + i64::from(instruction.immediate) * 8;
                (section.index().0, behind.cast_unsigned())
            };
            let target = target.unwrap_or_else(near);
            function.calls.insert(*places.get(&target).expect("a call of a function"));
        }
        function
    };
    symbols.iter().map(function).collect()
}

/// One instruction (RFC 9669 §3).
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    fn read(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            destination: bytes[1] & 15,
            source: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// A call of a function of the object, or its address.
    fn names_a_function(self) -> bool {
        (self.code == 0x85 && self.source == 1) || (self.code == 0x18 && self.source == 4)
    }

    /// Where a relocation against the section itself points.
    fn target(self) -> u64 {
        let words = i64::from(self.immediate) + i64::from(self.code == 0x85);
        (words * if self.code == 0x85 { 8 } else { 1 }).cast_unsigned()
    }

    /// How far below the frame pointer it reaches. `copies` are the registers that hold it.
    fn reaches(self, copies: &mut [bool; 16]) -> u32 {
        let Self { code, destination, source, offset, immediate } = self;
        let base = match code & 7 {
            1 => source,
            2 | 3 => destination,
            _ => 16,
        };
        match code {
            // A move of a whole register.
            0xbf => copies[usize::from(destination)] = source == FP,
            // An addition to it.
            0x07 if copies[usize::from(destination)] => return immediate.min(0).unsigned_abs(),
            // Loads and arithmetic.
            _ if matches!(code & 7, 0 | 1 | 4 | 7) => copies[usize::from(destination)] = false,
            _ => {}
        }
        if base == FP { u32::from(offset.min(0).unsigned_abs()) } else { 0 }
    }
}
