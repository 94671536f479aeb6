//! What has happened, counted: never a payload, never an id.
//!
//! [`Families`] is the one list: name, labels and meaning of everything that is exposed. A new count is one entry
//! there, one row in `docs/METRICS.md` (a test compares), and one addition where it happens:
//! `metrics.messages.add((link, to, kind), 1)`. Labels are enums (`metrics/labels.rs`), so the place of a count is
//! known when the code is built; where messages pass, a count is one relaxed addition for a batch of them.

mod cells;
pub mod labels;
mod process;
mod text;

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cells::Tally;
pub use cells::{Counter, Elapsed, Gauge, Histogram, Seconds};
use labels::{
    Blame, CopyReason, ErrorReason, Label as _, Labels, Link, MessageKind, PoolKind, SessionEnd, Side, TimeoutOf, To,
};
pub use text::CONTENT_TYPE;
use text::Text;

/// The counters. A handle: clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    families: Families,
    /// The links this process runs, as bits: nothing is shown of the others.
    links: AtomicU32,
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $name:literal,)+) => {
        /// Everything that is counted.
        #[derive(Debug, Default)]
        #[non_exhaustive]
        pub struct Families {
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl Families {
            /// The name of each, in the order they are exposed in.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            fn write(&self, text: &mut Text) {
                $(text.family($name, concat!($($help),+), &self.$field);)+
            }
        }
    };
}

families! {
    /// Messages passed on; a batch is one.
    messages: Counter<(Link, To, MessageKind)> = "shadowcat_messages_total",
    /// Bytes of the messages passed on, without what frames them.
    bytes: Counter<(Link, To)> = "shadowcat_message_bytes_total",
    /// Errors we gave in place of an answer, by who is to blame.
    errors: Counter<(Blame, ErrorReason)> = "shadowcat_errors_total",
    /// Time messages spent inside us: from being read to being written, a slow reader included.
    inside: Histogram<(Link, To)> = "shadowcat_inside_seconds",
    /// Time from a request's arrival here to its answer's, or over HTTP to that of the answer's headers.
    server: Histogram<(Link,)> = "shadowcat_server_seconds",
    /// Bytes of peers' data held in buffers.
    buffer: Gauge = "shadowcat_buffer_bytes",
    /// Most bytes of peers' data that may be held in buffers; 0 if there is no limit.
    buffer_limit: Gauge = "shadowcat_buffer_limit_bytes",
    /// Sessions that have begun.
    sessions_begun: Counter<(Link,)> = "shadowcat_sessions_begun_total",
    /// Sessions that have ended, by what ended them.
    sessions_ended: Counter<(Link, SessionEnd)> = "shadowcat_sessions_ended_total",
    /// Sessions open.
    sessions: Gauge<(Link,)> = "shadowcat_sessions",
    /// Servers started as children.
    children_started: Counter = "shadowcat_children_started_total",
    /// Children that have exited and were reaped.
    children_exited: Counter = "shadowcat_children_exited_total",
    /// Children that run.
    children: Gauge = "shadowcat_children",
    /// Processes under our keeper that no session owns, as last audited; must be 0.
    children_unaccounted: Gauge = "shadowcat_children_unaccounted",
    /// Children started again after they had exited.
    restarts: Counter = "shadowcat_restarts_total",
    /// HTTP exchanges that go on: a request was read, and its answer is not complete.
    exchanges: Gauge = "shadowcat_http_exchanges",
    /// Connections of HTTP clients that are open.
    connections: Gauge = "shadowcat_http_connections",
    /// Buffers taken from a pool.
    pool_hits: Counter<(PoolKind,)> = "shadowcat_pool_hits_total",
    /// Buffers made because a pool had none.
    pool_misses: Counter<(PoolKind,)> = "shadowcat_pool_misses_total",
    /// Bytes copied that could have stayed where they are.
    copied: Counter<(CopyReason,)> = "shadowcat_copied_bytes_total",
    /// Copies of bytes that could have stayed where they are, by why they did not.
    copies: Counter<(CopyReason,)> = "shadowcat_copies_total",
    /// Frames that are no messages. They are kept back, but by HTTP in front of HTTP, which may pass them on.
    noise: Counter<(Link, To)> = "shadowcat_noise_frames_total",
    /// Answers that came when nobody waited for them any more.
    late_answers: Counter<(Link,)> = "shadowcat_late_answers_total",
    /// Time that what was there for a side waited for it to read, counted when it has.
    blocked: Elapsed<(Link, Side)> = "shadowcat_blocked_seconds_total",
    /// Streams of clients that were cut off because more waited for them than may.
    cut_off: Counter<(Link,)> = "shadowcat_cut_streams_total",
    /// Waits that were ended because they took too long.
    timeouts: Counter<(TimeoutOf,)> = "shadowcat_timeouts_total",
    /// Frames that left and were held against what came in, because of --verify; of HTTP in front of HTTP, bodies.
    verify_frames: Counter<(Link, To)> = "shadowcat_verify_frames_total",
    /// Frames that did not leave as they came in, as far as --verify looked; must be 0.
    verify_mismatches: Counter<(Link, To)> = "shadowcat_verify_mismatches_total",
    /// Tasks of the runtime that are alive.
    tasks: Gauge = "shadowcat_tasks",
    /// Processor time used.
    cpu: Seconds<true> = "process_cpu_seconds_total",
    /// Memory resident.
    resident: Gauge = "process_resident_memory_bytes",
    /// Memory mapped.
    virtual_memory: Gauge = "process_virtual_memory_bytes",
    /// Descriptors open.
    open_fds: Gauge = "process_open_fds",
    /// Most descriptors that may be open.
    max_fds: Gauge = "process_max_fds",
    /// Threads.
    threads: Gauge = "process_threads",
    /// When the process started, since 1970.
    start_time: Seconds<false> = "process_start_time_seconds",
}

