//! The body of one answer as it is read: events as they come, or one JSON text as a whole.
//!
//! Reads when it is polled and only then, so that a server waits for a client that does not read.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::Stream;
use http_body::Body as _;
use shadowcat_codecs::{
    FrameError, Limits,
    sse::{EventBatch, EventTable, SseDecoder},
};

use super::posted::Key;
use crate::{
    budget::{Allowance, Charges, Exhausted, Room, Toward},
    clock,
    link::{gathered::Gathered, waits::Alarm},
    session::Timeout,
    transport::http::Incoming,
};

/// A body, and whose answer it is.
#[derive(Debug)]
pub(super) struct Answer {
    key: Key,
    /// `None` once it has ended.
    body: Option<Incoming>,
    read: Read,
    /// How long it may bring nothing: an event stream.
    pause: Option<Duration>,
    /// How long it may while others wait for the room of its long message.
    patience: Duration,
    /// Since when there is nothing to be read.
    silent: Option<Instant>,
    /// When it was last looked whether others wait.
    looked: Option<Instant>,
    alarm: Alarm,
}

/// What one look at a body brought.
#[derive(Debug)]
pub(super) enum Step {
    /// Events that came together, and what they hold of the budget if they were joined.
    Events(EventBatch, Option<Charges>),
    /// Something came, but no event has ended: a comment, or a part of one.
    Heard,
    /// An event is longer than the limit, and is skipped.
    Skipped(FrameError),
    /// The whole of a body that is no event stream. Nothing follows.
    Whole {
        body: Bytes,
        /// Whether it came in pieces.
        is_joined: bool,
    },
    /// Nothing follows.
    Ended(End),
}

/// How a body ended.
#[derive(Debug, Default)]
pub(super) struct End {
    /// What broke it off, if it did not end regularly.
    pub(super) broken: Option<String>,
    /// The body was longer than this, and what it said of its length.
    pub(super) too_long: Option<(usize, Option<u64>)>,
    /// There was no room for it.
    pub(super) no_room: Option<Exhausted>,
    /// It brought nothing for too long, and was broken off for that.
    pub(super) timeout: Option<Timeout>,
    /// Behind which event the stream can be resumed.
    pub(super) last_id: Option<Box<[u8]>>,
    /// How long the server wants us to wait before.
    pub(super) retry: Option<Duration>,
}

#[derive(Debug)]
enum Read {
    Events {
        decoder: Box<SseDecoder>,
        table: EventTable,
        unread: Bytes,
        /// For what the decoder keeps.
        room: Room,
        /// Whether nothing of `unread` was looked at.
        is_new: bool,
    },
    Whole {
        gathered: Gathered,
        max: usize,
        /// A piece for which there was no room yet; empty if there is none.
        piece: Bytes,
    },
}

impl Answer {
    /// A body that is an event stream. Read as there is room for the event that is unfinished.
    pub(super) fn events(key: Key, body: Incoming, limits: Limits, allowance: &Allowance) -> Self {
        let (decoder, room) =
            (Box::new(SseDecoder::new(limits).with_told_growth()), Room::new(allowance, Toward::Client));
        let read = Read::Events { decoder, table: EventTable::new(), unread: Bytes::new(), room, is_new: false };
        Self::new(key, body, read, allowance)
    }

    /// A body that is read whole, unless it is longer than `max`, and as there is room for it.
    pub(super) fn whole(key: Key, body: Incoming, max: usize, allowance: &Allowance) -> Self {
        let gathered = Gathered::new(allowance, Toward::Client, max);
        Self::new(key, body, Read::Whole { gathered, max, piece: Bytes::new() }, allowance)
    }

    fn new(key: Key, body: Incoming, read: Read, allowance: &Allowance) -> Self {
        let patience = allowance.budget().wait();
        Self { key, body: Some(body), read, pause: None, patience, silent: None, looked: None, alarm: Alarm::default() }
    }

    /// The same, which may pause for so long.
    pub(super) fn with_pause(self, pause: Option<Duration>) -> Self {
        Self { pause, ..self }
    }

