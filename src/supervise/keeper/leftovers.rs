//! What a child left behind when it ended: its process group, and what has left that but carries its mark. It is
//! ended with the session that the child was for, not only with the proxy.
//!
//! Nobody is signalled but our direct children, because only their ids are certain; what those have started
//! becomes our direct child when they end.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::descent::{DirectChild, direct_children, has_in_environment, signal};

/// What the children that have ended left behind.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    families: Vec<Family>,
}

/// What one child left behind.
#[derive(Debug)]
struct Family {
    group: i32,
    /// An entry of the environment that was the child's alone.
    mark: String,
    /// When TERM is due: the child's own pipes are read out until then.
    term_due: Instant,
    kill_due: Instant,
    termed: HashSet<i32>,
}

impl Leftovers {
    /// A child that leads `group` has ended, and is reaped.
    pub(super) fn note(&mut self, group: i32, mark: String, term: Duration, now: Instant) {
        let term_due = now + LINGER;
        self.families.push(Family { group, mark, term_due, kill_due: term_due + term, termed: HashSet::new() });
    }

    /// Ends what is due, and forgets whom nobody is left of. `runs` are the children that have not ended.
    pub(super) fn look(&mut self, runs: impl Fn(i32) -> bool, now: Instant) {
        if self.families.is_empty() {
            return;
        }
        let orphans: Vec<DirectChild> = direct_children().into_iter().filter(|child| !runs(child.pid)).collect();
        self.families.retain_mut(|family| family.look(&orphans, now));
    }

    /// How long it is until the next look, if there is to be one.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        let until = |family: &Family| family.term_due.saturating_duration_since(now).max(LOOK_AGAIN);
        self.families.iter().map(until).min()
    }
}

impl Family {
    /// `false`: nobody is left.
    fn look(&mut self, orphans: &[DirectChild], now: Instant) -> bool {
        let mut is_left = false;
        for &orphan in orphans {
            if orphan.group != self.group && !has_in_environment(orphan.pid, &self.mark) {
                continue;
            }
            is_left = true;
            if now >= self.kill_due {
                signal(orphan, Signal::KILL);
            } else if now >= self.term_due && self.termed.insert(orphan.pid) {
                signal(orphan, Signal::TERM);
            }
        }
        is_left
    }
}

/// How long what a child wrote before it ended may still be on its way, through a process it left behind. As long
/// as links wait for the end of its stdout.
const LINGER: Duration = Duration::from_secs(1);

/// How often to look again while there is somebody.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
