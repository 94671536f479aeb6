//! A client on a byte stream in front of a server over HTTP: each line becomes a POST, answers and the
//! listening stream come back as lines.
//!
//! One task. What runs at the same time are futures and streams that this link owns and polls itself:
//!
//! ```text
//!   client ──► Intake ──► waiting ──► post ──► sending (until the answer's headers) ──┐
//!   client ◄── Outbox ◄── deliver ◄──────────── reading (bodies, event streams) ◄─────┘
//! ```
//!
//! Order: a handshake is completed before anything else is posted; requests run side by side; a notification
//! or a response is posted when every request before it has left, and is taken (202) before the next POST. A body is read only when everything before it has
//! been written to the client; stdin is read only when everything before it was posted.
//!
//! Nothing is posted twice, but for a closed list: what was refused with 404 because its session is gone goes
//! once to the next session, a redirect within the origin that keeps the method is followed, and `initialize`
//! goes on to HTTP+SSE where the server is that old.
//!
//! In the files beside this: `answer` reads bodies, `outward` posts, `heads` and `deliver` take
//! answers, `streams` listens and resumes, `reopen` replays the handshake, `two_endpoints` is HTTP+SSE.

mod answer;
mod deliver;
mod departure;
mod heads;
mod held;
mod held_against;
mod outward;
mod overdue;
mod posted;
mod reopen;
mod streams;
mod two_endpoints;
mod waiting;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _,
    future::{Abortable, BoxFuture},
    stream::{FuturesUnordered, SelectAll},
    task::AtomicWaker,
};
use shadowcat_codecs::{Limits, envelope::EnvelopeParser};
use tracing::Instrument as _;

use self::{
    answer::Answer,
    held::Held,
    posted::{Key, Posted},
    reopen::Reopening,
    streams::Listening,
    two_endpoints::Mode,
    waiting::Waiting,
};
use super::{
    counting::count_error,
    intake::Intake,
    outbox::Outbox,
    pipe::{Blocked, message_log::MessageLog},
    refused::Oversized,
    signals::{Stops, Told},
    waits::{Alarm, Stall, Waits},
};
use crate::{
    budget::{Allowance, Charges, Toward},
    clock::{std_now as now, until},
    resources::Resources,
    session::{Counts, Reason, Reply, Session, StreamKey, Timeout, dialed::Dialed},
    telemetry::metrics::{
        Flow,
        labels::{Link, SessionEnd, Side, TimeoutOf, To},
    },
    transport::{
        Reader, Writer,
        http::{Client, Incoming, SendError},
    },
};

/// What a session of this link is held to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight. Beyond, requests wait, and when 1 MiB of them does, the client is not read;
    /// but while the server waits for an answer of the client, it is, and requests get errors.
    pub max_pending: usize,
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
    /// Requests that got an error because the drain deadline passed.
    pub orphans: usize,
    /// What crossed.
    pub counts: Counts,
    /// How long the client kept us waiting. What an HTTP server does not read yet waits elsewhere.
    pub blocked: Blocked,
}

/// What ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The client ended its stream, or went away.
    Client,
    /// The server ended the one stream of HTTP+SSE, without which there is no answer any more.
    Server,
    /// We were told to stop by a signal.
    Stopped,
    /// The very first request did not reach the server: the address is wrong, or nobody is there. A client
    /// that started us sees our end, as it would see that of a command that cannot be started.
    Unreachable(String),
    /// The client took nothing of what was there for it, for too long.
    Timeout(Timeout),
}

