//! The exchanges that wait for something from one child: how each is answered, and who is gone.
//!
//! A lane begins undecided. If the first thing it gets is its last, that is a plain JSON reply; anything
//! else, or a silence of [`OPEN_AFTER`], makes it an event stream (rule M4). What does not fit into a
//! lane's queue waits here, in order, and nothing more is read from the child meanwhile, unless the caller
//! would rather cut the lane.

mod event;
mod lane;

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use http::StatusCode;
use shadowcat_codecs::sse::KEEP_ALIVE;
use tokio::sync::oneshot;

use self::{
    event::{as_event, pass_event},
    lane::{Departure, Lane, State},
};
use super::pieces::Pieces;
use crate::{
    budget::{Allowance, SMALL_LEN},
    link::waits::Stall,
    session::{Reply, StreamKey},
    telemetry::metrics::{Metrics, labels::CopyReason},
    transport::http::body::{Queue, QueueError},
    verify::Check,
};

/// All lanes of one child.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<StreamKey, Lane>,
    /// Resolve when the exchange behind a lane is gone.
    departures: FuturesUnordered<Departure>,
    /// Messages whose lane is full, in order. Invariant: only lanes that are pausable.
    stalled: VecDeque<(StreamKey, Pieces)>,
    /// When silent lanes are looked for. Invariant: no lane is silent for too long before, and `None` only
    /// while there is no lane, so that a child without exchanges wakes nobody.
    due: Option<Instant>,
    /// With `--verify`.
    check: Option<Box<Check>>,
    /// How long an event stream may be silent.
    keep_alive: Duration,
    /// How long a lane may be stalled; for ever if `None`.
    patience: Option<Duration>,
    stall: Stall,
    metrics: Metrics,
}

/// How an exchange begins to be answered.
#[derive(Debug)]
pub(super) enum Opening {
    /// With one message, whole.
    Json {
        status: StatusCode,
        message: Pieces,
        /// Whether the session ended with it, as one does whose `initialize` failed.
        ends_session: bool,
        /// How long the child took.
        waited: Duration,
    },
    /// With events; how long it took to the first, or until it was clear that there would be some.
    Events(Queue, Duration),
    /// With nothing: 202.
    Accepted,
    /// With an error of ours.
    Refused(Reply),
}

/// What an exchange leaves with the child's task.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) answer: oneshot::Sender<Opening>,
    /// Fails when the exchange is gone: its other end lives as long as the reply's body.
    pub(super) presence: oneshot::Receiver<()>,
    /// Room for what waits for it.
    pub(super) allowance: Allowance,
}

/// What became of a message for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    Yes,
    /// There is no such lane any more, or its client left at this moment.
    Gone,
    /// The lane is full, and was not pausable. Nothing was delivered.
    Full,
    /// The memory budget has no room for it, the lane is not pausable, and it is not the last. Nothing was delivered.
    NoRoom,
}

/// One message for a lane.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) pieces: Pieces,
    /// Event id, if the stream can be resumed.
    pub(super) event: Option<String>,
    /// Whether it is the last one.
    pub(super) is_last: bool,
    /// Status of a plain reply.
    pub(super) status: StatusCode,
    /// Whether the session ends with it.
    pub(super) ends_session: bool,
    /// When the child was read from.
    pub(super) heard: Instant,
}

/// An exchange that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departed {
    pub(super) key: StreamKey,
    /// Whether its client had been sent the beginning of an answer.
    pub(super) had_begun: bool,
}

impl Lanes {
    /// No lane yet; none of them will be silent for longer than `keep_alive`. What enters a lane is held against what
    /// the child said, if `check` is there.
    pub(super) fn new(keep_alive: Duration, check: Option<Box<Check>>, metrics: Metrics) -> Self {
        let (lanes, departures, stalled) = (HashMap::new(), FuturesUnordered::new(), VecDeque::new());
        let (patience, stall) = (None, Stall::default());
        Self { lanes, departures, stalled, due: None, check, keep_alive, patience, stall, metrics }
    }

    /// The same; a lane whose reader takes nothing for as long as `patience` is [too slow](Self::too_slow). In `stall`
    /// is counted how long the child is kept waiting.
    pub(super) fn with_patience(self, patience: Option<Duration>, stall: Stall) -> Self {
        Self { patience, stall, ..self }
    }

