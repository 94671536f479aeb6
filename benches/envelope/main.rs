//! What an envelope costs, ours and others': `cargo bench --bench envelope`.
//!
//! Criterion measures our ways (and a filter may be given: `envelope/100_B_mix`); without a filter, every way is then
//! measured on every load in interleaved rounds, and a table of ns, GB/s, allocations and ratios is printed. `-- table` prints the table only,
//! `-- table LOAD WAY` those whose names contain the words. `-- profile LOAD WAY [PASSES]` runs one way, named in
//! full, over one load and nothing else, for `valgrind --tool=callgrind --toggle-collect='*profile_pass*'`.
//!
//! sonic-rs is here for its speed only: on deep nesting it aborts the process (no depth guard), so it
//! cannot stand before peers one does not trust.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark prints and reads the clock"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};

mod loads;
mod ways;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One load as every way wants it.
struct Prepared {
    name: &'static str,
    frames: Vec<(Vec<u8>, usize)>,
    bytes: usize,
}

/// What one way costs on one load.
#[derive(Clone, Copy)]
struct Cost {
    nanos: f64,
    allocations: f64,
}

fn main() {
    let prepared: Vec<Prepared> = loads::all()
        .into_iter()
        .map(|load| Prepared {
            name: load.name,
            bytes: load.frames.iter().map(Vec::len).sum::<usize>() / load.frames.len(),
            frames: load.frames.iter().map(|frame| (ways::padded(frame), frame.len())).collect(),
        })
        .collect();
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "profile") {
        profile(prepared, args.get(at + 1..).unwrap_or_default());
        return;
    }
    if !args.iter().any(|arg| arg == "table") {
        criterion(&prepared);
    }
    let is_filtered = args.iter().skip(1).find(|arg| !arg.starts_with('-')).is_some_and(|arg| arg != "table");
    if !is_filtered && !args.iter().any(|arg| arg == "--test" || arg == "--list") {
        let filters = args.iter().skip_while(|arg| *arg != "table").skip(1).filter(|arg| !arg.starts_with("--"));
        table(prepared, &filters.collect::<Vec<_>>());
    }
}

fn criterion(prepared: &[Prepared]) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(20)
        .without_plots()
        .configure_from_args();
    for load in prepared {
        let mut group = criterion.benchmark_group(format!("envelope/{}", load.name.replace(' ', "_")));
        group.throughput(Throughput::Bytes(load.bytes as u64));
        for mut way in ways::all().into_iter().filter(|way| way.name.starts_with("ours")) {
            let mut frames = load.frames.clone();
            let mut next = 0;
            group.bench_function(way.name.replace(' ', "_"), |bencher| {
                bencher.iter(|| {
                    next = (next + 1) % frames.len();
                    frames.get_mut(next).map(|(bytes, len)| (way.run)(black_box(bytes), *len))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Some passes of one way over one load, to have their instructions counted. The first pass, which allocates and
/// asks what the processor can do, is not among them.
fn profile(prepared: Vec<Prepared>, names: &[String]) {
    let [wanted_load, wanted_way, passes @ ..] = names else { return };
    let Some(mut load) = prepared.into_iter().find(|load| load.name == wanted_load) else { return };
    let Some(mut way) = ways::all().into_iter().find(|way| way.name == wanted_way) else { return };
    let passes = passes.first().and_then(|passes| passes.parse().ok()).unwrap_or(1);
    for (bytes, len) in &mut load.frames {
        black_box((way.run)(bytes, *len));
    }
    (0..passes).for_each(|_| profile_pass(&mut load, &mut way));
    println!("{} messages of {} bytes, {passes} times", load.frames.len(), load.bytes);
}

#[inline(never)]
fn profile_pass(load: &mut Prepared, way: &mut ways::Way) {
    for (bytes, len) in &mut load.frames {
        black_box((way.run)(black_box(bytes), *len));
    }
}

/// Every way on every load: the second smallest of some interleaved rounds.
fn table(prepared: Vec<Prepared>, filters: &[&String]) {
    let (wanted_load, wanted_way) = (filters.first(), filters.get(1));
    for mut load in prepared {
        if wanted_load.is_some_and(|wanted| !load.name.contains(wanted.as_str())) {
            continue;
        }
        let mut ways = ways::all();
        check(&mut load, &mut ways);
        ways.retain(|way| wanted_way.is_none_or(|wanted| way.name.contains(wanted.as_str())));
        let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        let mut allocations = vec![0.0; ways.len()];
        for _ in 0..ROUNDS {
            for ((way, nanos), allocated) in ways.iter_mut().zip(&mut rounds).zip(&mut allocations) {
                let cost = round(&mut load, way);
                nanos.push(cost.nanos);
                *allocated = cost.allocations;
            }
        }
        let costs: Vec<Cost> = rounds
            .into_iter()
            .zip(allocations)
            .map(|(mut nanos, allocations)| {
                nanos.sort_by(f64::total_cmp);
                Cost { nanos: nanos.get(1).copied().unwrap_or_default(), allocations }
            })
            .collect();
        print(&load, &ways, &costs);
    }
}

/// Ways that find members must find the same ones.
fn check(load: &mut Prepared, ways: &mut [ways::Way]) {
    for (bytes, len) in &mut load.frames {
        let before = bytes.clone();
        let digests: Vec<(&str, u64)> = ways
            .iter_mut()
            .filter(|way| way.finds && !way.name.contains("typed"))
            .map(|way| (way.name, (way.run)(bytes, *len)))
            .collect();
        assert_eq!(before, *bytes, "a frame was changed");
        assert!(
            digests.iter().all(|&(_, digest)| digest == digests.first().map_or(0, |first| first.1)),
            "{}: {digests:?}",
            load.name
        );
    }
}

/// Runs through the pool until enough time has passed.
fn round(load: &mut Prepared, way: &mut ways::Way) -> Cost {
    let mut run = |count: usize| {
        let (allocated, started) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
        for _ in 0..count {
            for (bytes, len) in &mut load.frames {
                black_box((way.run)(black_box(bytes), *len));
            }
        }
        (started.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - allocated)
    };
    let mut count = 1;
    loop {
        let (elapsed, allocated) = run(count);
        if elapsed >= ROUND {
            #[expect(clippy::cast_precision_loss, reason = "a measurement")]
            let messages = (count * load.frames.len()) as f64;
            #[expect(clippy::cast_precision_loss, reason = "a measurement")]
            return Cost { nanos: elapsed.as_nanos() as f64 / messages, allocations: allocated as f64 / messages };
        }
        count *= 2;
    }
}

fn print(load: &Prepared, ways: &[ways::Way], costs: &[Cost]) {
    let base = costs.first().map_or(1.0, |cost| cost.nanos);
    println!("\n### {} ({} B)\n", load.name, load.bytes);
    println!("| way | ns | GB/s | allocations | times two-pass RawValue |\n|---|---:|---:|---:|---:|");
    for (way, cost) in ways.iter().zip(costs) {
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let speed = load.bytes as f64 / cost.nanos;
        println!(
            "| {} | {:.0} | {speed:.2} | {:.1} | {:.1}x |",
            way.name,
            cost.nanos,
            cost.allocations,
            base / cost.nanos
        );
    }
}

const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(3);
