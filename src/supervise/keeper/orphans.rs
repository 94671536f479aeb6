//! What is left when the keeper itself was killed: processes whose parent is gone, and who ends them then.
//!
//! A program that [adopts](adopt_orphans) is a subreaper, so they become its children. It must not take another keeper
//! for one of them, which is why all keepers of this process are on a list: under a lock that is held for a look and a
//! signal, and while one is started, so that none is met before it is known.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

use super::{ChildId, descent};
use crate::clock;

/// Makes this process the parent of what a keeper that was killed leaves behind, so that [`finish`] can end
/// it. Only for a program that starts nothing but keepers: whatever else it has for children is ended then, too.
///
/// [`finish`]: super::Keeper::finish
///
/// # Errors
///
/// If the system refuses. Where there is no such thing, nothing happens.
pub fn adopt_orphans() -> io::Result<()> {
    become_subreaper()?;
    ADOPTS.store(true, Ordering::Relaxed);
    Ok(())
}

/// The keeper is gone and with it, by its parent-death signal, the child; what the child started may not be.
/// Its group keeps the child's number from meaning anything else as long as somebody is in it.
#[cold]
pub(super) fn kill_group(child: ChildId) {
    if let Some(group) = Pid::from_raw(child.0.cast_signed()) {
        // If nobody is in it there is nothing to end.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The keeper was killed, and what it had is ours now, if we adopt: whatever child we have that is no keeper.
#[cold]
pub(super) fn end_if_ours(term: Duration) {
    if !ADOPTS.load(Ordering::Relaxed) {
        return;
    }
    let due = clock::now() + term + ORPHAN_TIME;
    loop {
        let keepers = keepers();
        let mut orphans = descent::direct_children();
        orphans.retain(|orphan| !keepers.contains(&orphan.pid.cast_unsigned()));
        if orphans.is_empty() || clock::now() > due {
            return;
        }
        for orphan in orphans {
            descent::signal(orphan, Signal::KILL);
            let reaped = Pid::from_raw(orphan.pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
            tracing::debug!(pid = orphan.pid, ?reaped, "ended what a lost keeper had left");
        }
        drop(keepers);
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Elsewhere an orphaned grandchild goes to init, and only its group can be ended.
#[cfg(not(target_os = "linux"))]
pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(())
}

pub(super) fn keepers() -> MutexGuard<'static, Vec<u32>> {
    // Nothing that could panic runs under the lock.
    KEEPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A keeper was reaped, so its id may mean another process.
pub(super) fn forget(keeper: u32) {
    keepers().retain(|&known| known != keeper);
}

/// The keepers of this process that were not reaped yet. Held for a look and a signal, never across an await.
static KEEPERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Whether whatever child we have, beside keepers, is an orphan of one.
static ADOPTS: AtomicBool = AtomicBool::new(false);

/// How long the system may take to end what got KILL.
const ORPHAN_TIME: Duration = Duration::from_secs(2);
