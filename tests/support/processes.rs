//! What runs on this machine because of a test, and waiting for it to run no more.

use std::{fs, thread, time::Duration};

use shadowcat::clock;

use super::DEADLINE;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Its command line, with spaces between the words.
    pub(crate) words: String,
}

/// All processes that carry `mark` in the environment they were started with. Empty where there is no `/proc`.
pub(crate) fn processes(mark: &str) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            environment.windows(mark.len()).any(|bytes| bytes == mark.as_bytes()).then_some(())?;
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
            Some(Process { pid, words })
        })
        .collect()
}

/// Awaits what no event tells of: looks again and again, but not for ever.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = clock::now();
    while !is_so() {
        assert!(clock::now() - start < DEADLINE, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
