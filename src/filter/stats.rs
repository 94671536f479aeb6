//! What `--stats` says on stderr: a line that is kept up to date on a terminal, and a summary at the end.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::Instant;

use super::{refusal::Refusals, sink::Sink};

/// Counts what crosses, if anybody wants to know.
#[derive(Debug)]
pub(super) struct Stats {
    wanted: bool,
    on_terminal: bool,
    start: Instant,
    shown: Instant,
    read: u64,
}

impl Stats {
    pub(super) fn new(wanted: bool) -> Self {
        let start = shadowcat::clock::now();
        Self { wanted, on_terminal: wanted && io::stderr().is_terminal(), start, shown: start, read: 0 }
    }

    /// `read` more bytes came in.
    pub(super) fn add(&mut self, read: usize, sink: &Sink, refusals: &Refusals) {
        self.read += read as u64;
        if self.on_terminal {
            let now = shadowcat::clock::now();
            if now.duration_since(self.shown) >= SHOW_EVERY {
                self.shown = now;
                self.show(now, sink, refusals, ("\r", "\x1b[K"));
            }
        }
    }

    /// The input has ended.
    pub(super) fn finish(&self, sink: &Sink, refusals: &Refusals) {
        if self.wanted {
            let start = if self.on_terminal { "\r" } else { "" };
            let end = if self.on_terminal { "\x1b[K\n" } else { "\n" };
            self.show(shadowcat::clock::now(), sink, refusals, (start, end));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
    fn show(&self, now: Instant, sink: &Sink, refusals: &Refusals, (before, behind): (&str, &str)) {
        let seconds = now.duration_since(self.start).as_secs_f64().max(1e-9);
        let (frames, written) = sink.written();
        let (rate, refused) = (self.read as f64 / seconds / 1e6, refusals.count());
        // Whoever closed stderr does not want to know.
        let _ = write!(
            io::stderr(),
            "{before}{frames} frames, {} bytes in, {written} bytes out, {refused} refused, {seconds:.3} s, {rate:.1} MB/s{behind}",
            self.read
        );
    }
}

/// How often the line on a terminal is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(250);
