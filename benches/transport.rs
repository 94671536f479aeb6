//! `cargo bench transport`: whole transports, with buffers made anew and with buffers of the pool (`--pool on`).
//!
//! `transport/pipe` is the link `pipe` between two pairs of the system's pipes. `transport/http` is `dial`: lines from
//! pipes to a server on a loopback socket, whose answers are read back from there; the long ones come in pieces. Client
//! and server are of the same thread as the link, so no wake-up crosses threads and what differs is where buffers
//! come from. With four threads, each has a client, a link and a server of its own, and all of them one pool.
//!
//! A call is one request of the given size and its answer of the same size. Criterion measures each way alone; then
//! both have turns one after the other, and the table has the median of their ratios with its quartiles. It is that of
//! `docs/benchmarks/pool.md`.
//!
//! ```text
//! cargo bench transport                         everything
//! cargo bench --bench transport -- summary      only the table
//! ```

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]
#![expect(clippy::panic, reason = "a benchmark whose link ends has no result")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch")]

#[path = "support/lane.rs"]
mod lane;
#[path = "support/spread.rs"]
mod spread;

use std::{
    env,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use lane::{Lane, Way};
use shadowcat::{budget::Budget, resources::Resources};

const SIZES: [(usize, &str); 4] = [(100, "100_B"), (8 << 10, "8_KiB"), (64 << 10, "64_KiB"), (1 << 20, "1_MiB")];
const THREADS: [usize; 2] = [1, 4];

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    if filter.is_none_or(|filter| filter != "summary") {
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(500))
            .sample_size(10)
            .configure_from_args();
        for (way, name) in [(Way::Pipe, "pipe"), (Way::Http, "http")] {
            alone(&mut criterion, way, &format!("transport/{name}"));
        }
        criterion.final_summary();
    }
    if filter.is_none_or(|filter| "transport/summary".contains(filter.as_str())) && !has("--list") {
        let (rounds, turn) = if has("--test") { (1, Duration::ZERO) } else { (31, Duration::from_millis(10)) };
        summary(rounds, turn);
    }
}

fn alone(criterion: &mut Criterion, way: Way, name: &str) {
    for (has_pool, buffers) in [(false, "fresh"), (true, "pooled")] {
        let mut group = criterion.benchmark_group(format!("{name}/{buffers}"));
        for (size, size_name) in SIZES {
            for threads in THREADS {
                let mut crew = None;
                group.bench_function(BenchmarkId::new(size_name, format!("{threads}_threads")), |bencher| {
                    let crew = crew.get_or_insert_with(|| Crew::new(way, has_pool, size, threads));
                    bencher.iter_custom(|calls| crew.call(calls));
                });
            }
        }
        group.finish();
    }
}

/// Threads that make calls at the same time, and the budget that all of them share.
struct Crew {
    budget: Budget,
    threads: Vec<(SyncSender<u64>, Receiver<()>, JoinHandle<()>)>,
}

impl Crew {
    fn new(way: Way, has_pool: bool, size: usize, threads: usize) -> Self {
        let mut resources = Resources::default();
        if has_pool {
            resources.budget = resources.budget.with_pools();
            assert!(resources.budget.pools().is_some(), "there is room for them");
        }
        let threads = (0..threads).map(|_| {
            let ((orders, ordered), (done, all_done)) = (sync_channel(1), sync_channel(1));
            let resources = resources.clone();
            let thread = thread::spawn(move || {
                let mut lane = Lane::new(way, size, resources);
                while let Ok(calls) = ordered.recv() {
                    lane.call(calls);
                    if done.send(()).is_err() {
                        break;
                    }
                }
            });
            (orders, all_done, thread)
        });
        let crew = Self { threads: threads.collect(), budget: resources.budget };
        // What is there once only, is there.
        crew.call(3);
        crew
    }

    /// How long so many calls take, made by every thread.
    fn call(&self, calls: u64) -> Duration {
        let start = Instant::now();
        for (orders, ..) in &self.threads {
            orders.send(calls).expect("the thread waits for orders");
        }
        for (_, done, _) in &self.threads {
            done.recv().expect("the thread answers");
        }
        start.elapsed()
    }

    /// Blocks taken so far that were kept in a pool, and all that were taken of one.
    fn taken(&self) -> (u64, u64) {
        let pools = self.budget.pools().map(|pools| [pools.stdio().counts(), pools.http().counts()]);
        pools
            .into_iter()
            .flatten()
            .fold((0, 0), |(hits, all), counts| (hits + counts.hits, all + counts.hits + counts.misses))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (orders, done, thread) in self.threads.drain(..) {
            drop((orders, done));
            // One that panicked has said so.
            _ = thread.join();
        }
    }
}

/// Prints the table of docs/benchmarks/pool.md.
#[expect(clippy::print_stdout, reason = "a benchmark talks to a person")]
fn summary(rounds: usize, turn: Duration) {
    println!("\n{rounds} turns of each, one after the other; a call is made by every thread at once\n");
    println!(
        "| transport | message | threads | fresh, µs | pooled, µs | pooled / fresh (quartiles) | blocks taken a call | of them kept ones |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for (way, name) in [(Way::Pipe, "pipe"), (Way::Http, "http")] {
        for (size, size_name) in SIZES {
            for threads in THREADS {
                let crews = [false, true].map(|has_pool| Crew::new(way, has_pool, size, threads));
                let once = crews[0].call(10) / 10;
                let calls = (turn.as_nanos() / once.as_nanos().max(1)).clamp(1, 100_000);
                let calls = u64::try_from(calls).unwrap_or(1);
                let (hits_before, taken_before) = crews[1].taken();
                let times: Vec<_> = (0..rounds)
                    .map(|_| crews.each_ref().map(|crew| crew.call(calls).as_secs_f64() * 1e6 / calls as f64))
                    .collect();
                let (hits, taken) = crews[1].taken();
                let (hits, taken) = ((hits - hits_before) as f64, (taken - taken_before) as f64);
                let [_, fresh, _] = spread::quartiles(times.iter().map(|[fresh, _]| *fresh));
                let [_, pooled, _] = spread::quartiles(times.iter().map(|[_, pooled]| *pooled));
                let [low, ratio, high] = spread::quartiles(times.iter().map(|[fresh, pooled]| pooled / fresh));
                let a_call = taken / (calls * rounds as u64 * threads as u64) as f64;
                println!(
                    "| {name} | {} | {threads} | {fresh:.1} | {pooled:.1} | {ratio:.2} ({low:.2}–{high:.2}) | {a_call:.2} | {:.0} % |",
                    size_name.replace('_', " "),
                    hits / taken.max(1.0) * 100.0
                );
            }
        }
    }
}
