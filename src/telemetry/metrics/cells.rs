//! Where counts are kept: a row of atomics for each family, one for each combination of its labels.
//!
//! Every change is one relaxed addition (a histogram's: two). Reading sees each number as it is at some moment
//! during the scrape, not all at the same one.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    labels::Labels,
    text::{Samples, Unit},
};

/// A family, whatever it consists of.
pub(super) trait Family {
    /// Its type, as it is exposed.
    const TYPE: &'static str;

    fn write(&self, samples: &mut Samples<'_>);
}

/// Numbers that only grow.
#[derive(Debug)]
pub struct Counter<L = ()> {
    cells: Box<[AtomicU64]>,
    labels: PhantomData<L>,
}

/// Numbers that go up and down.
#[derive(Debug)]
pub struct Gauge<L = ()> {
    cells: Box<[AtomicI64]>,
    labels: PhantomData<L>,
}

/// Times, counted by how long they were.
#[derive(Debug)]
pub struct Histogram<L = ()> {
    /// [`BOUNDS`] and one for what is longer, for each combination.
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds.
    sums: Box<[AtomicU64]>,
    labels: PhantomData<L>,
}

/// Time that adds up.
#[derive(Debug)]
pub struct Elapsed<L = ()> {
    nanos: Box<[AtomicU64]>,
    labels: PhantomData<L>,
}

/// Times on their way into a [`Histogram`], where nobody else adds: the histogram is touched once for all of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    buckets: [u32; BUCKETS],
    nanos: u64,
    is_used: bool,
}

/// A number that only grows, in seconds. Set as a whole from what the system says.
#[derive(Debug)]
pub struct Seconds<const IS_COUNTER: bool> {
    nanos: AtomicU64,
}

impl<L: Labels> Counter<L> {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, labels: L, count: u64) {
        if let Some(cell) = self.cells.get(labels.index()) {
            cell.fetch_add(count, Relaxed);
        }
    }

    /// Sets the count, for what is counted elsewhere.
    pub fn set(&self, labels: L, count: u64) {
        if let Some(cell) = self.cells.get(labels.index()) {
            cell.store(count, Relaxed);
        }
    }

    /// The count so far.
    #[must_use]
    pub fn of(&self, labels: L) -> u64 {
        self.cells.get(labels.index()).map_or(0, |cell| cell.load(Relaxed))
    }
}

impl<L: Labels> Gauge<L> {
    /// Adds `change`, which may be negative.
    #[inline]
    pub fn add(&self, labels: L, change: i64) {
        if let Some(cell) = self.cells.get(labels.index()) {
            cell.fetch_add(change, Relaxed);
        }
    }

    /// Sets the number, for what is counted elsewhere.
    pub fn set(&self, labels: L, number: usize) {
        if let Some(cell) = self.cells.get(labels.index()) {
            cell.store(i64::try_from(number).unwrap_or(i64::MAX), Relaxed);
        }
    }

    /// The number now.
    #[must_use]
    pub fn of(&self, labels: L) -> i64 {
        self.cells.get(labels.index()).map_or(0, |cell| cell.load(Relaxed))
    }
}