    /// Takes an exchange in.
    pub(super) fn open(&mut self, key: StreamKey, seat: Seat, is_pausable: bool, now: Instant) {
        let Seat { answer, presence, allowance } = seat;
        self.departures.push(Departure(key, presence));
        let state = State::Undecided(answer);
        let (is_ending, has_begun, stalled) = (false, false, None);
        let lane = Lane { state, allowance, is_pausable, opened: now, written: now, is_ending, has_begun, stalled };
        self.lanes.insert(key, lane);
        let due = now + OPEN_AFTER.min(self.keep_alive);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Makes a lane an event stream, whether or not there is something to say yet. `first` goes out first.
    pub(super) fn open_events(&mut self, key: StreamKey, first: Option<Bytes>, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.written = now;
            if let (Some(queue), Some(first)) = (lane.events(now), first) {
                // A stream that has just begun is not full.
                let _ = queue.try_send([first]);
            }
        }
    }

    /// Delivers one message.
    pub(super) fn deliver(&mut self, key: StreamKey, letter: Letter, now: Instant) -> Delivered {
        let Letter { pieces, event, is_last, status, ends_session, heard } = letter;
        if event.is_some() {
            self.metrics.copied(CopyReason::Replay, pieces.len());
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return Delivered::Gone };
        lane.written = now;
        if is_last && matches!(lane.state, State::Undecided(_)) {
            let Some(Lane { state: State::Undecided(answer), opened, .. }) = self.lanes.remove(&key) else {
                return Delivered::Gone;
            };
            let waited = heard.saturating_duration_since(opened);
            if let (Some(check), Some(seen)) = (&mut self.check, pieces.seen()) {
                check.pass(seen, pieces.edits(), pieces.iter().map(|piece| &**piece));
            }
            let sent = answer.send(Opening::Json { status, message: pieces, ends_session, waited });
            return if sent.is_ok() { Delivered::Yes } else { Delivered::Gone };
        }
        // What is longer holds room of its own. Without room for a copy, what waits is a part of what was read: of a child
        // that many share only the last message of each, as a slow reader holds all of what was read then.
        let charge = if pieces.len() <= SMALL_LEN { lane.allowance.try_take(pieces.len() + EVENT_LEN) } else { None };
        if charge.is_none() && pieces.len() <= SMALL_LEN && !lane.is_pausable && !is_last {
            return Delivered::NoRoom;
        }
        let held = self.check.as_ref().and_then(|_| Some((pieces.seen()?, pieces.edits())));
        let event = as_event(pieces, event, charge, &self.metrics);
        if let (Some(check), Some((seen, edits))) = (&mut self.check, held) {
            pass_event(check, seen, edits, &event);
        }
        let waits = lane.is_pausable && self.stalled.iter().any(|(stalled, _)| *stalled == key);
        let sent = match lane.events(heard) {
            _ if waits => Err(QueueError::Full { max: 0 }),
            Some(queue) => queue.try_send(event.iter().cloned()),
            None => Err(QueueError::Gone),
        };
        match sent {
            Ok(()) if is_last => drop(self.lanes.remove(&key)),
            // The lane of a reader that is gone stays until it departs: that is how the caller learns of it.
            Ok(()) | Err(QueueError::Gone) => {}
            Err(QueueError::Full { .. }) if lane.is_pausable => {
                lane.is_ending = is_last;
                lane.stalled.get_or_insert(now);
                self.stall.blocked(0, || now);
                self.stalled.push_back((key, event));
            }
            Err(QueueError::Full { .. }) => return Delivered::Full,
        }
        Delivered::Yes
    }

    /// Refuses an exchange that has not begun to be answered; ends it otherwise.
    pub(super) fn refuse(&mut self, key: StreamKey, reply: Reply) {
        if let Some(Lane { state: State::Undecided(answer), .. }) = self.lanes.remove(&key) {
            let _ = answer.send(Opening::Refused(reply));
        }
    }

    /// Ends a lane regularly, behind what is stalled. An exchange that was never answered, because its request
    /// was cancelled, gets a stream of no events: a 202 would not be an answer to a request (Rule H6).
    pub(super) fn close(&mut self, key: StreamKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if self.stalled.iter().any(|(stalled, _)| *stalled == key) {
            lane.is_ending = true;
        } else {
            let _ = lane.events(lane.written);
            self.lanes.remove(&key);
        }
    }

    /// Ends a lane as a break.
    pub(super) fn cut(&mut self, key: StreamKey, why: &str) {
        self.stalled.retain(|(stalled, _)| *stalled != key);
        if let Some(Lane { state: State::Events(queue), .. }) = self.lanes.remove(&key) {
            queue.abort(why);
        }
    }

