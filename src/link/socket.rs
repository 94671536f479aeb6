//! A client on a byte stream in front of a server that listens on a socket (Rule T11: the framing of stdio, over
//! any byte stream): the pump, the server's end, being told to stop.
//!
//! As with a child, the end of the client's stream is not its departure: our direction of the server's connection
//! ends, its remaining answers are still delivered, and it is cut off where it does not end by itself. There is
//! no process to push, and no exit status to tell; that is [`super::stdio`].

use std::{
    future::poll_fn,
    io,
    time::{Duration, Instant},
};

use shadowcat_codecs::Limits;
use tracing::Instrument as _;

pub use super::outcome::Cause;
use super::{
    pipe::{Blocked, Event, Overdue, Pipe, Turn},
    signals::{Stops, Told},
    waits::Waits,
};
use crate::{
    budget::Allowance,
    clock::{std_now as now, until},
    resources::Resources,
    session::{Counts, Reason, Session, StreamKey, Timeout},
    telemetry::metrics::labels::{Link, TimeoutOf},
    transport::{Reader, Writer, connection::Connection},
};

/// What a session of this link is held to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight.
    pub max_pending: usize,
    /// How long the server may take to end its stream once ours has ended and nothing is awaited any more.
    pub grace: Duration,
    /// How long answers are awaited after the end of the client's stream; for ever if `None`.
    pub drain: Option<Duration>,
    /// What the session shares with the process.
    pub resources: Resources,
    /// How long who is waited for.
    pub waits: Waits,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What ended it.
    pub cause: Cause,
    /// Requests that got an error from us because the server answered no more.
    pub orphans: usize,
    /// What crossed.
    pub counts: Counts,
    /// How long each side kept the other waiting.
    pub blocked: Blocked,
}

/// The loop's state, beside the pipe's.
struct Running {
    /// Whether the server's stream has ended and all of it was passed on.
    server_ended: bool,
    /// Whether the client reads no more, so that nobody misses an answer.
    client_gone: bool,
    cause: Option<Cause>,
    drain: Option<Duration>,
    /// When waiting for answers ends, after the end of the client's stream.
    drain_due: Option<Instant>,
    grace: Duration,
    /// When a server that does not end its stream is cut off.
    cut_due: Option<Instant>,
    /// Why what is unanswered at the end will not be answered.
    reason: Reason,
}

impl Outcome {
    /// Whether nobody has reason to complain. Whoever tells us to stop knows what is left unanswered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self.cause {
            Cause::Stopped => true,
            Cause::Client => self.orphans == 0,
            Cause::Server | Cause::Mute(_) | Cause::Timeout(_) => false,
        }
    }
}

/// Runs one session between `downstream` and the server behind `upstream` to its end.
///
/// # Errors
///
/// If signals cannot be watched, or there is no descriptor left.
///
/// # Cancel safety
///
/// None; dropping it drops both sides.
pub async fn run(downstream: (Reader, Writer), upstream: Connection, options: Options) -> io::Result<Outcome> {
    let allowance = super::session_room(&options.resources)?;
    let span = tracing::info_span!("session", link = "socket");
    serve((downstream, &allowance), upstream, options, Stops::signals()?).instrument(span).await
}

/// As [`run`], told to stop by `stops`.
pub(super) async fn serve(
    (downstream, allowance): ((Reader, Writer), &Allowance),
    upstream: Connection,
    options: Options,
    mut stops: Stops,
) -> io::Result<Outcome> {
    let metrics = options.resources.metrics.clone();
    let mut open = metrics.session(Link::Socket);
    let session = Session::new(options.max_pending).with_timeouts(options.waits.response.clone());
    let mut running = Running::new(&options);
    let mut pipe = Pipe::new(downstream, upstream.halves()?, options.limits, session)
        .with_room(allowance)
        .with_waits(options.waits)
        .counted(&metrics, Link::Socket)
        .verified(options.resources.verify, &metrics, Link::Socket);
    while !running.is_over() {
        // First what is rare: a flood in the pipe may take all the time there is.
        tokio::select! {
            biased;
            told = stops.next() => running.handle_told(told, &mut pipe, now()),
            () = until(running.due()) => running.handle_due(&mut pipe, now()),
            turn = poll_fn(|cx| pipe.poll_turn(cx, now)) => match turn {
                Turn::Event(event) => running.handle_event(&mut pipe, event, now()),
                Turn::Overdue(overdue) => running.handle_overdue(&mut pipe, overdue),
            },
        }
    }
    let orphans = tokio::select! {
        orphans = pipe.settle(&running.reason, now) => orphans,
        Told::Stop = stops.next() => 0,
    };
    let orphans = if running.client_gone { 0 } else { orphans };
    let client_done = pipe.has_ended(StreamKey::DOWNSTREAM) && orphans == 0;
    let cause = running.cause(client_done);
    open.ends_by((&cause).into());
    Ok(Outcome { cause, orphans, counts: pipe.session().counts(), blocked: pipe.blocked(now()) })
}