    /// There is nothing to be read; ready when that is so for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Timeout> {
        if self.pause.is_none() && !self.read.room().is_large() {
            return Poll::Pending;
        }
        let silent = *self.silent.get_or_insert_with(now);
        loop {
            let room = self.read.room();
            let looked = self.looked.map_or(silent, |looked| looked.max(silent));
            let look = room.is_large().then(|| looked + self.patience);
            let due = self.pause.map(|pause| silent + pause);
            ready!(self.alarm.poll(cx, due.into_iter().chain(look).min()));
            let now = now();
            if let Some(after) = self.pause.filter(|_| due.is_some_and(|due| due <= now)) {
                return Poll::Ready(Timeout { what: "the next byte of an event stream".into(), after });
            }
            if room.keeps_others_waiting() {
                return Poll::Ready(Timeout::of_long_message(self.patience));
            }
            self.looked = Some(now);
        }
    }

    fn end(&mut self, broken: Option<String>) -> Step {
        self.body = None;
        match &mut self.read {
            Read::Events { decoder, .. } => {
                let last_id = decoder.last_id().filter(|id| !id.is_empty()).map(Box::from);
                Step::Ended(End { broken, last_id, retry: decoder.retry(), ..End::default() })
            }
            Read::Whole { gathered, .. } if broken.is_none() => {
                let is_joined = gathered.is_joined();
                Step::Whole { body: gathered.take(), is_joined }
            }
            Read::Whole { .. } => Step::Ended(End { broken, ..End::default() }),
        }
    }
}

impl Read {
    /// What the events that were read bring.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Step>, Exhausted>> {
        let Self::Events { decoder, table, unread, room, is_new } = self else { return Poll::Ready(Ok(None)) };
        // What begins in this piece is no more than it; what goes on may be long.
        if decoder.kept_len() > 0 && !unread.is_empty() {
            // One turn is enough for an event of any length that is kept.
            let whole_len = room.whole_len();
            ready!(room.poll_grow(cx, decoder.room_for(unread.len()).min(whole_len), whole_len))?;
        }
        let pushed = decoder.push(unread, table);
        let charges = match &pushed {
            Ok(Some(_)) if !room.is_empty() => Some(room.take().into_charges(usize::MAX)),
            _ => None,
        };
        let kept = decoder.kept_capacity();
        if !room.is_large() {
            room.shrink(kept);
            // If there is no room at once, it is waited for before more is taken.
            room.grows(kept, kept);
        } else if decoder.kept_len() == 0 {
            // The event was refused.
            drop(room.take());
        }
        let is_new = std::mem::take(is_new);
        Poll::Ready(Ok(match pushed {
            Ok(Some(batch)) => Some(Step::Events(batch, charges)),
            Err(error) => Some(Step::Skipped(error)),
            Ok(None) => is_new.then_some(Step::Heard),
        }))
    }

    /// Reads nothing of what is there.
    fn give_up(&mut self) {
        if let Self::Events { unread, .. } = self {
            unread.clear();
        }
    }

    fn room(&self) -> &Room {
        match self {
            Self::Events { room, .. } => room,
            Self::Whole { gathered, .. } => gathered.room(),
        }
    }
}

impl Stream for Answer {
    type Item = (Key, Step);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match ready!(this.read.poll_events(cx)) {
                Ok(Some(step)) => return Poll::Ready(Some((this.key, step))),
                Ok(None) => {}
                Err(exhausted) => {
                    let no_room = Some(exhausted);
                    this.body = None;
                    this.read.give_up();
                    return Poll::Ready(Some((this.key, Step::Ended(End { no_room, ..End::default() }))));
                }
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            if let Read::Whole { gathered, max, piece } = &mut this.read
                && !piece.is_empty()
            {
                let more = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                let expected = more.saturating_add(piece.len() + gathered.len());
                if expected > *max {
                    let declared = body.size_hint().exact().map(|_| expected as u64);
                    let too_long = Some((*max, declared));
                    this.body = None;
                    return Poll::Ready(Some((this.key, Step::Ended(End { too_long, ..End::default() }))));
                }
                let told = body.size_hint().exact().map(|_| expected);
                if let Err(exhausted) = ready!(gathered.poll_push(cx, piece, told)) {
                    let no_room = Some(exhausted);
                    this.body = None;
                    return Poll::Ready(Some((this.key, Step::Ended(End { no_room, ..End::default() }))));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                let timeout = ready!(this.poll_overdue(cx));
                let mut step = this.end(Some(timeout.to_string()));
                if let Step::Ended(end) = &mut step {
                    end.timeout = Some(timeout);
                }
                return Poll::Ready(Some((this.key, step)));
            };
            this.silent = None;
            let step = match frame {
                Some(Ok(frame)) => {
                    // Trailers say nothing to us.
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut this.read {
                        Read::Events { unread, is_new, .. } => (*unread, *is_new) = (data, true),
                        Read::Whole { piece, .. } => *piece = data,
                    }
                    continue;
                }
                Some(Err(error)) => this.end(Some(causes(&error))),
                None => this.end(None),
            };
            return Poll::Ready(Some((this.key, step)));
        }
    }
}

fn now() -> Instant {
    clock::now().into_std()
}

/// An error and what is behind it: HTTP libraries hide the cause.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
