//! A client on a byte stream in front of a server that is our child: the pump, the child's life, being told to
//! stop.
//!
//! This is the one loop that meets both sides. It decides when a child is asked to end, what a client is
//! told when the child is gone, and how the session ended; moving bytes is [`super::pipe`]'s work.
//!
//! The end of the client's stream is not its departure: the child's stdin is closed, its remaining answers
//! are still delivered, and the shutdown ladder starts when none is awaited any more, when the client reads
//! no more, or when the drain deadline passes.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    time::{Duration, Instant},
};

use shadowcat_codecs::Limits;
use tokio::sync::watch;
use tracing::Instrument as _;

pub use super::outcome::Cause;
use super::{
    nursery::Carer,
    parting,
    pipe::{Blocked, Event, Overdue, Pipe, Turn},
    signals::{Stops, Told},
    waits::Waits,
};
use crate::{
    budget::Allowance,
    clock::{std_now as now, until},
    resources::Resources,
    session::{Counts, Reason, Session, StreamKey},
    supervise::{
        ChildId, ExitStatus,
        keeper::{Child, Keeper},
        ladder::{Ladder, Times},
        last_words::LastWords,
        server_log::ServerLog,
    },
    telemetry::metrics::labels::{Link, SessionEnd, TimeoutOf},
    transport::{Reader, Writer},
};

/// What a session of this link is held to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight.
    pub max_pending: usize,
    /// How long each step of the child's shutdown waits.
    pub shutdown: Times,
    /// How long answers are awaited after the end of the client's stream; for ever if `None`.
    pub drain: Option<Duration>,
    /// How long the child may take to answer `initialize`, if it is asked that first. That it runs is not enough to
    /// have started.
    pub start_timeout: Duration,
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
    /// How the child ended.
    pub status: ExitStatus,
    /// Requests that got an error from us because the child answered no more.
    pub orphans: usize,
    /// What crossed.
    pub counts: Counts,
    /// What the child said last on its stderr, oldest first and made safe to show.
    pub last_words: Vec<String>,
    /// How long each side kept the other waiting.
    pub blocked: Blocked,
}