/// The link's state.
struct Dial {
    client: Arc<Client>,
    options: Options,
    intake: Intake,
    outbox: Outbox,
    parser: EnvelopeParser,
    oversized: Oversized,
    session: Session,
    dialed: Dialed,
    mode: Mode,
    phase: Phase,
    /// When the phase ends by force.
    due: Option<Instant>,
    alarm: Alarm,
    /// How the client takes what is there for it.
    stall: Stall,
    cause: Cause,
    orphans: usize,
    /// Messages neither posted nor held. Bounded: nothing more is read from the client before it is empty, and nothing
    /// from the server while it is full of answers of ours.
    waiting: Waiting,
    /// Requests that were read while as many were in flight as may be.
    held: Held,
    gate: Option<Gate>,
    next_key: Key,
    /// Exchanges that go on, oldest first.
    posted: BTreeMap<Key, Posted>,
    /// Those of them that want an answer. Invariant: `asking <= options.max_pending`.
    asking: usize,
    /// Those of which nothing is awaited, but whose answer has not ended. Invariant: at most `MAX_LINGERING`.
    lingering: VecDeque<Key>,
    sending: FuturesUnordered<Sending>,
    reading: SelectAll<Abortable<Answer>>,
    listening: Listening,
    /// Woken when a request's body has left; see `departure`.
    departures: Arc<AtomicWaker>,
    reopening: Reopening,
    /// For answers and events that are joined.
    allowance: Allowance,
    /// Of what is being written, if it was joined. One read's events: before the next, all is written.
    unwritten: Option<Charges>,
    /// Whether the server has ever answered.
    is_reached: bool,
    told_unauthorized: bool,
    to_server: MessageLog,
    to_client: MessageLog,
}

type Sending = Abortable<BoxFuture<'static, (Key, Result<http::Response<Incoming>, SendError>)>>;

/// What keeps the next message from being posted.
#[derive(Debug)]
enum Gate {
    /// A handshake: until its request is answered.
    Handshake(crate::session::RequestId),
    /// A notification or a response: until its answer's headers are there.
    Taken(Key),
    /// The remembered handshake is being replayed.
    Reopening,
    /// A server of HTTP+SSE has yet to say where to post.
    Endpoint,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The client's stream has ended: what it asked is still answered.
    Draining,
    /// The server is being told.
    Leaving,
    Over,
}

impl Outcome {
    /// Whether nobody has reason to complain. Whoever tells us to stop knows what is left unanswered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, Cause::Client | Cause::Stopped) && self.orphans == 0
    }
}

/// Runs one session between `downstream` and the server that `client` reaches, to its end.
///
/// # Errors
///
/// If signals cannot be watched.
///
/// # Cancel safety
///
/// None; dropping it drops both sides, without a word to the server.
pub async fn run(downstream: (Reader, Writer), client: Client, options: Options) -> io::Result<Outcome> {
    let allowance = super::session_room(&options.resources)?;
    let span = tracing::info_span!("session", link = "dial");
    Ok(serve((downstream, &allowance), client, options, Stops::signals()?).instrument(span).await)
}

/// As [`run`], told to stop by `stops`.
pub(super) async fn serve(
    (downstream, allowance): ((Reader, Writer), &Allowance),
    client: Client,
    options: Options,
    mut stops: Stops,
) -> Outcome {
    let mut open = options.resources.metrics.session(Link::Dial);
    let mut dial = Dial::new(downstream, client, options, allowance);
    while dial.phase != Phase::Over {
        // First what is rare: a flood may take all the time there is.
        tokio::select! {
            biased;
            told = stops.next() => dial.handle_told(told, now()),
            () = until(dial.due) => dial.handle_due(now()),
            () = poll_fn(|cx| dial.poll_turn(cx)) => {}
        }
    }
    let blocked = Blocked { downstream: dial.stall.total(now()), ..Blocked::default() };
    open.ends_by(match &dial.cause {
        Cause::Client => SessionEnd::Client,
        Cause::Server => SessionEnd::Server,
        Cause::Stopped => SessionEnd::Stopped,
        Cause::Unreachable(_) => SessionEnd::Unreachable,
        Cause::Timeout(_) => SessionEnd::Timeout,
    });
    Outcome { cause: dial.cause, orphans: dial.orphans, counts: dial.session.counts(), blocked }
}

