//! The pinned maps by name, with the types of their keys and values. What holds addresses is there
//! for each family, and one table here.

mod dual;
mod flows;
mod lines;
mod local_cache;

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, OwnedFd},
};

use alb_common::{
    abi::{Plain, map},
    filter::FilterEntry,
    flow::Totals,
    interface::{HopEntry, InterfaceEntry},
    limits::{MAX_LISTENERS, MAX_TARGETS},
    service::{ListenerEntry, ListenerState},
    settings::Settings,
    target::{TargetActive, TargetTimes},
};

pub use self::{
    dual::{Arrays, Dual, Family},
    flows::{Flows, HalfWay},
    lines::FlowLines,
    local_cache::{Local, LocalCaches, Place},
};
use super::{
    active::Active,
    sys,
    wide::{Addr, FilterKey, ListenerKey, RingSlot, TargetEntry},
};

/// A map of `K` to `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

/// A map operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} map {name}")]
pub struct MapError {
    operation: &'static str,
    name: &'static str,
    #[source]
    source: io::Error,
}

impl MapError {
    /// The map has no room for one more.
    pub fn is_full(&self) -> bool {
        self.source.raw_os_error() == Some(libc::E2BIG)
    }
}

impl<K, V> Table<K, V> {
    /// The map behind a descriptor; its keys and values have the sizes of `K` and `V`.
    pub(super) fn new(name: &'static str, fd: OwnedFd) -> Self {
        Self { name, fd, types: PhantomData }
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> MapError {
        let name = self.name;
        move |source| MapError { operation, name, source }
    }
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// The element under a key of a map that is not per CPU.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        sys::lookup(self.fd.as_fd(), key).map_err(self.failed("read"))
    }

    /// Writes an element.
    pub fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        sys::update(self.fd.as_fd(), key, value, sys::ANY).map_err(self.failed("write to"))
    }

    /// Writes many elements.
    pub fn set_all(&self, keys: &[K], values: &[V]) -> Result<(), MapError> {
        sys::update_batch(self.fd.as_fd(), keys, values).map_err(self.failed("write to"))
    }

    /// Deletes an element; `false` if there was none.
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        sys::delete(self.fd.as_fd(), key).map_err(self.failed("delete from"))
    }
}

impl<K: Plain + Default, V: Plain + Default> Table<K, V> {
    /// Visits every element of a map that is not per CPU.
    pub fn for_each(&self, visit: impl FnMut(&K, &V)) -> Result<(), MapError> {
        sys::for_each(self.fd.as_fd(), visit).map_err(self.failed("read"))
    }

    /// Copies all elements to another map.
    pub fn copy_to(&self, other: &Self) -> Result<(), MapError> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        self.for_each(|key, value| {
            keys.push(*key);
            values.push(*value);
        })?;
        other.set_all(&keys, &values)
    }

    /// The values of a per-CPU element, one a CPU.
    pub fn per_cpu(&self, key: &K) -> Result<Vec<V>, MapError> {
        let cpus = aya::util::nr_cpus().map_err(|(_file, error)| error);
        cpus.and_then(|cpus| sys::lookup_all(self.fd.as_fd(), key, cpus))
            .map_err(self.failed("read"))
    }
}

impl<K: Plain, V: Plain + Default> Table<K, V> {
    /// Sets a per-CPU element to zero on every CPU.
    pub fn clear_per_cpu(&self, key: &K) -> Result<(), MapError> {
        let cpus = aya::util::nr_cpus().map_err(|(_file, error)| error);
        cpus.and_then(|cpus| sys::update_all(self.fd.as_fd(), key, &vec![V::default(); cpus]))
            .map_err(self.failed("write to"))
    }
}

