//! Which processes descend from us, as `/proc` tells. Empty where there is no such thing.

use std::{fs, io::ErrorKind};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A process whose parent we are. Its ids cannot mean another as long as we do not reap it.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectChild {
    pub(super) pid: i32,
    pub(super) group: i32,
}

/// All processes whose parent we are.
///
/// The list of the system's own may lack some when one of them ends while it is read; so it is read until it has
/// said the same twice.
pub(super) fn direct_children() -> Vec<DirectChild> {
    let Some(mut last) = listed() else { return looked_for() };
    for _ in 0..MAX_READS {
        match listed() {
            Some(now) if now == last => break,
            Some(now) => last = now,
            None => return looked_for(),
        }
    }
    last.into_iter().filter_map(|pid| Some(DirectChild { pid, group: parent_and_group_of(pid)?.1 })).collect()
}

/// How many processes beyond `expected` have `parent` for one, which has one thread. Zombies are left out, but only
/// looked for where there are more than expected. `None` where nobody can tell.
pub(super) fn count_beyond(parent: u32, expected: usize) -> Option<usize> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    if listed.split_ascii_whitespace().count() <= expected {
        return Some(0);
    }
    let runs = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !is_zombie(&stat));
    Some(listed.split_ascii_whitespace().filter(runs).count().saturating_sub(expected))
}

/// To the process, and to its group if it leads one.
pub(super) fn signal(child: DirectChild, signal: Signal) {
    let Some(pid) = Pid::from_raw(child.pid) else { return };
    let _ = kill_process(pid, signal);
    if child.group == child.pid {
        let _ = kill_process_group(pid, signal);
    }
}

/// Whether the process was started with this in its environment. One that cannot be asked was not.
pub(super) fn has_in_environment(pid: i32, entry: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|found| found == entry.as_bytes())
}

/// What the system lists as children of our threads; `None` if it keeps no such list.
fn listed() -> Option<Vec<i32>> {
    let mut pids = Vec::new();
    for thread in fs::read_dir("/proc/self/task").ok()? {
        match fs::read_to_string(thread.ok()?.path().join("children")) {
            Ok(children) => pids.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // The thread has ended, and its children have another of us as parent.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(_) => return None,
        }
    }
    pids.sort_unstable();
    Some(pids)
}

/// The same from every process there is.
fn looked_for() -> Vec<DirectChild> {
    let us = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let (parent, group) = parent_and_group_of(pid)?;
            (parent == us).then_some(DirectChild { pid, group })
        })
        .collect()
}

fn parent_and_group_of(pid: i32) -> Option<(i32, i32)> {
    parent_and_group(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 4 and 5 of `/proc/PID/stat`. The second field is a name in brackets that may hold anything.
fn parent_and_group(stat: &str) -> Option<(i32, i32)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Field 3: it has ended, and nobody has reaped it yet.
fn is_zombie(stat: &str) -> bool {
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}

/// More than a list that keeps changing is worth; whoever is missed is found at the next look.
const MAX_READS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        assert_eq!(parent_and_group("7 (a) b) (c)) S 3 4 5 0"), Some((3, 4)));
        assert_eq!(parent_and_group("7 (sh) R 1 1"), Some((1, 1)));
        assert_eq!(parent_and_group("7 (sh"), None);
        assert!(is_zombie("7 (S) Z 1 1") && !is_zombie("7 (Z) S 1 1"));
    }

    #[test]
    fn our_own_stat_is_found() {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        let (parent, _) = parent_and_group_of(us).unwrap();
        assert_eq!(parent.cast_unsigned(), std::os::unix::process::parent_id());
    }

    #[test]
    fn both_ways_of_looking_find_a_child() {
        let mut child = std::process::Command::new("sleep").arg("1000").env("MARK", "of mine").spawn().unwrap();
        let pid = child.id().cast_signed();
        for found in [direct_children(), looked_for()] {
            assert!(found.iter().any(|child| child.pid == pid), "{found:?}");
        }
        // `fork` and `exec` are two steps; what is looked for here is known after the second.
        while !has_in_environment(pid, "MARK=of mine") {
            std::thread::yield_now();
        }
        assert!(!has_in_environment(pid, "MARK=of"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!direct_children().iter().any(|child| child.pid == pid));
    }
}