impl<L: Labels> Elapsed<L> {
    /// Adds `time`.
    pub fn add(&self, labels: L, time: Duration) {
        if let Some(cell) = self.nanos.get(labels.index()) {
            cell.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// The time so far.
    #[must_use]
    pub fn of(&self, labels: L) -> Duration {
        self.nanos.get(labels.index()).map_or(Duration::ZERO, |cell| Duration::from_nanos(cell.load(Relaxed)))
    }
}

impl<L: Labels> Histogram<L> {
    /// Counts `count` things that took `time` each.
    #[inline]
    pub fn observe(&self, labels: L, time: Duration, count: u64) {
        let (nanos, bucket) = nanos_and_bucket(time);
        let index = labels.index();
        if let (Some(cell), Some(sum)) = (self.buckets.get(index * BUCKETS + bucket), self.sums.get(index)) {
            cell.fetch_add(count, Relaxed);
            sum.fetch_add(nanos.saturating_mul(count), Relaxed);
        }
    }

    /// Counts what `tally` holds, and empties it.
    pub(super) fn add_up(&self, labels: L, tally: &mut Tally) {
        let Tally { buckets, nanos, .. } = std::mem::take(tally);
        let index = labels.index();
        for (cell, count) in self.buckets.iter().skip(index * BUCKETS).zip(buckets) {
            if count > 0 {
                cell.fetch_add(count.into(), Relaxed);
            }
        }
        if let Some(sum) = self.sums.get(index) {
            sum.fetch_add(nanos, Relaxed);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self, labels: L) -> u64 {
        let start = labels.index() * BUCKETS;
        self.buckets.iter().skip(start).take(BUCKETS).map(|cell| cell.load(Relaxed)).sum()
    }
}

impl Tally {
    #[inline]
    pub(super) fn note(&mut self, time: Duration) {
        let (nanos, bucket) = nanos_and_bucket(time);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.nanos = self.nanos.saturating_add(nanos);
        self.is_used = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_used
    }
}

fn nanos_and_bucket(time: Duration) -> (u64, usize) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (nanos, BOUNDS.partition_point(|&bound| bound < nanos))
}

impl<const IS_COUNTER: bool> Seconds<IS_COUNTER> {
    pub(crate) fn set(&self, time: Duration) {
        self.nanos.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl<L: Labels> Family for Counter<L> {
    const TYPE: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        L::each(samples.links(), &mut |index, pairs| {
            let cell = self.cells.get(index).map_or(0, |cell| cell.load(Relaxed));
            samples.sample("", pairs, &cell);
        });
    }
}

impl<L: Labels> Family for Gauge<L> {
    const TYPE: &'static str = "gauge";

    fn write(&self, samples: &mut Samples<'_>) {
        L::each(samples.links(), &mut |index, pairs| {
            let cell = self.cells.get(index).map_or(0, |cell| cell.load(Relaxed));
            samples.sample("", pairs, &cell);
        });
    }
}

impl<L: Labels> Family for Histogram<L> {
    const TYPE: &'static str = "histogram";

    fn write(&self, samples: &mut Samples<'_>) {
        L::each(samples.links(), &mut |index, pairs| {
            let mut total = 0;
            let buckets = self.buckets.iter().skip(index * BUCKETS).take(BUCKETS);
            for (bucket, bound) in buckets.zip(BOUNDS.iter().map(Some).chain([None])) {
                total += bucket.load(Relaxed);
                samples.bucket(pairs, bound.map(|&nanos| Unit::Nanos(nanos)), total);
            }
            let sum = self.sums.get(index).map_or(0, |sum| sum.load(Relaxed));
            samples.sample("_sum", pairs, &Unit::Nanos(sum));
            samples.sample("_count", pairs, &total);
        });
    }
}

impl<L: Labels> Family for Elapsed<L> {
    const TYPE: &'static str = "counter";

    fn write(&self, samples: &mut Samples<'_>) {
        L::each(samples.links(), &mut |index, pairs| {
            let nanos = self.nanos.get(index).map_or(0, |cell| cell.load(Relaxed));
            samples.sample("", pairs, &Unit::Nanos(nanos));
        });
    }
}

impl<const IS_COUNTER: bool> Family for Seconds<IS_COUNTER> {
    const TYPE: &'static str = if IS_COUNTER { "counter" } else { "gauge" };

    fn write(&self, samples: &mut Samples<'_>) {
        samples.sample("", &[], &Unit::Nanos(self.nanos.load(Relaxed)));
    }
}

impl<L: Labels> Default for Counter<L> {
    fn default() -> Self {
        Self { cells: (0..L::COUNT).map(|_| AtomicU64::default()).collect(), labels: PhantomData }
    }
}

impl<L: Labels> Default for Gauge<L> {
    fn default() -> Self {
        Self { cells: (0..L::COUNT).map(|_| AtomicI64::default()).collect(), labels: PhantomData }
    }
}

impl<L: Labels> Default for Histogram<L> {
    fn default() -> Self {
        let row = |len| (0..len).map(|_| AtomicU64::default()).collect();
        Self { buckets: row(L::COUNT * BUCKETS), sums: row(L::COUNT), labels: PhantomData }
    }
}

impl<L: Labels> Default for Elapsed<L> {
    fn default() -> Self {
        Self { nanos: (0..L::COUNT).map(|_| AtomicU64::default()).collect(), labels: PhantomData }
    }
}

impl<const IS_COUNTER: bool> Default for Seconds<IS_COUNTER> {
    fn default() -> Self {
        Self { nanos: AtomicU64::default() }
    }
}

/// The upper bounds of a histogram's buckets, in nanoseconds: from what a proxy takes to what a tool may.
const BOUNDS: [u64; 19] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;