impl Running {
    fn new(options: &Options) -> Self {
        Self {
            server_ended: false,
            client_gone: false,
            cause: None,
            drain: options.drain,
            drain_due: None,
            grace: options.grace,
            cut_due: None,
            reason: Reason::StreamEnded,
        }
    }

    /// A client that is gone leaves nobody who could want what the server says.
    fn is_over(&self) -> bool {
        self.server_ended || self.client_gone
    }

    fn handle_event(&mut self, pipe: &mut Pipe, event: Event, now: Instant) {
        tracing::debug!(?event, "pipe");
        match event {
            Event::Ended(StreamKey::UPSTREAM) => {
                self.server_ended = true;
                self.cause.get_or_insert(Cause::Server);
            }
            Event::Ended(_) => {
                self.cause.get_or_insert(Cause::Client);
                self.drain_due = self.drain_due.or_else(|| self.drain.map(|drain| now + drain));
                pipe.close(StreamKey::UPSTREAM);
            }
            Event::Quiet => self.end_soon(now),
            // A server that listens has started.
            Event::Initializing => {}
            // A server that reads no more cannot be asked anything; what it still says is passed on.
            Event::Gone(StreamKey::UPSTREAM) => {
                self.cause.get_or_insert(Cause::Server);
                self.end_soon(now);
            }
            Event::Gone(_) => {
                self.client_gone = true;
                self.cause.get_or_insert(Cause::Client);
            }
        }
    }

    /// A server that does not read or speak will not answer any more; a client that does not read is as good as gone.
    fn handle_overdue(&mut self, pipe: &mut Pipe, overdue: Overdue) {
        let Overdue { whom, timeout } = overdue;
        if whom == StreamKey::DOWNSTREAM {
            self.client_gone = true;
            pipe.close(StreamKey::DOWNSTREAM);
        } else {
            self.reason = Reason::Timeout(timeout.clone());
            pipe.abandon(StreamKey::UPSTREAM);
        }
        self.cause.get_or_insert(Cause::Timeout(timeout));
    }

    fn handle_due(&mut self, pipe: &mut Pipe, now: Instant) {
        if self.drain_due.is_some_and(|due| due <= now) {
            tracing::warn!("the drain deadline has passed with requests unanswered");
            pipe.count_timeout(TimeoutOf::Drain);
            self.drain_due = None;
            let what = "answering after the end of the client's input".into();
            self.reason = Reason::Timeout(Timeout { what, after: self.drain.unwrap_or_default() });
            pipe.abandon(StreamKey::UPSTREAM);
        }
        if self.cut_due.is_some_and(|due| due <= now) {
            tracing::debug!("the server does not end its stream; it is cut off");
            self.cut_due = None;
            pipe.abandon(StreamKey::UPSTREAM);
        }
    }

    /// The first signal ends our streams and waits a moment for the server's end, the next does not. Draining is
    /// as if the client had ended its stream, with a deadline.
    fn handle_told(&mut self, told: Told, pipe: &mut Pipe, now: Instant) {
        tracing::info!("told to stop");
        let is_first = self.cause != Some(Cause::Stopped);
        self.cause = Some(Cause::Stopped);
        pipe.abandon(StreamKey::DOWNSTREAM);
        match told {
            Told::Drain(timeout) => {
                self.drain = Some(timeout);
                self.drain_due = Some(now + timeout);
            }
            Told::Stop if is_first => {
                pipe.close(StreamKey::UPSTREAM);
                self.end_soon(now);
            }
            Told::Stop => pipe.abandon(StreamKey::UPSTREAM),
        }
    }

    fn end_soon(&mut self, now: Instant) {
        self.cut_due.get_or_insert(now + self.grace);
    }

    /// A server that has answered everything may end a moment before we see that its client does too; which of
    /// the two came first is then nobody's fault.
    fn cause(&self, client_done: bool) -> Cause {
        match &self.cause {
            Some(Cause::Server) | None if client_done => Cause::Client,
            cause => cause.clone().unwrap_or(Cause::Server),
        }
    }

    /// When [`handle_due`](Self::handle_due) has something to do.
    fn due(&self) -> Option<Instant> {
        [self.drain_due.filter(|_| self.cut_due.is_none()), self.cut_due].into_iter().flatten().min()
    }
}
