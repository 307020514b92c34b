//! Raw requests and the verdict of each: refused, and the origin heard nothing; or passed, and
//! exactly how it arrived. Behind each a second request is sent in the same bytes, so that
//! whatever the two sides could disagree about would show.

mod cut;
mod passed;
mod refused;

use std::collections::BTreeMap;

use alb_tests::{daemon::Daemon, http::Client, origin::Origin, topology::Lab};

use super::setting::{ORIGIN, Site, lab, vip, without_id};

/// What every request is followed by.
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: second\r\nConnection: close\r\n\r\n";

/// A lab with an origin that answers everything.
struct Table<'lab> {
    lab: &'lab Lab,
    origin: Origin,
    /// Rows that did not come out as they should, with what came instead.
    wrong: BTreeMap<String, String>,
    _daemon: Daemon<'lab>,
}

impl<'lab> Table<'lab> {
    fn new(lab: &'lab Lab, site: &Site) -> Self {
        let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
        Self { lab, origin, wrong: BTreeMap::new(), _daemon: site.serve(lab) }
    }

    /// Sends a request and a second one; the statuses of all responses until the end, and what
    /// the origin heard meanwhile.
    fn send(&mut self, request: &[u8]) -> (Vec<u16>, Vec<String>) {
        let before: Vec<usize> = self.origin.heard().iter().map(String::len).collect();
        let mut client = Client::connect(&self.lab.client.namespace, vip());
        client.send([request, SECOND.as_bytes()].concat());
        let mut statuses = Vec::new();
        while let Ok(response) = client.response(false) {
            statuses.push(response.status);
        }
        let heard = self.origin.heard().into_iter().enumerate().filter_map(|(at, text)| {
            let new = without_id(&text[before.get(at).copied().unwrap_or(0)..]);
            (!new.is_empty()).then_some(new)
        });
        (statuses, heard.collect())
    }

    fn expect(&mut self, request: &[u8], found: &str, wanted: &str) {
        if found != wanted {
            let request = request.escape_ascii().to_string();
            self.wrong.insert(request, format!("\n   wanted {wanted}\n   found  {found}"));
        }
    }

    fn done(self) {
        let rows = self.wrong.iter().map(|(row, text)| format!("{row}{text}"));
        let rows: Vec<_> = rows.collect();
        assert!(rows.is_empty(), "{} rows differ:\n{}", rows.len(), rows.join("\n"));
    }
}

/// A request with these fields after its Host.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

/// As [`post`], with `GET` and no body.
fn get(fields: &str) -> Vec<u8> {
    format!("GET /g HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}
