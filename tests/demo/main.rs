//! The demo: a client, the balancer and three web servers in network namespaces of their own, real
//! connections, a server that dies and comes back. Started by `cargo xtask run`.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod daemon;
mod interrupt;
mod plan;
mod table;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use alb_tests::{
    client::http_get_here,
    netns::Namespace,
    server::Nginx,
    topology::{Lab, Shape},
};
use anyhow::{Context as _, Result, bail, ensure};
use daemon::Daemon;
use plan::{Plan, Server};

const FIRST: usize = 3_000;
const LATER: usize = 1_000;

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let (Some(alb), Some(config)) = (words.next(), words.next()) else {
        bail!("usage: demo ALB CONFIG [--hold]; `cargo xtask run` calls it");
    };
    let hold = words.next().is_some_and(|word| word == "--hold");
    interrupt::watch()?;
    match show(alb.as_ref(), config.as_ref(), hold) {
        Err(error) if error.is::<interrupt::Interrupted>() => {
            println!("\ninterrupted; everything is removed");
            Ok(())
        }
        outcome => outcome,
    }
}

fn show(alb: &Path, config: &Path, hold: bool) -> Result<()> {
    let plan = Plan::read(config)?;
    step("making namespaces: a client, the balancer, three targets");
    let lab = Lab::new(Shape::default());
    plan.check(&lab)?;
    let mut web = Vec::new();
    for (server, host) in plan.servers.iter().zip(&lab.targets) {
        println!("    {}  nginx on {}:{}", host.namespace.name(), server.address, server.port);
        web.push(Some(nginx(&host.namespace, server)?));
    }

    step(&format!("starting alb run --config {}", config.display()));
    let daemon = Daemon::start(alb, config, &plan, &lab.balancer.namespace)?;
    daemon.wait_state(&plan.servers, "healthy")?;

    let client = &lab.client.namespace;
    step(&format!("{FIRST} connections from the client to {}", plan.vip));
    table::print(&plan.servers, &[], &send(client, &plan, FIRST)?);

    let victim = &plan.servers[1];
    step(&format!("stopping {}", victim.name));
    web[1] = None;
    let stopped = Instant::now();
    let (mut tried, mut failed) = (0, 0);
    while !daemon.is_in_state(victim, "unhealthy")? {
        ensure!(stopped.elapsed() < Duration::from_secs(30), "its failure was not noticed in 30 s");
        tried += 1;
        failed += usize::from(get(client, &plan).is_err());
        interrupt::check()?;
    }
    println!(
        "    {failed} of {tried} connections met the dead server before the check noticed, after {:.1} s",
        stopped.elapsed().as_secs_f32()
    );
    table::print(&plan.servers, &[victim], &send(client, &plan, LATER)?);

    step(&format!("starting {} again", victim.name));
    web[1] = Some(nginx(&lab.targets[1].namespace, victim)?);
    let started = Instant::now();
    daemon.wait_state(&plan.servers, "healthy")?;
    println!(
        "    healthy again after {:.1} s ({})",
        started.elapsed().as_secs_f32(),
        plan.recovery
    );
    table::print(&plan.servers, &[], &send(client, &plan, LATER)?);

    hints(&lab, &plan, (alb, daemon.pid()), config, hold);
    if hold {
        interrupt::wait();
        println!("\nremoving everything");
    }
    daemon.stop()
}

fn step(what: &str) {
    println!("\n==> {what}");
}

fn nginx(namespace: &Namespace, server: &Server) -> Result<Nginx> {
    Nginx::start(namespace, server.port, &server.name)
        .with_context(|| format!("cannot start nginx as {}", server.name))
}

fn get(client: &Namespace, plan: &Plan) -> std::io::Result<String> {
    client.enter(|| http_get_here(plan.vip, "/"))
}

/// One request a connection, one after the other; how many each server answered.
fn send(client: &Namespace, plan: &Plan, count: usize) -> Result<BTreeMap<String, usize>> {
    client.enter(|| {
        let mut answers = BTreeMap::new();
        for number in 1..=count {
            let name = http_get_here(plan.vip, "/")
                .with_context(|| format!("connection {number} of {count} failed"))?;
            *answers.entry(name.trim().to_owned()).or_default() += 1;
            interrupt::check()?;
        }
        Ok(answers)
    })
}

fn hints(lab: &Lab, plan: &Plan, (alb, pid): (&Path, u32), config: &Path, hold: bool) {
    let inside = |namespace: &Namespace| format!("nsenter --net={}", namespace.path().display());
    step("what to try next");
    if hold {
        println!("    {} curl http://{}/", inside(&lab.client.namespace), plan.vip);
        println!("    {} status --socket {}", alb.display(), plan.socket.display());
        println!("    kill -HUP {pid}    after a change to {}", config.display());
        println!(
            "    kill -9 {pid}      connections go on: the kernel forwards without the daemon"
        );
        println!(
            "    {} {} run --config {}    a new daemon takes over",
            inside(&lab.balancer.namespace),
            alb.display(),
            config.display()
        );
        println!("    Ctrl-C removes everything");
    } else {
        println!("    cargo xtask run --hold              the same, and stays up to look around");
        println!("    cargo xtask run --config FILE       serve a file of yours on this host");
        println!("    {} doctor    what this host can do", alb.display());
    }
}