impl Dial {
    fn new((reader, writer): (Reader, Writer), client: Client, options: Options, allowance: &Allowance) -> Self {
        let limits = options.limits;
        let log = |to| MessageLog::counted(Flow::new(&options.resources.metrics, Link::Dial, to));
        let stall = Stall::counted(&options.resources.metrics, Link::Dial, Side::Client);
        // The server may ask as much as the client.
        let session = Session::new(options.max_pending.saturating_mul(2));
        let session = session.with_timeouts(options.waits.response.clone());
        Self {
            to_server: log(To::Server),
            to_client: log(To::Client),
            client: Arc::new(client),
            intake: Intake::new(reader, limits, allowance, Toward::Server),
            outbox: Outbox::new(writer).checked(options.resources.verify.check(
                &options.resources.metrics,
                Link::Dial,
                To::Client,
            )),
            parser: EnvelopeParser::new(limits),
            oversized: Oversized::default(),
            options,
            session,
            dialed: Dialed::default(),
            mode: Mode::Streamable,
            phase: Phase::Running,
            due: None,
            alarm: Alarm::default(),
            stall,
            cause: Cause::Client,
            orphans: 0,
            waiting: Waiting::default(),
            held: Held::default(),
            gate: None,
            next_key: 0,
            posted: BTreeMap::new(),
            asking: 0,
            lingering: VecDeque::new(),
            sending: FuturesUnordered::new(),
            reading: SelectAll::new(),
            listening: Listening::default(),
            departures: Arc::default(),
            reopening: Reopening::default(),
            allowance: allowance.clone(),
            unwritten: None,
            is_reached: false,
            told_unauthorized: false,
        }
    }

    /// Moves everything that can move; ready when the session is over, or has another deadline.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        self.departures.register(cx.waker());
        loop {
            let is_flushed = self.poll_outbox(cx);
            let mut moved = self.poll_heads(cx);
            if is_flushed && !self.waiting.is_full_of_own_answers() {
                moved |= self.poll_bodies(cx);
            }
            moved |= self.dispatch(now());
            moved |= self.poll_intake(cx);
            moved |= self.advance_phase(is_flushed && self.outbox.is_empty());
            if self.phase == Phase::Over || self.due != due {
                return Poll::Ready(());
            }
            if !moved && self.poll_overdue(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes to the client. Whether everything is written.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> bool {
        let flushed = match self.outbox.poll_flush(cx) {
            Poll::Pending => {
                self.stall.blocked(self.outbox.taken(), now);
                false
            }
            Poll::Ready(Ok(())) => {
                self.unwritten = None;
                self.stall.freed(now);
                self.to_client.written(&now);
                true
            }
            Poll::Ready(Err(error)) => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    tracing::warn!(%error, "writing to the client failed; taken as its departure");
                }
                self.leave(now());
                true
            }
        };
        if self.outbox.poll_reader_gone(cx).is_ready() {
            self.outbox.close();
            self.leave(now());
        }
        flushed
    }

