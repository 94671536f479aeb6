//! One line of raw data. What is measured is written down at once, so that a run that is cut short is not lost.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::load::{Outcome, Stream};

pub const FILE: &str = "raw.jsonl";

/// Everything that some kind of line has; what is not of its kind is left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// meta, contestant, skipped, latency, throughput, notify, start, sessions, big, end.
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pin: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contestant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    #[serde(skip_serializing_if = "is_default")]
    pub size: usize,
    #[serde(skip_serializing_if = "is_default")]
    pub round: usize,
    /// Calls in flight, or sessions open.
    #[serde(skip_serializing_if = "is_default")]
    pub width: usize,
    #[serde(skip_serializing_if = "is_default")]
    pub sent: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub exact: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub altered: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub wrong: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub errors: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub lost: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub disordered: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub late: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub elapsed_us: f64,
    /// Of all processes of the contestant but the server.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_us: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub p50_us: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub p90_us: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub p95_us: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub p99_us: f64,
    /// Calls by how long they took: bucket `b` holds those up to 1.05^b ns.
    #[serde(skip_serializing_if = "is_default")]
    pub histogram: Vec<(u16, u32)>,
    #[serde(skip_serializing_if = "is_default")]
    pub rss_kib: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub pss_kib: u64,
    /// Resident in the first of its processes.
    #[serde(skip_serializing_if = "is_default")]
    pub root_kib: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub peak_kib: u64,
    /// The same as `pss_kib`, after some calls in every session.
    #[serde(skip_serializing_if = "is_default")]
    pub after_kib: u64,
    /// The same again, once kept connections to the server had time to be given up.
    #[serde(skip_serializing_if = "is_default")]
    pub later_kib: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub processes: usize,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Record {
    pub fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    pub fn with_outcome(mut self, outcome: Outcome, cpu: Duration) -> Self {
        let mut times = outcome.times;
        times.sort_unstable();
        let of_thousand = |part: usize| {
            let at = (times.len() * part).div_ceil(1000).saturating_sub(1);
            times.get(at).map_or(0.0, |time| micros(*time))
        };
        (self.p50_us, self.p90_us) = (of_thousand(500), of_thousand(900));
        (self.p95_us, self.p99_us) = (of_thousand(950), of_thousand(990));
        self.histogram = histogram(&times);
        (self.sent, self.exact, self.altered) = (outcome.sent, outcome.exact, outcome.altered);
        (self.wrong, self.errors, self.lost) = (outcome.wrong, outcome.errors, outcome.lost);
        (self.elapsed_us, self.cpu_us) = (micros(outcome.elapsed), micros(cpu));
        self.text = outcome.failure.unwrap_or_default();
        self
    }

    pub fn with_stream(mut self, stream: Stream, cpu: Duration) -> Self {
        (self.sent, self.exact, self.altered) = (stream.expected, stream.delivered - stream.altered, stream.altered);
        (self.disordered, self.late) = (stream.disordered, stream.late);
        self.lost = stream.expected.saturating_sub(stream.delivered);
        (self.elapsed_us, self.cpu_us) = (micros(stream.elapsed), micros(cpu));
        self.text = stream.failure.unwrap_or_default();
        self
    }
}

pub fn micros(time: Duration) -> f64 {
    // A tenth of a microsecond is finer than any of this.
    (time.as_secs_f64() * 1e7).round() / 10.0
}

const GROWTH: f64 = 1.05;

fn histogram(sorted: &[Duration]) -> Vec<(u16, u32)> {
    let mut buckets: Vec<(u16, u32)> = Vec::new();
    for time in sorted {
        let bucket = (time.as_nanos().max(1) as f64).log(GROWTH).ceil() as u16;
        match buckets.last_mut() {
            Some((last, count)) if *last == bucket => *count += 1,
            _ => buckets.push((bucket, 1)),
        }
    }
    buckets
}

