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
//! Order: a handshake is completed, and the listening stream has begun or was refused (for half a second at most), before
//! anything else is posted; requests run side by side; a notification or a response is posted when every request before it
//! has left, and is taken (202) before the next POST. A body is read only when everything before it has been written to the
//! client; stdin is read only when everything before it was posted.
//!
//! Nothing is posted twice, but for a closed list: what was refused with 404 because its session is gone goes
//! once to the next session, a redirect within the origin that keeps the method is followed, and `initialize`
//! goes on to HTTP+SSE where the server is that old.
//!
//! In the files beside this: `answer` reads bodies, `outward` posts, `heads` and `deliver` take
//! answers, `streams` listens and resumes, `reopen` replays the handshake, `two_endpoints` is HTTP+SSE,
//! `ending` is how a session goes to its end, and `outcome` what is said of it then.

mod answer;
mod deliver;
mod departure;
mod ending;
mod heads;
mod held;
mod held_against;
mod outcome;
mod outward;
mod overdue;
mod posted;
mod reopen;
mod streams;
mod two_endpoints;
mod waiting;

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{
    StreamExt as _,
    future::{Abortable, BoxFuture},
    stream::{FuturesUnordered, SelectAll},
    task::AtomicWaker,
};
use shadowcat_codecs::envelope::EnvelopeParser;
use tracing::Instrument as _;

use self::{
    answer::Answer,
    ending::Phase,
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
    signals::Stops,
    waits::{Alarm, Stall},
};
use crate::{
    budget::{Allowance, Charges, Toward},
    clock::{std_now as now, until},
    session::{Reply, Session, StreamKey, dialed::Dialed},
    telemetry::metrics::{
        Flow,
        labels::{Link, Side, To},
    },
    transport::{
        Reader, Writer,
        http::{Client, Incoming, SendError},
    },
};
pub use outcome::{Cause, Options, Outcome};

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
    /// A session has begun to listen: until the headers of the stream are there, but no longer than `until`. What the
    /// server asks on account of the next message may come by that stream alone, and servers do not keep it.
    Listening { key: Key, until: Instant },
    /// The remembered handshake is being replayed.
    Reopening,
    /// A server of HTTP+SSE has yet to say where to post.
    Endpoint,
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
    open.ends_by((&dial.cause).into());
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

/// Most streams that the server leaves open although nothing is awaited of them; beyond, the oldest is closed.
const MAX_LINGERING: usize = 16;
