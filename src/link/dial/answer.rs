//! The body of one answer as it is read: events as they come, or one JSON text as a whole.
//!
//! Reads when it is polled and only then, so that a server waits for a client that does not read.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::Body as _;
use shadowcat_codecs::{
    FrameError, Limits,
    sse::{EventBatch, EventTable, SseDecoder},
};

use super::posted::Key;
use crate::transport::http::Incoming;

/// A body, and whose answer it is.
#[derive(Debug)]
pub(super) struct Answer {
    key: Key,
    /// `None` once it has ended.
    body: Option<Incoming>,
    read: Read,
}

/// What one look at a body brought.
#[derive(Debug)]
pub(super) enum Step {
    /// Events that came together.
    Events(EventBatch),
    /// An event is longer than the limit, and is skipped.
    Skipped(FrameError),
    /// The whole of a body that is no event stream. Nothing follows.
    Whole(Bytes),
    /// Nothing follows.
    Ended(End),
}

/// How a body ended.
#[derive(Debug, Default)]
pub(super) struct End {
    /// What broke it off, if it did not end regularly.
    pub(super) broken: Option<String>,
    /// The body was longer than this.
    pub(super) too_long: Option<usize>,
    /// Behind which event the stream can be resumed.
    pub(super) last_id: Option<Box<[u8]>>,
    /// How long the server wants us to wait before.
    pub(super) retry: Option<Duration>,
}

#[derive(Debug)]
enum Read {
    Events { decoder: Box<SseDecoder>, table: EventTable, unread: Bytes },
    Whole { read: Whole, max: usize },
}

/// What was read of a body that is wanted in one piece.
#[derive(Debug)]
enum Whole {
    /// As it came: one piece costs no copy.
    One(Bytes),
    Joined(BytesMut),
}

impl Answer {
    /// A body that is an event stream.
    pub(super) fn events(key: Key, body: Incoming, limits: Limits) -> Self {
        let decoder = Box::new(SseDecoder::new(limits));
        let read = Read::Events { decoder, table: EventTable::new(), unread: Bytes::new() };
        Self { key, body: Some(body), read }
    }

    /// A body that is read whole, unless it is longer than `max`.
    pub(super) fn whole(key: Key, body: Incoming, max: usize) -> Self {
        Self { key, body: Some(body), read: Read::Whole { read: Whole::One(Bytes::new()), max } }
    }

    fn end(&mut self, broken: Option<String>) -> Step {
        self.body = None;
        match &mut self.read {
            Read::Events { decoder, .. } => {
                let last_id = decoder.last_id().filter(|id| !id.is_empty()).map(Box::from);
                Step::Ended(End { broken, last_id, retry: decoder.retry(), too_long: None })
            }
            Read::Whole { read, .. } if broken.is_none() => {
                Step::Whole(match std::mem::replace(read, Whole::One(Bytes::new())) {
                    Whole::One(bytes) => bytes,
                    Whole::Joined(bytes) => bytes.freeze(),
                })
            }
            Read::Whole { .. } => Step::Ended(End { broken, ..End::default() }),
        }
    }
}

impl Stream for Answer {
    type Item = (Key, Step);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Read::Events { decoder, table, unread } = &mut this.read {
                match decoder.push(unread, table) {
                    Ok(Some(batch)) => return Poll::Ready(Some((this.key, Step::Events(batch)))),
                    Err(error) => return Poll::Ready(Some((this.key, Step::Skipped(error)))),
                    Ok(None) => {}
                }
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            let step = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers say nothing to us.
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut this.read {
                        Read::Events { unread, .. } => {
                            *unread = data;
                            continue;
                        }
                        Read::Whole { read, max } => {
                            let hint = body.size_hint().lower();
                            if read.push(data, hint, *max) {
                                continue;
                            }
                            let too_long = Some(*max);
                            this.body = None;
                            Step::Ended(End { too_long, ..End::default() })
                        }
                    }
                }
                Some(Err(error)) => this.end(Some(causes(&error))),
                None => this.end(None),
            };
            return Poll::Ready(Some((this.key, step)));
        }
    }
}

impl Whole {
    /// Adds a piece, of which at least `more` bytes follow. False if that is longer than `max`.
    fn push(&mut self, piece: Bytes, more: u64, max: usize) -> bool {
        let len = piece.len() + self.len();
        let expected = usize::try_from(more).unwrap_or(usize::MAX).saturating_add(len);
        if expected > max {
            return false;
        }
        match self {
            Self::One(bytes) if bytes.is_empty() => *bytes = piece,
            Self::One(bytes) => {
                // A named copy: a text in several pieces is joined.
                let mut joined = BytesMut::with_capacity(expected);
                joined.extend_from_slice(bytes);
                joined.extend_from_slice(&piece);
                *self = Self::Joined(joined);
            }
            Self::Joined(joined) => joined.extend_from_slice(&piece),
        }
        true
    }

    fn len(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }
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