    fn poll_heads(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(sent)) = self.sending.poll_next_unpin(cx) {
            moved = true;
            // An error here is an exchange that was given up.
            if let Ok((key, sent)) = sent {
                self.handle_head(key, sent);
            }
        }
        moved
    }

    /// Takes what one body brings; the rest waits until that is written.
    fn poll_bodies(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some((key, step))) = self.reading.poll_next_unpin(cx) else { return false };
        self.handle_step(key, step);
        true
    }

    fn advance_phase(&mut self, is_flushed: bool) -> bool {
        match self.phase {
            Phase::Running if self.intake.has_ended() && self.waiting.is_empty() => {
                tracing::debug!("the client's stream has ended");
                self.drain(now());
            }
            Phase::Draining if is_flushed && !self.is_needed() => self.leave(now()),
            Phase::Leaving if self.posted.is_empty() => self.phase = Phase::Over,
            _ => return false,
        }
        true
    }

    /// Whether the client still waits for something.
    fn is_needed(&self) -> bool {
        !self.waiting.is_empty()
            || !self.held.is_empty()
            || self.posted.values().any(|posted| posted.is_needed(&self.session))
            || self.mode.is_needed(&self.session)
    }

    fn handle_told(&mut self, told: Told, now: Instant) {
        tracing::info!("told to stop");
        match (told, self.phase) {
            (_, Phase::Over) | (Told::Drain(_), Phase::Leaving) => {}
            (Told::Stop, Phase::Leaving) => self.phase = Phase::Over,
            (Told::Stop, _) => {
                self.cause = Cause::Stopped;
                self.leave(now);
            }
            (Told::Drain(timeout), _) => {
                self.cause = Cause::Stopped;
                self.options.drain = Some(timeout);
                self.drain(now);
            }
        }
    }

    fn handle_due(&mut self, now: Instant) {
        self.due = None;
        match self.phase {
            Phase::Running | Phase::Over => {}
            Phase::Leaving => {
                tracing::debug!("the server does not say that it took the end of the session");
                self.phase = Phase::Over;
            }
            Phase::Draining => {
                let what = "answering after the end of the client's input".into();
                let timeout = Timeout { what, after: self.options.drain.unwrap_or_default() };
                tracing::warn!("the drain deadline has passed with requests unanswered");
                self.options.resources.metrics.timeouts.add((TimeoutOf::Drain,), 1);
                self.orphans += self.give_up(&Reason::Timeout(timeout), now);
            }
        }
    }

    /// Asks nothing more of the client; ends when everything it asked is answered and written.
    fn drain(&mut self, now: Instant) {
        self.intake.abandon();
        self.phase = Phase::Draining;
        self.due = self.options.drain.map(|drain| now + drain);
    }

    /// Answers everything that is unanswered, and cuts off what could have answered it. Returns how many
    /// requests there were.
    fn give_up(&mut self, reason: &Reason, now: Instant) -> usize {
        self.gate = None;
        self.abort_all();
        let mut held = std::mem::take(&mut self.held);
        let mut waiting = std::mem::take(&mut self.waiting);
        let unposted = std::iter::from_fn(|| held.pop().or_else(|| waiting.pop_front()));
        for outgoing in unposted.chain(self.reopening.take()) {
            if !outgoing.is_noted {
                // So that it is answered with the others; that it goes nowhere is all there is to it.
                let _ = self.session.handle(StreamKey::DOWNSTREAM, outgoing.message(), now);
            }
        }
        let mut answered = 0;
        while let Some((_, reply)) = self.session.poll_orphan(StreamKey::UPSTREAM, reason) {
            self.push_reply(StreamKey::UPSTREAM, &reply);
            answered += 1;
        }
        answered
    }

    /// Cuts everything off, and tells the server that the session has ended, where there is one (rule G12).
    fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Leaving | Phase::Over) {
            return;
        }
        self.intake.abandon();
        self.waiting = Waiting::default();
        self.held = Held::default();
        self.abort_all();
        self.phase = Phase::Leaving;
        self.due = Some(now + PATIENCE);
        self.delete_session();
    }

    fn abort_all(&mut self) {
        for posted in std::mem::take(&mut self.posted).into_values() {
            posted.abort.abort();
        }
        self.asking = 0;
        self.lingering.clear();
        // At once: whoever waits for these to be polled waits for a client that may not read.
        self.sending = FuturesUnordered::new();
        self.reading = SelectAll::new();
    }

    /// Writes messages of ours to whom they are for.
    fn reply(&mut self, replies: &[(StreamKey, Reply)]) {
        for (to, reply) in replies {
            match *to {
                StreamKey::UPSTREAM => self.answer_server(reply),
                _ => self.push_reply(StreamKey::DOWNSTREAM, reply),
            }
        }
    }

    /// Answers the client, in place of the server or about a message of `of`.
    fn push_reply(&mut self, of: StreamKey, reply: &Reply) {
        count_error(&self.options.resources.metrics, reply.reason(), of);
        let message = self.options.resources.budget.written(|message| reply.write(message));
        self.outbox.push_line(message);
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("the client ended"),
            Self::Server => f.write_str("the server ended its stream"),
            Self::Stopped => f.write_str("we were told to stop"),
            Self::Unreachable(what) => f.write_str(what),
            Self::Timeout(timeout) => timeout.fmt(f),
        }
    }
}

/// How long the server may take to say that it took the end of the session.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most streams that the server leaves open although nothing is awaited of them; beyond, the oldest is closed.
const MAX_LINGERING: usize = 16;
