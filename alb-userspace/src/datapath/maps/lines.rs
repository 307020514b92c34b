//! A flow table of lines: an array map in this process's memory, which takes part in it as the
//! packet path does.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::OnceLock,
};

use alb_common::{
    flow::{FlowEntry, FlowKey},
    flow_table::{
        self, GROUP, Inserted, Lined, RANDOM,
        shared::{FlowTable, Line},
    },
    net::Be32,
};
use aya::maps::MapData;

use super::MapError;
use crate::datapath::sys::memory::{Access, Mapping};

/// Times that an element is put in another's place while packets put others there.
const TRIES: usize = 8;

/// The flows of one family in one of the tables.
#[derive(Debug)]
pub struct FlowLines<A: Lined = Be32> {
    name: &'static str,
    fd: OwnedFd,
    access: Access,
    /// Made when it is needed first: who only looks at other maps does without.
    mapping: OnceLock<Mapping<Line<A>>>,
}

/// A line that somebody is writing, and its state.
pub(super) type Unfinished = (u32, u32);

impl<A: Lined> FlowLines<A> {
    /// The map behind a descriptor that can write.
    pub fn new(name: &'static str, fd: OwnedFd) -> Self {
        Self { name, fd, access: Access::Write, mapping: OnceLock::new() }
    }

    /// The same, mapped for reading: what would write fails.
    pub(super) fn to_read(name: &'static str, fd: OwnedFd) -> Self {
        Self { access: Access::Read, ..Self::new(name, fd) }
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> MapError {
        let name = self.name;
        move |source| MapError { operation, name, source }
    }

    fn mapping(&self) -> Result<&Mapping<Line<A>>, MapError> {
        if let Some(mapping) = self.mapping.get() {
            return Ok(mapping);
        }
        let map = || {
            let fd = self.fd.try_clone()?;
            let info =
                MapData::from_fd(fd).and_then(|data| data.info()).map_err(io::Error::other)?;
            Mapping::map(self.fd.as_fd(), info.max_entries() as usize, self.access)
        };
        let mapping = map().map_err(self.failed("map"))?;
        Ok(self.mapping.get_or_init(|| mapping))
    }

    /// The table, to be read.
    fn table(&self) -> Result<FlowTable<'_, A>, MapError> {
        Ok(FlowTable::new(self.mapping()?.to_read()))
    }

    /// The lines, to be changed; for `operation`.
    fn lines(&self, operation: &'static str) -> Result<&[Line<A>], MapError> {
        let denied = || self.failed(operation)(io::ErrorKind::PermissionDenied.into());
        self.mapping()?.to_write().ok_or_else(denied)
    }

    /// Makes a table of it if it is none yet.
    pub fn make(&self, random: [u64; RANDOM]) -> Result<(), MapError> {
        let lines = self.lines("prepare")?;
        if !FlowTable::new(lines).is_ready() {
            FlowTable::make(lines, random);
        }
        Ok(())
    }

    /// The element under a key.
    pub fn get(&self, key: &FlowKey<A>) -> Result<Option<FlowEntry<A>>, MapError> {
        Ok(self.table()?.get(key))
    }