/// The time, in microseconds, within which `part` of all calls of these histograms were answered.
pub fn quantile<'a>(histograms: impl Iterator<Item = &'a Vec<(u16, u32)>>, part: f64) -> Option<f64> {
    let mut all = std::collections::BTreeMap::new();
    for (bucket, count) in histograms.flatten() {
        *all.entry(*bucket).or_insert(0_u64) += u64::from(*count);
    }
    let mut left = (all.values().sum::<u64>() as f64 * part).ceil() as i64;
    for (bucket, count) in all {
        left -= count as i64;
        if left <= 0 {
            return Some(GROWTH.powi(bucket.into()) / 1e3);
        }
    }
    None
}

/// The raw data while it grows.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Begins anew.
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(File::create(folder.join(FILE))?))
    }

    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

pub fn read(folder: &Path) -> io::Result<Vec<Record>> {
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

/// Puts the raw data of the runs in `folders` together, in `into`. Nothing to do if there are none.
pub fn merge(folders: &[PathBuf], into: &Path) -> io::Result<()> {
    if folders.is_empty() {
        return Ok(());
    }
    // All are read before anything is written: one of them may be `into`.
    let runs = folders.iter().map(|folder| read(folder)).collect::<io::Result<Vec<_>>>()?;
    let mut journal = Journal::new(into)?;
    merged(runs).iter().try_for_each(|record| journal.write(record))
}

/// The raw data of several runs as if they had been one: rounds follow rounds, and of what is measured once the last
/// run that did counts.
pub fn merged(runs: impl IntoIterator<Item = Vec<Record>>) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    for run in runs {
        let rounds_before = all.iter().filter(|record| record.is_of_a_round()).map(|record| record.round).max();
        let rounds_before = rounds_before.unwrap_or(0);
        let again = |old: &Record| run.iter().any(|new| old.is_superseded_by(new));
        all.retain(|old| !again(old));
        all.extend(run.into_iter().map(|mut record| {
            if record.is_of_a_round() {
                record.round += rounds_before;
            }
            record
        }));
    }
    all
}

impl Record {
    fn is_of_a_round(&self) -> bool {
        matches!(self.kind.as_str(), "latency" | "throughput" | "notify") || self.kind.starts_with("real-")
    }

    fn is_superseded_by(&self, new: &Self) -> bool {
        let is_once = matches!(self.kind.as_str(), "contestant" | "skipped" | "start" | "sessions" | "big");
        // Who was missing before may be here now.
        let is_same = self.kind == new.kind || (self.kind == "skipped" && new.kind == "contestant");
        is_once && is_same && (&self.contestant, &self.link) == (&new.contestant, &new.link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_several_runs_follow_each_other_and_the_last_word_counts_for_the_rest() {
        let record = |kind: &str, contestant: &str, round, elapsed_us| Record {
            contestant: contestant.to_owned(),
            round,
            elapsed_us,
            ..Record::new(kind)
        };
        let first = vec![
            record("skipped", "nginx", 0, 0.0),
            record("latency", "shadowcat", 1, 1.0),
            record("latency", "shadowcat", 2, 2.0),
            record("start", "shadowcat", 1, 3.0),
            record("start", "shadowcat", 2, 4.0),
            record("start", "cat", 1, 5.0),
        ];
        let second = vec![
            record("contestant", "nginx", 0, 0.0),
            record("latency", "shadowcat", 1, 6.0),
            record("start", "shadowcat", 1, 7.0),
        ];
        let found: Vec<_> =
            merged([first, second]).into_iter().map(|record| (record.kind, record.round, record.elapsed_us)).collect();
        let expected = [
            ("latency", 1, 1.0),
            ("latency", 2, 2.0),
            ("start", 1, 5.0),
            ("contestant", 0, 0.0),
            ("latency", 3, 6.0),
            ("start", 1, 7.0),
        ];
        assert_eq!(found, expected.map(|(kind, round, elapsed)| (kind.to_owned(), round, elapsed)));
    }

    #[test]
    fn quantiles_of_histograms_are_near_the_exact_ones() {
        let times: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let buckets = histogram(&times);
        for (part, exact) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = quantile([&buckets].into_iter(), part).unwrap();
            assert!((exact..exact * 1.06).contains(&found), "{part}: {found} for {exact}");
        }
    }
}
