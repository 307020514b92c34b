//! The demo: a client, the balancer and three web servers in network namespaces of their own; TCP,
//! HTTP and HTTPS listeners; a server that dies and comes back. Started by `cargo xtask run`.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod daemon;
mod files;
mod interrupt;
mod plan;
mod table;
mod web;

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
use files::Files;
use plan::{Plan, Server};
use web::Web;

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
    let files = Files::make(config)?;
    let plan = Plan::read(&files.config())?;
    step("making namespaces: a client, the balancer, three targets");
    let lab = Lab::new(Shape::default());
    plan.check(&lab)?;
    let mut servers = Vec::new();
    for (server, host) in plan.servers.iter().zip(&lab.targets) {
        println!("    {}  nginx on {}:{}", host.namespace.name(), server.address, server.port);
        servers.push(Some(nginx(&host.namespace, server)?));
    }

    let file = config.file_name().unwrap_or_default();
    step(&format!("starting alb run with a copy of {}", Path::new(file).display()));
    let daemon = Daemon::start(alb, &files.config(), &plan, &lab.balancer.namespace)?;
    daemon.wait_state(&plan.servers, "healthy")?;

    let client = &lab.client.namespace;
    step(&format!("TCP, in the kernel: {FIRST} connections from the client to {}", plan.tcp));
    table::print(&plan.servers, &[], &send(client, &plan, FIRST)?);

    let web = Web { client, plan: &plan, files: &files };
    step("HTTP, in the proxy, with cookie persistence");
    let victim = web.show_persistence()?;
    step("HTTPS, with the certificate made for this demo");
    web.show_tls()?;

    let position = plan.servers.iter().position(|server| server.name == victim.name);
    let position = position.context("one of the servers")?;
    step(&format!("stopping {}, which the cookie is for", victim.name));
    servers[position] = None;
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
    web.show_new_choice(victim)?;

    step(&format!("starting {} again", victim.name));
    servers[position] = Some(nginx(&lab.targets[position].namespace, victim)?);
    let started = Instant::now();
    daemon.wait_state(&plan.servers, "healthy")?;
    println!(
        "    healthy again after {:.1} s ({})",
        started.elapsed().as_secs_f32(),
        plan.recovery
    );
    table::print(&plan.servers, &[], &send(client, &plan, LATER)?);

    if hold {
        hints(&lab, &web, (alb, daemon.pid()), &files.config());
        interrupt::wait();
        println!("\nremoving everything");
    } else {
        step("what to try next");
        println!("    cargo xtask run --hold              the same, and stays up to look around");
        println!("    cargo xtask run --config FILE       serve a file of yours on this host");
        println!("    {} doctor    what this host can do", alb.display());
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
    client.enter(|| http_get_here(plan.tcp, "/"))
}

/// One request a connection, one after the other; how many each server answered.
fn send(client: &Namespace, plan: &Plan, count: usize) -> Result<BTreeMap<String, usize>> {
    client.enter(|| {
        let mut answers = BTreeMap::new();
        for number in 1..=count {
            let name = http_get_here(plan.tcp, "/")
                .with_context(|| format!("connection {number} of {count} failed"))?;
            *answers.entry(name.trim().to_owned()).or_default() += 1;
            interrupt::check()?;
        }
        Ok(answers)
    })
}

fn hints(lab: &Lab, web: &Web<'_>, (alb, pid): (&Path, u32), config: &Path) {
    let inside = |namespace: &Namespace| format!("nsenter --net={}", namespace.path().display());
    let client = inside(&lab.client.namespace);
    step("what to try next");
    println!("  TCP");
    println!("    {client} curl http://{}/", web.plan.tcp);
    println!("    kill -9 {pid}      connections go on: the kernel forwards without the daemon");
    println!(
        "    {} {} run --config {}    a new daemon takes over",
        inside(&lab.balancer.namespace),
        alb.display(),
        config.display()
    );
    println!("  HTTP and HTTPS");
    web.hints(&client);
    println!("  all of them");
    println!("    {} status --socket {}", alb.display(), web.plan.socket.display());
    println!("    kill -HUP {pid}    after a change to {}", config.display());
    println!("    Ctrl-C removes everything");
}