/// The loop's state, beside the pipe's.
struct Running {
    child: ChildId,
    ladder: Ladder,
    /// When waiting for answers ends, after the end of the client's stream.
    drain_due: Option<Instant>,
    /// When to stop waiting for the end of the stdout of a child that has exited: somebody else holds it.
    linger_due: Option<Instant>,
    status: Option<ExitStatus>,
    /// Requests that were told already that nobody will answer them.
    orphans: usize,
    /// Whether the child's stdout has ended and all of it was passed on.
    server_ended: bool,
    /// Whether the client reads no more, so that nobody misses an answer.
    client_gone: bool,
    cause: Option<Cause>,
    drain: Option<Duration>,
    start_timeout: Duration,
    words: watch::Receiver<LastWords>,
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

/// Runs one session between `downstream` and `child` to its end. `log` is passed the child's stderr, line by
/// line.
///
/// # Errors
///
/// If the keeper is lost, signals cannot be watched, or the memory budget has no room for a session.
///
/// # Cancel safety
///
/// None; dropping it drops both sides, and the child ends with its keeper.
pub async fn run(
    downstream: (Reader, Writer),
    keeper: &mut Keeper,
    child: Child,
    log: impl AsyncFnMut(&[u8]),
    options: Options,
) -> io::Result<Outcome> {
    let allowance = super::session_room(&options.resources)?;
    let span = tracing::info_span!("session", link = "pipe");
    let serve = serve((downstream, &allowance), Carer::Keeper(keeper), child, log, options, Stops::signals()?);
    serve.instrument(span).await
}

/// As [`run`], with a child of whichever keeper, and told to stop by `stops`.
pub(super) async fn serve(
    (downstream, allowance): ((Reader, Writer), &Allowance),
    mut carer: Carer<'_>,
    child: Child,
    log: impl AsyncFnMut(&[u8]),
    options: Options,
    mut stops: Stops,
) -> io::Result<Outcome> {
    let Child { id, stdin, stdout, stderr } = child;
    let metrics = options.resources.metrics.clone();
    let (mut open, _child) = (metrics.session(Link::Pipe), metrics.child());
    let session = Session::new(options.max_pending).with_timeouts(options.waits.response.clone());
    let server_log = ServerLog::new(stderr, log);
    let mut running = Running::new(id, &options, server_log.last_words());
    let mut pipe = Pipe::new(downstream, (stdout, stdin), options.limits, session)
        .with_room(allowance)
        .with_waits(options.waits)
        .counted(&metrics, Link::Pipe)
        .verified(options.resources.verify, &metrics, Link::Pipe);
    let mut server_log = pin!(server_log.run());
    let mut is_logging = true;
    let ended = loop {
        if let (Some(status), true) = (running.status, running.server_ended) {
            break Ok(status);
        }
        // First what is rare: a flood in the pipe or the log may take all the time there is.
        tokio::select! {
            biased;
            told = stops.next() => running.handle_told(told, &mut pipe, now()),
            () = until(running.due(&pipe)) => if let Err(error) = running.handle_due(&mut pipe, &mut carer, now()).await {
                break Err(error);
            },
            turn = poll_fn(|cx| pipe.poll_turn(cx, now)) => match turn {
                Turn::Event(event) => running.handle_event(&mut pipe, event, now()),
                Turn::Overdue(overdue) => running.handle_overdue(&mut pipe, overdue, now()),
            },
            exit = carer.exit(), if running.status.is_none() => match exit {
                Ok(status) => running.handle_exit(status, now()),
                Err(error) => break Err(error),
            },
            () = &mut server_log, if is_logging => is_logging = false,
        }
    };
    parting::hear_out(server_log.as_mut(), &mut is_logging).await;
    let reason = match &running.cause {
        Some(Cause::Timeout(timeout)) => Reason::Timeout(timeout.clone()),
        _ => parting::exited(ended.as_ref().ok().copied(), &running.words),
    };
    let mut orphans = 0;
    for _ in 0..2 {
        orphans += tokio::select! {
            orphans = pipe.settle(&reason, now) => orphans,
            Told::Stop = stops.next() => break,
        };
        // What the client asks meanwhile is answered by the second turn.
        drain_log(server_log.as_mut(), std::mem::take(&mut is_logging)).await;
    }
    drain_log(server_log, is_logging).await;
    let orphans = if running.client_gone { 0 } else { orphans + running.orphans };
    let (counts, client_done) = (pipe.session().counts(), pipe.has_ended(StreamKey::DOWNSTREAM) && orphans == 0);
    if ended.is_err() {
        open.ends_by(SessionEnd::Failed);
    }
    ended.map(|status| {
        let cause = running.cause(client_done, status.is_success() || counts.to_downstream > 0);
        open.ends_by((&cause).into());
        let (last_words, blocked) = (running.words.borrow().lines(), pipe.blocked(now()));
        Outcome { cause, status, orphans, counts, last_words, blocked }
    })
}

impl Running {
    fn new(child: ChildId, options: &Options, words: watch::Receiver<LastWords>) -> Self {
        Self {
            child,
            ladder: Ladder::new(options.shutdown),
            drain_due: None,
            linger_due: None,
            status: None,
            orphans: 0,
            server_ended: false,
            client_gone: false,
            cause: None,
            drain: options.drain,
            start_timeout: options.start_timeout,
            words,
        }
    }

    fn handle_event(&mut self, pipe: &mut Pipe, event: Event, now: Instant) {
        tracing::debug!(?event, "pipe");
        match event {
            Event::Ended(StreamKey::UPSTREAM) => {
                self.server_ended = true;
                self.end_child(pipe, now, Cause::Server);
            }
            Event::Ended(_) => {
                self.cause.get_or_insert(Cause::Client);
                self.drain_due = self.drain_due.or_else(|| self.drain.map(|drain| now + drain));
                pipe.close(StreamKey::UPSTREAM);
            }
            Event::Quiet => self.ladder.start(now),
            // From now on there is a time to look at.
            Event::Initializing => {}
            // A server that reads no more cannot be asked anything; what it still says is passed on.
            Event::Gone(StreamKey::UPSTREAM) => self.end_child(pipe, now, Cause::Server),
            Event::Gone(_) => {
                self.client_gone = true;
                self.end_child(pipe, now, Cause::Client);
            }
        }
    }

    /// A server that does not read or speak will not answer any more; a client that does not read is as good as gone.
    fn handle_overdue(&mut self, pipe: &mut Pipe, overdue: Overdue, now: Instant) {
        let Overdue { whom, timeout } = overdue;
        if whom == StreamKey::DOWNSTREAM {
            self.client_gone = true;
            pipe.close(StreamKey::DOWNSTREAM);
        } else {
            self.orphans += pipe.answer_orphans(StreamKey::UPSTREAM, &Reason::Timeout(timeout.clone()));
            // What it says from now on would be a second answer.
            pipe.abandon(StreamKey::UPSTREAM);
        }
        self.end_child(pipe, now, Cause::Timeout(timeout));
    }

    fn handle_exit(&mut self, status: ExitStatus, now: Instant) {
        tracing::debug!(pid = %self.child, %status, "server exited");
        self.status = Some(status);
        self.linger_due = Some(now + LINGER);
    }