/// One session, counted as open until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it counts the session as ended"]
pub struct OpenSession {
    metrics: Metrics,
    link: Link,
    end: Option<SessionEnd>,
}

/// A child, counted as one that runs until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it counts the child as gone"]
pub struct RunningChild {
    metrics: Metrics,
}

/// One thing of many, counted as there until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it counts the thing as gone"]
pub struct Present<L: Labels = ()> {
    metrics: Metrics,
    gauge: fn(&Families) -> &Gauge<L>,
    labels: L,
}

impl Metrics {
    /// Notes that this process runs `link`, so that its counts are shown from the start.
    pub fn uses(&self, link: Link) {
        self.shared.links.fetch_or(1 << link.index(), Relaxed);
    }

    /// Counts a session that begins. Until told otherwise, it is the client who ends it.
    pub fn session(&self, link: Link) -> OpenSession {
        self.uses(link);
        self.sessions_begun.add((link,), 1);
        self.sessions.add((link,), 1);
        OpenSession { metrics: self.clone(), link, end: None }
    }

    /// Counts a child that was started, until what is returned is dropped: when it was reaped, or is given up.
    pub fn child(&self) -> RunningChild {
        self.children_started.add((), 1);
        self.children.add((), 1);
        RunningChild { metrics: self.clone() }
    }

    /// Counts one thing in `gauge` until what is returned is dropped: `metrics.present(|all| &all.exchanges, ())`.
    pub fn present<L: Labels>(&self, gauge: fn(&Families) -> &Gauge<L>, labels: L) -> Present<L> {
        gauge(self).add(labels, 1);
        Present { metrics: self.clone(), gauge, labels }
    }

    /// Counts a copy of `len` bytes.
    pub fn copied(&self, reason: CopyReason, len: usize) {
        self.copies.add((reason,), 1);
        self.copied.add((reason,), len as u64);
    }

    /// Everything, as Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        process::look(self);
        let mut text = Text::new(self.shared.links.load(Relaxed));
        self.shared.families.write(&mut text);
        text.into_text()
    }
}

impl OpenSession {
    /// Says what will have ended the session. The first word counts.
    pub fn ends_by(&mut self, end: SessionEnd) {
        self.end.get_or_insert(end);
    }
}

impl Deref for Metrics {
    type Target = Families;

    #[inline]
    fn deref(&self) -> &Families {
        &self.shared.families
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.metrics.sessions.add((self.link,), -1);
        self.metrics.sessions_ended.add((self.link, self.end.unwrap_or(SessionEnd::Client)), 1);
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        self.metrics.children.add((), -1);
        self.metrics.children_exited.add((), 1);
    }
}

impl<L: Labels> Drop for Present<L> {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).add(self.labels, -1);
    }
}

