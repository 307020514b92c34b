//! Brings a replacement of the maps to its end that a process did not live to finish.
//!
//! `maps-new` tells that there was one. Which maps are live is what the programs on the links
//! say, whatever the directories are called:
//!
//! | links run over | it died | so |
//! |---|---|---|
//! | the current maps | before the switch, or after the exchange | what is in `maps-new` goes |
//! | both | during the switch | all links are switched, then as below |
//! | the next maps | before the exchange | flows are merged, the directories change places |

use std::{collections::BTreeSet, os::fd::AsFd as _};

use alb_common::abi::map;
use aya::maps::{MapError as AyaMapError, MapInfo};

use super::{
    KernelError, links, pinned_maps,
    programs::{self, Hook},
};
use crate::datapath::{
    carry::Carry,
    pins::{MapSet, Pins},
    shape::{self, Room, Shape},
};

/// Leaves the pinned state whole. `flows` is `node.flows`.
pub(super) fn recover(pins: &Pins, flows: u32) -> Result<(), KernelError> {
    if !pins.has_next() {
        return Ok(());
    }
    let next = ids(pins, MapSet::Next)?;
    let mut over_next = Vec::new();
    let mut others = Vec::new();
    for link in links::open(pins)? {
        // A husk has nothing to say.
        if link.on.is_none() {
            link.pin.remove()?;
        } else if links::maps_under(&link)?.is_disjoint(&next) {
            others.push(link);
        } else {
            over_next.push(link);
        }
    }
    if over_next.is_empty() {
        tracing::info!("clearing away what an earlier start has left");
        return Ok(pins.remove_next()?);
    }
    tracing::info!("finishing the replacement of the maps that an earlier start has begun");
    for link in &others {
        let program = programs::left(pins, Hook::of(link.pin.mode))?;
        links::switch(link, program.as_fd())?;
    }
    if carries(pins, flows)? {
        let new = pinned_maps(pins, MapSet::Next)?;
        Carry::from(pinned_maps(pins, MapSet::Current)?).merge(&new)?;
    }
    pins.exchange()?;
    programs::tidy(pins)?;
    Ok(pins.remove_next()?)
}

/// Whether flows were to be carried over: both sets have the layout of this version.
fn carries(pins: &Pins, flows: u32) -> Result<bool, KernelError> {
    let of_ours = |set| {
        shape::pinned_shape(pins, set, Room::new(flows, true))
            .map(|shape| matches!(shape, Shape::Same | Shape::Resized))
    };
    Ok(of_ours(MapSet::Current)? && of_ours(MapSet::Next)?)
}

/// Ids of the maps pinned in a set.
pub(super) fn ids(pins: &Pins, set: MapSet) -> Result<BTreeSet<u32>, KernelError> {
    let mut ids = BTreeSet::new();
    for name in map::ALL {
        let path = pins.map(set, name);
        if path.exists() {
            let info = MapInfo::from_pin(&path);
            let info = info.map_err(|source: AyaMapError| KernelError::Open { name, source })?;
            ids.insert(info.id());
        }
    }
    Ok(ids)
}
