//! `cargo xtask bench scale`: how long a large configuration takes to load, how long one change of it
//! takes to reach the kernel's tables, and what both cost in memory. Nothing is attached.
#![expect(clippy::print_stdout, reason = "a bench prints")]

mod memory;
mod node;
mod site;

use std::time::{Duration, Instant};

use alb_tests::daemon::BPFFS;
use alb_userspace::{
    config,
    datapath::Engine,
    model::{Model, TargetSource},
    state::{Health, Snapshot, Store, TargetRef, Transition, Unhealthy, UnhealthyReason},
};
use anyhow::{Context as _, Result};
use clap::Parser;

use crate::{memory::mebibytes, node::Net, site::Site};

/// What this project sets itself.
const FIRST_LOAD: Duration = Duration::from_secs(5);
const ONE_CHANGE: Duration = Duration::from_millis(20);

/// What the bench runs.
#[derive(Debug, Parser)]
struct Args {
    /// Load balancers, an address each.
    #[arg(long, default_value_t = 100)]
    balancers: u16,
    /// Listeners of each, with a backend of its own.
    #[arg(long, default_value_t = 100)]
    listeners: u16,
    /// Targets of each.
    #[arg(long, default_value_t = 10)]
    targets: u16,
    /// How often each change is made.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let site = Site { balancers: args.balancers, listeners: args.listeners, targets: args.targets };
    let dir = tempfile::Builder::new().prefix("alb-scale-").tempdir()?;
    let bpffs = Pins(format!("{BPFFS}/alb-test-{}-scale", std::process::id()).into());
    let file = dir.path().join("alb.yaml");
    std::fs::write(&file, site.text(&bpffs.0, dir.path()))?;
    let bytes = std::fs::metadata(&file)?.len();
    println!(
        "{} listeners, {} targets, a file of {:.1} MiB; this process had {:.1} MiB before",
        site.all_listeners(),
        site.all_targets(),
        mebibytes(bytes),
        mebibytes(memory::resident())
    );

    println!("\nfirst load");
    let all = Instant::now();
    let model = step("file read and checked", || config::load(&file))?.model;
    let net = Net::new();
    let mut engine =
        step("program loaded, maps made", || Engine::open(&model, &net.interfaces, false))?;
    let healthy = node::healthy(&model);
    let store = step("snapshot published", || Store::new(model, &healthy));
    step("tables compiled and written", || apply(&mut engine, &store.snapshot(), &net))?;
    verdict("all of it", all.elapsed(), FIRST_LOAD);

    println!("\none change, from the decision to the kernel's tables ({} times)", args.rounds);
    let victim = victim(&store.snapshot().model)?;
    let mut times = Vec::new();
    for round in 0..args.rounds {
        let transition = transition(&store.snapshot(), &victim, round % 2 == 1);
        times.push(timed(|| {
            let snapshot = store.report(vec![transition]);
            apply(&mut engine, &snapshot, &net)
        })?);
    }
    verdict_of("a target's health", times);

    let mut times = Vec::new();
    for round in 0..args.rounds {
        let mut model = Model::clone(&store.snapshot().model);
        let weight = if round % 2 == 0 { 30 } else { 10 };
        model.load_balancers[0].target_groups[0].targets[0].weight = weight;
        times.push(timed(|| {
            let snapshot = store.apply(model);
            apply(&mut engine, &snapshot, &net)
        })?);
    }
    verdict_of("a target's weight", times);

    let mut times = Vec::new();
    for round in 0..args.rounds {
        let mut model = Model::clone(&store.snapshot().model);
        model.load_balancers[0].listeners[0].enabled = round % 2 == 1;
        times.push(timed(|| {
            let snapshot = store.apply(model);
            apply(&mut engine, &snapshot, &net)
        })?);
    }
    verdict_of("a listener goes and comes", times);

    println!("\nmemory");
    println!("  {:<44} {:>8.1} MiB", "this process, resident", mebibytes(memory::resident()));
    println!("  {:<44} {:>8.1} MiB", "the kernel's maps", mebibytes(memory::maps()?));
    drop(engine);
    Ok(())
}

fn apply(engine: &mut Engine, snapshot: &Snapshot, net: &Net) -> Result<()> {
    Ok(engine.apply(snapshot, net.hops.clone(), &net.interfaces)?)
}

/// The first target of the first backend, as its backend sees it.
fn victim(model: &Model) -> Result<TargetRef> {
    let balancer = model.load_balancers.first().context("no load balancer")?;
    let backend = balancer.backends.first().context("no backend")?;
    anyhow::ensure!(matches!(backend.source, TargetSource::Group(_)), "it has no target group");
    let target = balancer.targets_of(backend).first().context("no target")?;
    Ok(TargetRef::new(&backend.id, &target.id))
}

fn transition(snapshot: &Snapshot, target: &TargetRef, healthy: bool) -> Transition {
    let state = snapshot.targets.get(&target.backend, &target.target);
    Transition {
        target: target.clone(),
        revision: state.map_or(0, |state| state.revision),
        health: if healthy { Health::Healthy } else { Health::Unhealthy },
        reason: (!healthy).then(|| Unhealthy::new(UnhealthyReason::ConnectFailed, "refused")),
    }
}

fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    println!("  {what:<44} {:>8.1} ms", millis(begun.elapsed()));
    done
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn verdict_of(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (Some(least), Some(most)) = (times.first(), times.last()) else { return };
    let what = format!("{what} [{:.1} to {:.1}]", millis(*least), millis(*most));
    verdict(&what, times[times.len() / 2], ONE_CHANGE);
}

fn verdict(what: &str, took: Duration, goal: Duration) {
    let miss = if took > goal { "  MISSED" } else { "" };
    println!("  {what:<44} {:>8.1} ms (goal {:.0}){miss}", millis(took), millis(goal));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A directory of pins; removed when dropped.
#[derive(Debug)]
struct Pins(std::path::PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        // It was never made if something failed before.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