    async fn handle_due(&mut self, pipe: &mut Pipe, carer: &mut Carer<'_>, now: Instant) -> io::Result<()> {
        if self.drain_due.is_some_and(|due| due <= now) {
            tracing::warn!("the drain deadline has passed with requests unanswered");
            pipe.count_timeout(TimeoutOf::Drain);
            self.drain_due = None;
            self.ladder.start(now);
        }
        if self.linger_due.is_some_and(|due| due <= now) && !pipe.is_flushed(StreamKey::DOWNSTREAM) {
            // The client reads slowly, and what the server wrote while it lived may still be in its pipe.
            self.linger_due = Some(now + LINGER);
        } else if self.linger_due.is_some_and(|due| due <= now) {
            tracing::warn!("the server has exited, but a process it left behind holds its stdout");
            self.linger_due = None;
            pipe.abandon(StreamKey::UPSTREAM);
        }
        if self.start_due(pipe).is_some_and(|due| due <= now) {
            self.give_up(pipe, now);
        }
        if let Some(push) = self.ladder.handle_due(now) {
            tracing::warn!(pid = %self.child, ?push, "the server does not end by itself");
            carer.push(self.child, push).await?;
        }
        Ok(())
    }

    /// The first signal asks the child to end, each further one takes the next step at once. Draining is as if
    /// the client had ended its stream, with a deadline.
    fn handle_told(&mut self, told: Told, pipe: &mut Pipe, now: Instant) {
        tracing::info!("told to stop");
        if let Told::Drain(timeout) = told {
            self.cause.get_or_insert(Cause::Stopped);
            self.drain_due = Some(now + timeout);
            pipe.abandon(StreamKey::DOWNSTREAM);
            return;
        }
        if self.ladder.is_started() {
            self.ladder.hurry(now);
        }
        pipe.abandon(StreamKey::DOWNSTREAM);
        self.end_child(pipe, now, Cause::Stopped);
    }

    /// The child does not answer `initialize`. What it says from now on would be a second answer.
    fn give_up(&mut self, pipe: &mut Pipe, now: Instant) {
        let limit = self.start_timeout;
        tracing::error!(pid = %self.child, ?limit, "the server does not answer initialize; it is ended");
        pipe.count_timeout(TimeoutOf::ChildStart);
        self.orphans += pipe.answer_orphans(StreamKey::UPSTREAM, &parting::mute(limit, &self.words));
        pipe.abandon(StreamKey::UPSTREAM);
        self.end_child(pipe, now, Cause::Mute(limit));
    }

    /// When [`give_up`](Self::give_up) is due: as long as `initialize`, the first message of a session, is not
    /// answered.
    fn start_due(&self, pipe: &Pipe) -> Option<Instant> {
        let asked = pipe.session().initializing_since().filter(|_| !self.ladder.is_started())?;
        Some(asked + self.start_timeout)
    }

    fn end_child(&mut self, pipe: &mut Pipe, now: Instant, cause: Cause) {
        self.cause.get_or_insert(cause);
        pipe.close(StreamKey::UPSTREAM);
        self.ladder.start(now);
    }

    /// What ended the session. A server that has answered everything may end a moment before we see that its
    /// client does too; which of the two came first is then nobody's fault. But one that fails before it said
    /// anything is told of, also to a client that asked for nothing.
    fn cause(&self, client_done: bool, server_was_of_use: bool) -> Cause {
        match &self.cause {
            Some(cause @ (Cause::Stopped | Cause::Mute(_) | Cause::Timeout(_))) => cause.clone(),
            _ if !server_was_of_use && !self.client_gone && !self.ladder.has_pushed() => Cause::Server,
            Some(Cause::Server) | None if client_done => Cause::Client,
            cause => cause.clone().unwrap_or(Cause::Server),
        }
    }

    /// When [`handle_due`](Self::handle_due) has something to do.
    fn due(&self, pipe: &Pipe) -> Option<Instant> {
        let ladder = self.status.is_none().then(|| self.ladder.due()).flatten();
        let linger = self.linger_due.filter(|_| !self.server_ended);
        let drain = self.drain_due.filter(|_| !self.ladder.is_started());
        [ladder, linger, drain, self.start_due(pipe)].into_iter().flatten().min()
    }
}

/// The child's last words: what is in its stderr now. A process it left behind may hold that open for ever.
async fn drain_log(log: impl Future<Output = ()>, is_logging: bool) {
    if is_logging {
        // The reason of the time-out, if it comes, is known: somebody else holds the pipe.
        let _ = tokio::time::timeout(LAST_WORDS, log).await;
    }
}

/// How long the stdout of a child that has exited may stay open. What it wrote itself is there at once.
const LINGER: Duration = Duration::from_secs(1);

/// How long its stderr may.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod model;