macro_rules! maps {
    ({ $($(#[$doc:meta])* $field:ident: $key:ty => $value:ty = $name:ident;)+ }
     { $($(#[$both_doc:meta])* $both:ident: $type:ty = $four:ident, $six:ident;)+ }) => {
        /// Every map of the packet path that userspace reads or writes.
        #[derive(Debug)]
        pub struct Maps {
            $($(#[$doc])* pub $field: Table<$key, $value>,)+
            $($(#[$both_doc])* pub $both: $type,)+
        }

        impl Maps {
            /// Takes the maps from wherever `open` finds them.
            pub fn open<E>(mut open: impl FnMut(&'static str) -> Result<OwnedFd, E>) -> Result<Self, E> {
                Ok(Self {
                    $($field: Table::new(map::$name, open(map::$name)?),)+
                    $($both: <$type>::open(map::$four, map::$six, &mut open)?,)+
                })
            }
        }
    };
}

/// One element, which is too large to be anybody's variable.
impl Table<u32, TargetActive> {
    /// All counters, by target index.
    pub fn counters(&self) -> Result<Vec<u64>, MapError> {
        sys::lookup_all(self.fd.as_fd(), &0u32, MAX_TARGETS).map_err(self.failed("read"))
    }

    /// Copies them to another map.
    pub fn copy_counters_to(&self, other: &Self) -> Result<(), MapError> {
        let counters = self.counters()?;
        sys::update_all(other.fd.as_fd(), &0u32, &counters).map_err(other.failed("write to"))
    }
}

impl Maps {
    /// The active counters of the targets as shared memory; `target_active` reads the same.
    pub fn active(&self) -> Result<Active, MapError> {
        Active::map(self.target_active.fd.as_fd(), MAX_TARGETS)
            .map_err(self.target_active.failed("map"))
    }

    /// The same of the listeners, and of `listener_active`.
    pub fn active_of_listeners(&self) -> Result<Active, MapError> {
        Active::map(self.listener_active.fd.as_fd(), MAX_LISTENERS)
            .map_err(self.listener_active.failed("map"))
    }
}

maps! {
    {
    /// One element.
    settings: u32 => Settings = SETTINGS;
    /// Per CPU.
    counters: u32 => u64 = COUNTERS;
    /// By listener index.
    listener_states: u32 => ListenerState = LISTENER_STATES;
    /// By listener index.
    listener_active: u32 => u64 = LISTENER_ACTIVE;
    /// Selection tables.
    slots: u32 => u32 = SLOTS;
    /// By target index.
    hops: u32 => HopEntry = HOPS;
    /// By target index.
    target_times: u32 => TargetTimes = TARGET_TIMES;
    /// Of all targets.
    target_active: u32 => TargetActive = TARGET_ACTIVE;
    /// By target index, per CPU.
    target_totals: u32 => Totals = TARGET_TOTALS;
    /// By listener index, per CPU.
    listener_totals: u32 => Totals = LISTENER_TOTALS;
    /// By slot.
    interfaces: u32 => InterfaceEntry = INTERFACES;
    /// Slot by interface index.
    interface_slots: u32 => u32 = INTERFACE_SLOTS;
    /// By `alb_common::flow::ring`.
    ring_heads: u32 => u64 = RING_HEADS;
    }
    {
    /// VIPs and SNAT addresses.
    locals: Dual<Addr, u32> = LOCALS, LOCALS6;
    /// The same by a place computed from the address.
    local_cache: LocalCaches = LOCAL_CACHE, LOCAL_CACHE6;
    /// Selection by VIP and port.
    listeners: Dual<ListenerKey, ListenerEntry> = LISTENERS, LISTENERS6;
    /// Security groups.
    filters: Dual<FilterKey, FilterEntry> = FILTERS, FILTERS6;
    /// By target index.
    targets: Arrays<TargetEntry> = TARGETS, TARGETS6;
    /// Established flows.
    flows: Flows = FLOWS, FLOWS6;
    /// Half-open flows.
    half_open: Flows = HALF_OPEN, HALF_OPEN6;
    /// Half-open flows by age.
    half_open_ring: Arrays<RingSlot> = HALF_OPEN_RING, HALF_OPEN_RING6;
    }
}
