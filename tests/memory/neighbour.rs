//! Somebody whose calls are right, while others do what they do: that he is served, and each time within seconds, is
//! asserted; how fast exactly is printed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use shadowcat::clock::now;

use crate::{say, support::DEADLINE};

/// Calls until he is told to stop.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    calls: mpsc::Receiver<Duration>,
    thread: JoinHandle<()>,
}

impl Neighbour {
    /// `call` fails by panicking.
    pub(crate) fn start(mut call: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, calls) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let start = now();
                call();
                if told.send(now() - start).is_err() {
                    return;
                }
                // So that the others get on too.
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        Self { stop, calls, thread }
    }

    /// He has been served all the time, and never had to wait for what only a dead-lock explains.
    #[track_caller]
    pub(crate) fn leave(self, what: &str) {
        let first: Vec<Duration> =
            (0..5).map(|_| self.calls.recv_timeout(DEADLINE).expect("the neighbour is served")).collect();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("the neighbour is served");
        let mut calls: Vec<Duration> = self.calls.iter().chain(first).collect();
        calls.sort_unstable();
        let (median, last) = (calls[calls.len() / 2], calls[calls.len() - 1]);
        assert!(last < SOON, "{what}: a neighbour waited for {last:?}");
        say(&format!("{what}: {} calls of a neighbour, median {median:?}, longest {last:?}", calls.len()));
    }
}

/// Most that one of his calls may take, on a machine that does much else.
const SOON: Duration = Duration::from_secs(15);
