//! `cargo bench -p shadowcat-codecs --bench pool`: a block of the pool beside a fresh one, alone and contended.
//!
//! Each turn takes a block, writes a message to it, and gives it back: dropped as it is, or frozen and dropped as
//! bytes. With four threads all of them share one pool, and the allocator as well. Groups `pool/…`; without a filter, a
//! table of ratios, both ways in turns.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints and reads the clock, and one that cannot go on should stop"
)]

#[path = "../../benches/support/spread.rs"]
mod spread;

use std::{
    env,
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion};
use shadowcat_codecs::pool::{BufferPool, Pooled};

/// A block's length, and of what is written to it.
const LOADS: [(usize, usize, &str); 3] = [
    (8 << 10, 100, "8_KiB_block_100_B"),
    (8 << 10, 8 << 10, "8_KiB_block_8_KiB"),
    (32 << 10, 32 << 10, "32_KiB_block_32_KiB"),
];
const THREADS: [usize; 2] = [1, 4];

/// Where a block of so many bytes comes from.
type Take = fn(&BufferPool, usize) -> Pooled;
/// How it is given back.
type Give = fn(Pooled);
type Way = (&'static str, Take, Give);

const WAYS: [Way; 4] = [
    ("malloc", fresh, drop),
    ("pool", |pool, len| pool.take(len, 2 * len), drop),
    ("malloc_frozen", fresh, |block| drop(block.freeze())),
    ("pool_frozen", |pool, len| pool.take(len, 2 * len), |block| drop(block.freeze())),
];

fn fresh(_: &BufferPool, len: usize) -> Pooled {
    Pooled::without_pool(BytesMut::with_capacity(len))
}

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    if filter.is_none_or(|filter| filter != "summary") {
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400))
            .sample_size(10)
            .configure_from_args();
        alone(&mut criterion);
        criterion.final_summary();
    }
    if filter.is_none_or(|filter| "pool/summary".contains(filter.as_str())) && !has("--list") {
        if has("--test") { summary(1, 10) } else { summary(31, 20_000) }
    }
}

fn alone(criterion: &mut Criterion) {
    for (block, written, load) in LOADS {
        let mut group = criterion.benchmark_group(format!("pool/{load}"));
        for (name, take, give) in WAYS {
            for threads in THREADS {
                group.bench_function(BenchmarkId::new(name, format!("{threads}_threads")), |bencher| {
                    bencher.iter_custom(|turns| turns_of(threads, turns, (block, written), (take, give)));
                });
            }
        }
        group.finish();
    }
}

/// How long so many turns take, made by each thread at once.
fn turns_of(threads: usize, turns: u64, (block, written): (usize, usize), (take, give): (Take, Give)) -> Duration {
    let (pool, ready, text) = (BufferPool::new(block), Barrier::new(threads), vec![b'x'; written]);
    let times = thread::scope(|scope| {
        let one = || {
            // The first of them makes what the others find.
            give(take(&pool, block));
            ready.wait();
            let start = Instant::now();
            for _ in 0..turns {
                let mut block = take(&pool, block);
                block.extend_from_slice(black_box(&text));
                give(black_box(block));
            }
            start.elapsed()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    times.into_iter().max().unwrap_or_default()
}

fn summary(rounds: usize, turns: u64) {
    println!("\nns to take a block, write to it and give it back; {rounds} turns of each, one after the other\n");
    println!("| block and message | threads | given back | malloc | pool | pool / malloc (quartiles) |");
    println!("|---|---:|---|---:|---:|---:|");
    for (block, written, load) in LOADS {
        for threads in THREADS {
            for (given_back, ways) in [("dropped", [WAYS[0], WAYS[1]]), ("frozen", [WAYS[2], WAYS[3]])] {
                let turns = if written > 1000 { turns / 4 + 1 } else { turns };
                let times: Vec<_> = (0..rounds)
                    .map(|_| {
                        ways.map(|(_, take, give)| {
                            nanos(turns_of(threads, turns, (block, written), (take, give)), turns)
                        })
                    })
                    .collect();
                let [_, malloc, _] = spread::quartiles(times.iter().map(|[malloc, _]| *malloc));
                let [_, pool, _] = spread::quartiles(times.iter().map(|[_, pool]| *pool));
                let [low, ratio, high] = spread::quartiles(times.iter().map(|[malloc, pool]| pool / malloc));
                println!(
                    "| {} | {threads} | {given_back} | {malloc:.0} | {pool:.0} | {ratio:.2} ({low:.2}–{high:.2}) |",
                    load.replace('_', " ").replace("block", "block,")
                );
            }
        }
    }
}

fn nanos(time: Duration, turns: u64) -> f64 {
    time.as_nanos() as f64 / turns as f64
}
