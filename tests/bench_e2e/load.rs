//! The load generator and what the machine did meanwhile.

use std::fs;

use alb_tests::netns::must;

use crate::way::{CLIENT_CORE, Way};

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Median latency, microseconds.
    pub(crate) p50: f64,
    /// 99th percentile, microseconds.
    pub(crate) p99: f64,
    /// Requests that failed.
    pub(crate) failed: u64,
    /// Part of all the machine's processors that was busy, 0–1.
    pub(crate) cpu: f64,
}

/// wrk in the client's namespace, one thread.
pub(crate) fn wrk(
    way: &Way<'_>,
    path: &str,
    connections: u32,
    seconds: u32,
    close: bool,
) -> Sample {
    let before = Stat::read();
    let mut command = way.client.command("taskset");
    command.args(["-c", CLIENT_CORE, "wrk", "--latency", "-t1"]);
    command.args([format!("-c{connections}"), format!("-d{seconds}s")]);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    let text = must(command.arg(format!("http://{}/{path}", way.to)));
    let cpu = Stat::read().busy_since(&before);
    parse(&text, cpu).unwrap_or_else(|| panic!("wrk said\n{text}"))
}

fn parse(text: &str, cpu: f64) -> Option<Sample> {
    let of_line = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(name)).map(str::trim)
    };
    let numbers = |line: &str| {
        let words = line.split(|letter: char| !letter.is_ascii_digit());
        words.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>()
    };
    let failed = of_line("Socket errors:").map_or(0, numbers)
        + of_line("Non-2xx or 3xx responses:").map_or(0, numbers);
    Some(Sample {
        rate: of_line("Requests/sec:")?.parse().ok()?,
        p50: micros(of_line("50%")?)?,
        p99: micros(of_line("99%")?)?,
        failed,
        cpu,
    })
}

/// `12.34us`, `1.23ms` or `1.23s`.
fn micros(text: &str) -> Option<f64> {
    let (number, factor) = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// Time of all processors since boot (`/proc/stat`, `proc_stat(5)`).
struct Stat {
    busy: u64,
    all: u64,
}

impl Stat {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/stat").expect("reading /proc/stat");
        let line = text.lines().next().expect("its first line");
        // user, nice, system, idle, iowait, irq, softirq; steal is somebody else's.
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).take(7).filter_map(|word| word.parse().ok()).collect();
        let all = fields.iter().sum();
        Self { busy: all - fields[3] - fields[4], all }
    }

    fn busy_since(&self, before: &Self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
        let of = |part: u64| part as f64;
        of(self.busy - before.busy) / of((self.all - before.all).max(1))
    }
}
