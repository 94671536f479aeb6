//! Processes as the kernel sees them: what a tree of them used, where it runs, and its end, by id.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{self, Pid, Signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

static STOPPED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Lets SIGINT and SIGTERM end the run in order: what was started is ended.
pub fn stop_on_signals() -> io::Result<()> {
    let flag = STOPPED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

pub fn is_stopped() -> bool {
    STOPPED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// A thousand sessions are some thousands of sockets, here and in what is started.
pub fn raise_file_limit() {
    let mut limit = process::getrlimit(process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = process::setrlimit(process::Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

/// Keeps the calling thread, and what it starts from now on, on one of `cpus()`; on all of them without.
pub fn pin_self(cpu: Option<usize>) -> io::Result<()> {
    let mut set = CpuSet::new();
    match cpu {
        Some(cpu) => set.set(cpu),
        None => cpus().iter().for_each(|cpu| set.set(*cpu)),
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The cores that this may run on; asked for the first time before anything is pinned.
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap_or_default();
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    })
}

/// A process, known by its id and the time it began, so that a reused id is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: u32,
    begun: String,
}

/// `root` and all its descendants.
pub fn tree(root: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some((parent, begun)) = parent_and_begin(pid) else { continue };
        let process = Process { pid, begun };
        if pid == root {
            found.push(process);
        } else {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut at = 0;
    while let Some(process) = found.get(at) {
        let pid = process.pid;
        found.extend(children.remove(&pid).unwrap_or_default());
        at += 1;
    }
    found
}

fn parent_and_begin(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, (*fields.get(19)?).to_owned()))
}

/// Those of `tree` that are not the mock server.
pub fn proxies(tree: &[Process]) -> Vec<Process> {
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    tree.iter().filter(|process| exe(process.pid) != own).cloned().collect()
}

fn exe(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

/// Processor time of each living thread, in nanoseconds.
#[derive(Debug, Default)]
pub struct CpuTimes(HashMap<(u32, String), u64>);

impl CpuTimes {
    pub fn of(processes: &[Process]) -> Self {
        let mut times = HashMap::new();
        for Process { pid, .. } in processes {
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let time = fs::read_to_string(thread.path().join("schedstat")).ok();
                let time = time.and_then(|text| text.split(' ').next()?.parse().ok());
                times.insert((*pid, thread.file_name().to_string_lossy().into_owned()), time.unwrap_or(0));
            }
        }
        Self(times)
    }

    /// What was used since `before`; a thread that ended in between is not counted.
    pub fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(key, time)| time.saturating_sub(before.0.get(key).copied().unwrap_or(0)));
        Duration::from_nanos(used.sum())
    }
}

/// Memory of some processes, in KiB.
#[derive(Debug, Default, Clone, Copy)]
pub struct Memory {
    pub rss: u64,
    /// Pages that several share are counted in parts.
    pub pss: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Memory {
    pub fn of(processes: &[Process]) -> Self {
        let mut sum = Self::default();
        for Process { pid, .. } in processes {
            sum.rss += kib(format!("/proc/{pid}/status"), "VmRSS:");
            sum.peak += kib(format!("/proc/{pid}/status"), "VmHWM:");
            sum.pss += kib(format!("/proc/{pid}/smaps_rollup"), "Pss:");
        }
        sum
    }
}

fn kib(file: impl AsRef<Path>, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or(0)
}

/// How long each way of asking takes at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends what `child` is and all that came of it, by id: asks with SIGTERM, then SIGKILL. The caller gave it a process
/// group of its own. `waits` for what ends when its stdin does, which was closed. Returns how many of its processes
/// were still there after all that, and were killed one by one.
pub fn end(mut child: Child, started: &[Process], waits: bool) -> usize {
    if !waits || !is_over(&mut child, PATIENCE) {
        signal(child.id(), Signal::TERM);
    }
    if !is_over(&mut child, PATIENCE) {
        signal(child.id(), Signal::KILL);
        _ = child.wait();
    }
    let left = wait_for_all(started, PATIENCE);
    for process in &left {
        if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
            _ = process::kill_process(pid, Signal::KILL);
        }
    }
    left.len()
}

fn signal(group: u32, signal: Signal) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        _ = process::kill_process_group(group, signal);
    }
}

fn is_over(child: &mut Child, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Those that are still there when patience is at its end.
fn wait_for_all(processes: &[Process], patience: Duration) -> Vec<Process> {
    let until = Instant::now() + patience;
    loop {
        let alive = |process: &&Process| parent_and_begin(process.pid).is_some_and(|(_, begun)| begun == process.begun);
        let left: HashSet<_> = processes.iter().filter(alive).cloned().collect();
        if left.is_empty() || Instant::now() > until {
            return left.into_iter().collect();
        }
        thread::sleep(Duration::from_millis(5));
    }
}
