//! What a process holds of memory, as the system counts it, and a limit the system holds it to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a process holds now, in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    status(pid, "VmRSS:")
}

/// The most it has held at once.
pub(crate) fn peak(pid: u32) -> usize {
    status(pid, "VmHWM:")
}

/// Lets its peak begin anew. Where that is forbidden, it stays that of all that was.
pub(crate) fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn status(pid: u32, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A group of the system's for one process, in which it is ended when it holds too much. Removed when dropped, which
/// must be after the process's end.
pub(crate) struct Cage(PathBuf);

impl Cage {
    /// A cage of this size around a process. An error where we may not make one, as in most containers.
    pub(crate) fn around(pid: u32, max_bytes: usize) -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, limit) = if root.join("cgroup.controllers").exists() {
            (root.to_owned(), "memory.max")
        } else {
            (root.join("memory"), "memory.limit_in_bytes")
        };
        let cage = Self(parent.join(format!("shadowcat-test-{pid}")));
        fs::create_dir(&cage.0)?;
        fs::write(cage.0.join(limit), max_bytes.to_string())?;
        fs::write(cage.0.join("cgroup.procs"), pid.to_string())?;
        Ok(cage)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // What cannot be removed now cannot be removed by failing either.
        let _ = fs::remove_dir(&self.0);
    }
}
