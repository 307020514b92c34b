//! Connections per server beside what its weight promises.

use std::collections::BTreeMap;

use crate::plan::Server;

/// Prints one row a server; those in `down` are expected to get nothing.
pub(crate) fn print(servers: &[Server], down: &[&Server], answers: &BTreeMap<String, usize>) {
    let is_down = |server: &Server| down.iter().any(|other| other.name == server.name);
    let weight = |server: &Server| if is_down(server) { 0 } else { u32::from(server.weight) };
    let weights: u32 = servers.iter().map(weight).sum();
    let total: usize = answers.values().sum();
    println!("    server         weight   expected   connections    share");
    for server in servers {
        let count = answers.get(&server.name).copied().unwrap_or(0);
        println!(
            "    {:<12} {:>8} {:>9.1}% {:>13} {:>7.1}%{}",
            server.name,
            server.weight,
            percent(f64::from(weight(server)), f64::from(weights)),
            count,
            percent(as_f64(count), as_f64(total)),
            if is_down(server) { "   down" } else { "" },
        );
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { 100.0 * part / whole }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
