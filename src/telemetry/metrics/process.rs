//! What the system says of this process, and the runtime of its tasks. Linux says it in `/proc`; elsewhere that stays 0.

use std::{fs, time::Duration};

use tokio::runtime::Handle;

use super::Metrics;

/// Notes everything there is to know now.
pub(super) fn look(metrics: &Metrics) {
    if let Ok(runtime) = Handle::try_current() {
        metrics.tasks.set((), runtime.metrics().num_alive_tasks());
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        // One of them is ours, for the looking.
        metrics.open_fds.set((), fds.count().saturating_sub(1));
    }
    if let Some(limit) = descriptor_limit() {
        metrics.max_fds.set((), limit);
    }
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        metrics.cpu.set(ticks(stat.user + stat.system));
        metrics.threads.set((), stat.threads);
        metrics.virtual_memory.set((), stat.virtual_len);
        metrics.resident.set((), stat.resident_pages * page_len());
        if let Some(boot) = boot_time() {
            metrics.start_time.set(boot + ticks(stat.started));
        }
    }
}

/// What is of interest in `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    user: u64,
    system: u64,
    threads: usize,
    started: u64,
    virtual_len: usize,
    resident_pages: usize,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; the third field is the first one behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            user: number(14)?,
            system: number(15)?,
            threads: usize::try_from(number(20)?).ok()?,
            started: number(22)?,
            virtual_len: usize::try_from(number(23)?).ok()?,
            resident_pages: usize::try_from(number(24)?).ok()?,
        })
    }
}

/// When the system started, since 1970.
fn boot_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    boot.trim().parse().ok().map(Duration::from_secs)
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / ticks_per_second())
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    100
}

#[cfg(target_os = "linux")]
fn page_len() -> usize {
    rustix::param::page_size()
}

#[cfg(not(target_os = "linux"))]
fn page_len() -> usize {
    0
}

#[cfg(unix)]
fn descriptor_limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    usize::try_from(limit.current?).ok()
}

#[cfg(not(unix))]
fn descriptor_limit() -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let fields: Vec<String> = (3..=30).map(|field| field.to_string()).collect();
        let stat = Stat::parse(&format!("7 (a) b) {}", fields.join(" "))).unwrap();
        assert_eq!((stat.user, stat.system, stat.threads), (14, 15, 20));
        assert_eq!((stat.started, stat.virtual_len, stat.resident_pages), (22, 23, 24));
    }

    #[test]
    fn process_is_seen() {
        let metrics = Metrics::default();
        look(&metrics);
        assert!(metrics.resident.of(()) > 1 << 20 && metrics.open_fds.of(()) >= 3 && metrics.threads.of(()) >= 1);
        assert!(metrics.max_fds.of(()) >= metrics.open_fds.of(()));
    }
}