/// What crossed in one direction and was not counted yet: added up without atomics, counted once a batch.
#[derive(Debug)]
pub struct Flow {
    metrics: Metrics,
    link: Link,
    to: To,
    kinds: [u32; MessageKind::ALL.len()],
    messages: u64,
    len: u64,
    answered: Tally,
}

impl Flow {
    /// Counts what goes over `link` in this direction.
    #[must_use]
    pub fn new(metrics: &Metrics, link: Link, to: To) -> Self {
        metrics.uses(link);
        let kinds = [0; MessageKind::ALL.len()];
        Self { metrics: metrics.clone(), link, to, kinds, messages: 0, len: 0, answered: Tally::default() }
    }

    /// One message, `len` bytes long.
    #[inline]
    pub fn message(&mut self, kind: MessageKind, len: usize) {
        if let Some(count) = self.kinds.get_mut(kind.index()) {
            *count += 1;
        }
        self.messages += 1;
        self.len += len as u64;
    }

    /// One frame that is kept back.
    pub fn noise(&self) {
        self.metrics.noise.add((self.link, self.to), 1);
    }

    /// An answer that nobody waits for.
    #[cold]
    pub fn late(&self) {
        self.metrics.late_answers.add((self.link,), 1);
    }

    /// An answer to a request that came by this long ago.
    #[inline]
    pub fn answered(&mut self, after: Duration) {
        self.answered.note(after);
    }

    /// Whether there is nothing to count.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Counts what was added up, after it was inside us for `inside`.
    pub fn count(&mut self, inside: Duration) {
        for (kind, count) in MessageKind::ALL.iter().zip(&mut self.kinds) {
            if *count > 0 {
                self.metrics.messages.add((self.link, self.to, *kind), std::mem::take(count).into());
            }
        }
        self.metrics.bytes.add((self.link, self.to), std::mem::take(&mut self.len));
        self.metrics.inside.observe((self.link, self.to), inside, std::mem::take(&mut self.messages));
        if !self.answered.is_empty() {
            self.metrics.server.add_up((self.link,), &mut self.answered);
        }
    }

    /// The counters it counts in.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_present_is_counted_until_it_is_dropped() {
        let metrics = Metrics::default();
        let present = metrics.present(|all| &all.exchanges, ());
        assert_eq!(metrics.exchanges.of(()), 1);
        drop(present);
        assert_eq!(metrics.exchanges.of(()), 0);
        let mut session = metrics.session(Link::Pipe);
        assert_eq!(metrics.sessions.of((Link::Pipe,)), 1);
        session.ends_by(SessionEnd::Server);
        drop(session);
        assert_eq!((metrics.sessions.of((Link::Pipe,)), metrics.sessions_begun.of((Link::Pipe,))), (0, 1));
        assert_eq!(metrics.sessions_ended.of((Link::Pipe, SessionEnd::Server)), 1);
    }

    #[test]
    fn flow_counts_a_batch_at_once() {
        let metrics = Metrics::default();
        let mut flow = Flow::new(&metrics, Link::Dial, To::Server);
        flow.message(MessageKind::Request, 10);
        flow.message(MessageKind::Request, 20);
        flow.message(MessageKind::Notification, 5);
        assert_eq!(metrics.messages.of((Link::Dial, To::Server, MessageKind::Request)), 0);
        flow.count(Duration::from_micros(7));
        flow.count(Duration::from_micros(7));
        assert_eq!(metrics.messages.of((Link::Dial, To::Server, MessageKind::Request)), 2);
        assert_eq!(metrics.bytes.of((Link::Dial, To::Server)), 35);
        assert_eq!(metrics.inside.count((Link::Dial, To::Server)), 3);
        let text = metrics.text();
        assert!(text.contains("shadowcat_inside_seconds_bucket{link=\"dial\",to=\"server\",le=\"0.000005\"} 0\n"));
        assert!(text.contains("shadowcat_inside_seconds_bucket{link=\"dial\",to=\"server\",le=\"0.00001\"} 3\n"));
        assert!(text.contains("shadowcat_inside_seconds_bucket{link=\"dial\",to=\"server\",le=\"+Inf\"} 3\n"));
        assert!(text.contains("shadowcat_inside_seconds_sum{link=\"dial\",to=\"server\"} 0.000021\n"));
        assert!(!text.contains("link=\"pipe\""), "a link that does not run is not shown");
    }
}