    /// Ends every lane: a break for those whose stream has begun.
    pub(super) fn cut_all(&mut self, why: &str) {
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        keys.into_iter().for_each(|key| self.cut(key, why));
    }

    /// How long a lane had been open at `now`.
    pub(super) fn age(&self, key: StreamKey, now: Instant) -> Option<Duration> {
        self.lanes.get(&key).map(|lane| now.saturating_duration_since(lane.opened))
    }

    /// Whether a lane's answer has begun as a stream of events.
    pub(super) fn is_streaming(&self, key: StreamKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| matches!(lane.state, State::Events(_)))
    }

    /// Whether something waits for a slow reader.
    pub(super) fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// The next exchange that is gone, though its lane was still there. Pending while there is no lane.
    /// Cancel-safe.
    pub(super) async fn departed(&mut self) -> Departed {
        loop {
            match self.departures.next().await {
                Some(key) => {
                    if let Some(lane) = self.lanes.remove(&key) {
                        self.stalled.retain(|(stalled, _)| *stalled != key);
                        return Departed { key, had_begun: lane.has_begun };
                    }
                }
                None => return std::future::pending().await,
            }
        }
    }

    /// Something to wait for while [`is_stalled`](Self::is_stalled): ready when [`unstall`](Self::unstall) is
    /// worth a try.
    pub(super) fn room(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.stalled.front().and_then(|(key, _)| match &self.lanes.get(key)?.state {
            State::Events(queue) => Some(queue.clone()),
            State::Undecided(_) => None,
        });
        async move {
            if let Some(queue) = queue {
                queue.ready().await;
            }
        }
    }

    /// When the reader that is waited for is [too slow](Self::too_slow), unless it takes something before.
    pub(super) fn patience_due(&self) -> Option<Instant> {
        let (key, _) = self.stalled.front()?;
        Some(self.lanes.get(key)?.stalled? + self.patience?)
    }

    /// The lane that is waited for, if its reader has taken nothing for too long. It is to be [cut](Self::cut).
    pub(super) fn too_slow(&mut self, now: Instant) -> Option<StreamKey> {
        // Whoever is behind the first may have read meanwhile.
        self.unstall(now);
        self.patience_due().filter(|due| *due <= now)?;
        self.stalled.front().map(|(key, _)| *key)
    }

    /// Whether something waits for a slow reader; if not, nothing does from now on.
    pub(super) fn note_stall(&mut self, clock: impl FnOnce() -> Instant) -> bool {
        if self.stalled.is_empty() {
            self.stall.freed(clock);
        }
        !self.stalled.is_empty()
    }

    /// Delivers what had no room.
    pub(super) fn unstall(&mut self, now: Instant) {
        while let Some((key, event)) = self.stalled.pop_front() {
            let has_more = self.stalled.iter().any(|(stalled, _)| *stalled == key);
            let Some(Lane { state: State::Events(queue), is_ending, stalled, .. }) = self.lanes.get_mut(&key) else {
                continue;
            };
            match queue.try_send(event.iter().cloned()) {
                Err(QueueError::Full { .. }) => {
                    self.stalled.push_front((key, event));
                    return;
                }
                Ok(()) if *is_ending && !has_more => {
                    self.lanes.remove(&key);
                }
                Ok(()) | Err(QueueError::Gone) => *stalled = has_more.then_some(now),
            }
        }
    }

    /// When [`keep_alive`](Self::keep_alive) is to be called; never while there is no lane.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Says something on every lane that was silent for long: intermediaries cut idle connections, and some
    /// keep even the headers back until there is a body (Rules H11, C7). Returns the lanes that were undecided:
    /// they are to be [opened](Self::open_events).
    pub(super) fn keep_alive(&mut self, now: Instant) -> Vec<StreamKey> {
        let mut silent = Vec::new();
        self.due = None;
        for (&key, lane) in &mut self.lanes {
            let allowed = match lane.state {
                State::Undecided(_) => OPEN_AFTER.min(self.keep_alive),
                State::Events(_) => self.keep_alive,
            };
            if now.saturating_duration_since(lane.written) >= allowed {
                lane.written = now;
                match &lane.state {
                    State::Undecided(_) => silent.push(key),
                    // A full queue is no silence.
                    State::Events(queue) => drop(queue.try_send([Bytes::from_static(KEEP_ALIVE)])),
                }
            }
            let due = lane.written + allowed;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
        silent
    }
}

/// What an event may be longer than its message: its id and field names.
const EVENT_LEN: usize = 64;

/// How long an exchange may be undecided.
const OPEN_AFTER: Duration = Duration::from_secs(5);
