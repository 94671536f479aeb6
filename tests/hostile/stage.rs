//! Where a table of hostile rows runs: one proxy for the whole table, a well-behaved neighbour beside every row, and
//! what the proxy may hold of memory and descriptors meanwhile.
//!
//! What a row does and what is to come of it stands in the tables; nothing here knows a protocol.

use std::{
    fs,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    meter::{peak, reset_peak, resident},
    support::{Ended, Session, eventually},
};

/// What every proxy here is started with: a small limit, so that what is beyond it is quick to write, and a log in
/// which only our own faults show.
pub(crate) const OPTIONS: [&str; 4] = ["--max-frame-len", "1MiB", "--log-level", "error"];

/// The limit on one message that the tables are written for.
pub(crate) const MAX_FRAME_LEN: usize = 1 << 20;

/// Most memory that one row may cost the proxy, with its neighbour: a frame of the maximum on its way in and out,
/// what the system's allocator keeps of it, and the fixed buffers of a few connections.
pub(crate) const MOST: usize = 12 << 20;

/// One table's proxy.
pub(crate) struct Stage {
    session: Session,
    neighbour: Option<Neighbour>,
    resident: usize,
    descriptors: usize,
    /// Most memory that a row may cost.
    most: usize,
    complaints: Vec<String>,
}

/// Somebody who only does what is right, and must not notice what goes on beside him.
struct Neighbour {
    calls: Arc<AtomicUsize>,
    leaves: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stage {
    /// `call` is one call of the neighbour's, which fails by panicking.
    pub(crate) fn new(session: Session, call: impl FnMut() + Send + 'static) -> Self {
        let neighbour = Neighbour::start(call);
        neighbour.await_calls(4);
        Self { neighbour: Some(neighbour), ..Self::alone(session) }
    }

    /// Where a proxy has one client only, who calls between the rows.
    pub(crate) fn alone(session: Session) -> Self {
        let (resident, descriptors) = (resident(session.pid), descriptors(session.pid));
        Self { session, neighbour: None, resident, descriptors, most: MOST, complaints: Vec::new() }
    }

    /// Where the proxy may also keep so much of what it sent.
    pub(crate) fn keeping(self, len: usize) -> Self {
        Self { most: self.most + len, ..self }
    }

    /// One row: what came of `act` is to be `expected`.
    pub(crate) fn row(&mut self, name: &str, expected: &str, act: impl FnOnce(&mut Session) -> String) {
        reset_peak(self.session.pid);
        let found = catch_unwind(AssertUnwindSafe(|| act(&mut self.session)));
        let found = found.unwrap_or_else(|panic| format!("the row failed: {}", said(&*panic)));
        if let Some(neighbour) = &self.neighbour {
            neighbour.await_calls(2);
        }
        let cost = peak(self.session.pid).saturating_sub(self.resident);
        // Seen with --nocapture, and with every failure.
        let _ = writeln!(std::io::stdout(), "{:>7} KiB  {name}: {found}", cost >> 10);
        if found != expected {
            self.complaints.push(format!("{name}: {found}, not {expected}"));
        }
        if cost > self.most {
            self.complaints.push(format!("{name}: {} KiB, more than {}", cost >> 10, self.most >> 10));
        }
    }

    /// The neighbour leaves, nothing more is open than at first, and the proxy ends as it should, without having
    /// logged a fault of ours.
    pub(crate) fn end(mut self) {
        if let Some(neighbour) = self.neighbour.take() {
            neighbour.leave();
        }
        let most = self.descriptors;
        eventually("no descriptor is left open", || descriptors(self.session.pid) <= most);
        self.session.signal(Signal::TERM);
        let Ended { code, stderr, .. } = self.session.end();
        assert!(self.complaints.is_empty(), "\n{}\n", self.complaints.join("\n"));
        assert!(!stderr.contains("panicked") && !stderr.contains("ERROR"), "{stderr}");
        assert_eq!(code, Some(0), "{stderr}");
    }
}

impl Neighbour {
    fn start(mut call: impl FnMut() + Send + 'static) -> Self {
        let (calls, leaves) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, left) = (Arc::clone(&calls), Arc::clone(&leaves));
        let thread = thread::spawn(move || {
            while !left.load(Ordering::Relaxed) {
                call();
                counted.fetch_add(1, Ordering::Relaxed);
                // Only so that the machine is left some time for the rows.
                thread::park_timeout(Duration::from_millis(3));
            }
        });
        Self { calls, leaves, thread }
    }

    /// As many calls that began after this did are answered.
    fn await_calls(&self, count: usize) {
        let enough = self.calls.load(Ordering::Relaxed) + count + 1;
        eventually("the neighbour is served", || {
            assert!(!self.thread.is_finished(), "the neighbour was not served");
            self.calls.load(Ordering::Relaxed) >= enough
        });
    }

    fn leave(self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("the neighbour was served to the end");
    }
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