    /// Writes an element. One that is there is removed first: a packet of that moment finds none.
    pub fn set(&self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<(), MapError> {
        let table = FlowTable::new(self.lines("write to")?);
        for _ in 0..TRIES {
            if table.get(key).is_some_and(|found| found == *entry) {
                return Ok(());
            }
            table.remove(key);
            if insert(&table, key, entry).map_err(self.failed("write to"))? {
                return Ok(());
            }
        }
        Err(self.failed("write to")(io::ErrorKind::ResourceBusy.into()))
    }

    /// Writes an element if there is none; whether it did.
    pub fn insert(&self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<bool, MapError> {
        let table = FlowTable::new(self.lines("write to")?);
        insert(&table, key, entry).map_err(self.failed("write to"))
    }

    /// Deletes an element; `false` if there was none.
    pub fn remove(&self, key: &FlowKey<A>) -> Result<bool, MapError> {
        Ok(FlowTable::new(self.lines("delete from")?).remove(key))
    }

    /// Visits every element.
    pub fn for_each(&self, visit: impl FnMut(&FlowKey<A>, &FlowEntry<A>)) -> Result<(), MapError> {
        self.look_through(visit, |_| {})
    }

    /// Visits every element, and tells of lines that are being written. An element that is there
    /// all the time is visited once.
    pub(super) fn look_through(
        &self,
        mut visit: impl FnMut(&FlowKey<A>, &FlowEntry<A>),
        mut unfinished: impl FnMut(Unfinished),
    ) -> Result<(), MapError> {
        let table = self.table()?;
        let mut next = GROUP;
        while let Some((line, state)) = table.occupied(next) {
            next = line + 1;
            if flow_table::is_taken(state) {
                if let Some((key, entry)) = table.read(line) {
                    visit(&key, &entry);
                }
            } else if flow_table::abandoned(state) {
                unfinished((line, state));
            }
        }
        Ok(())
    }

    /// Empties a line that somebody has left in this state; whether it still was.
    pub(super) fn clear(&self, (line, state): Unfinished) -> Result<bool, MapError> {
        let lines = self.lines("write to")?;
        Ok(flow_table::clear(&lines, line, state))
    }
}

fn insert<A: Lined>(
    table: &FlowTable<'_, A>,
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
) -> io::Result<bool> {
    match table.insert(key, entry) {
        Inserted::Yes => Ok(true),
        Inserted::Exists => Ok(false),
        // As the kernel's own hash table says.
        Inserted::NoRoom => Err(io::Error::from_raw_os_error(libc::E2BIG)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use alb_common::{
        flow_table::{BUSY, Lines as _, lines_for},
        net::Be16,
    };
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const LINES: u32 = lines_for(64);

    /// A table in memory that is no map's.
    fn shared() -> OwnedFd {
        let fd = memfd_create("lines", MFdFlags::empty()).unwrap();
        let file = File::from(fd);
        file.set_len(u64::from(LINES) * 64).unwrap();
        file.into()
    }

    fn of(fd: OwnedFd, access: Access) -> FlowLines {
        let mapping = Mapping::map(fd.as_fd(), LINES as usize, access).unwrap();
        FlowLines { name: "FLOWS", fd, access, mapping: OnceLock::from(mapping) }
    }

    fn key(n: u32) -> FlowKey {
        FlowKey { src: Be32(n), dst: Be32(7), sport: Be16(9), dport: Be16(80) }
    }

    fn entry(n: u32) -> FlowEntry {
        FlowEntry { target: n, ..FlowEntry::default() }
    }

    fn all(table: &FlowLines) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        table.for_each(|key, entry| all.push((key.src.0, entry.target))).unwrap();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_one_writes_another_reads() {
        let fd = shared();
        let reader = of(fd.try_clone().unwrap(), Access::Read);
        let table = of(fd, Access::Write);
        let refused = table.insert(&key(1), &entry(1)).unwrap_err();
        assert_eq!(refused.source.raw_os_error(), Some(libc::E2BIG), "it is no table yet");
        table.make([1; RANDOM]).unwrap();
        table.set(&key(1), &entry(1)).unwrap();
        assert!(table.insert(&key(2), &entry(2)).unwrap());
        assert!(!table.insert(&key(2), &entry(3)).unwrap());
        table.set(&key(1), &entry(4)).unwrap();
        table.make([5; RANDOM]).unwrap();
        assert_eq!(all(&reader), [(1, 4), (2, 2)], "it was one already");
        assert_eq!(reader.get(&key(1)).unwrap(), Some(entry(4)));
        assert!(table.remove(&key(1)).unwrap() && !table.remove(&key(1)).unwrap());
        assert_eq!(reader.get(&key(1)).unwrap(), None);
        assert_eq!(all(&reader), [(2, 2)]);
    }

    #[test]
    fn what_is_mapped_for_reading_is_not_written() {
        let table = of(shared(), Access::Read);
        for result in [
            table.make([0; RANDOM]),
            table.set(&key(1), &entry(1)),
            table.insert(&key(1), &entry(1)).map(drop),
            table.remove(&key(1)).map(drop),
            table.clear((9, BUSY)).map(drop),
        ] {
            assert_eq!(result.unwrap_err().source.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn lines_that_are_being_written_are_told_of_and_can_be_emptied() {
        let table = of(shared(), Access::Write);
        table.make([1; RANDOM]).unwrap();
        table.set(&key(1), &entry(1)).unwrap();
        let lines = table.lines("write to").unwrap();
        let line = (GROUP..LINES).find(|line| lines.swap(*line, 0, BUSY)).unwrap();
        let look = || {
            let (mut keys, mut unfinished) = (0, Vec::new());
            table.look_through(|_, _| keys += 1, |line| unfinished.push(line)).unwrap();
            (keys, unfinished)
        };
        assert_eq!(look(), (1, vec![(line, BUSY)]));
        assert!(!table.clear((line, BUSY + 4)).unwrap(), "another state");
        assert!(table.clear((line, BUSY)).unwrap());
        assert_eq!(look(), (1, vec![]));
    }
}
