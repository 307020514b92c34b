//! What is told of certificates: when they end, what became of changed files.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Counters;
use crate::model::Model;

/// What became of changed certificate files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// How often they were taken over, by id of the certificate.
    pub applied: BTreeMap<String, u64>,
    /// How often they could not be used, by id.
    pub refused: BTreeMap<String, u64>,
    /// Why they cannot be used as they are, by id.
    pub faults: BTreeMap<String, String>,
    /// How often a listener was found to serve another certificate than is set.
    pub unverified: u64,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateReport {
    /// Serial number of what is served, upper-case hexadecimal.
    pub serial: String,
    /// When it ends, in Unix time.
    pub ends: u64,
    /// How often changed files were taken over.
    pub reloaded: u64,
    /// How often changed files could not be used.
    pub refused: u64,
    /// Why the files cannot be used as they are; what they held before is served.
    pub fault: Option<String>,
}

impl Counters {
    /// Adds what there is to tell of the model's certificates.
    pub fn add_certificates(&mut self, model: &Model, reloads: &Reloads) {
        let Reloads { applied, refused, faults, unverified } = reloads;
        let count =
            |counts: &BTreeMap<String, u64>, id| counts.get(id).copied().unwrap_or_default();
        for certificate in &model.certificates {
            let id = &certificate.id;
            let end = certificate.facts.not_after.duration_since(UNIX_EPOCH);
            let report = CertificateReport {
                serial: certificate.facts.serial.clone(),
                // One that ended before 1970 has ended.
                ends: end.map_or(0, |end| end.as_secs()),
                reloaded: count(applied, id),
                refused: count(refused, id),
                fault: faults.get(id).cloned(),
            };
            self.proxied.certificates.insert(certificate.name.clone(), report);
        }
        self.proxied.unverified = *unverified;
    }
}
