//! What was sent on the event streams of one session, kept for a client that comes back for it.
//!
//! Bounded in bytes and in events; the oldest goes first, whatever stream it belongs to. An event's id is
//! the number of its stream and its number in the stream, `7-0`, `7-1`…: unique in the session over all
//! streams, and it says which stream to go on with (Rules G5, G6, MCP 2025-11-25, Transports). It is no
//! secret: it is looked up only in the store of the session that the request belongs to.
//!
//! What is not here: which stream a message belongs to, and connections.

use std::{collections::VecDeque, fmt, hash::RandomState};

use bytes::Bytes;
use hashbrown::HashMap;

use super::StreamKey;

/// The events of one session that can still be sent again. See the [module](self).
pub struct Replay {
    limits: ReplayLimits,
    /// In the order they were minted, all streams together.
    events: VecDeque<Event>,
    /// Invariant: the sum of `frame.len()` of `events`, and `bytes <= limits.max_bytes`.
    bytes: usize,
    streams: HashMap<StreamKey, Log, RandomState>,
    /// The streams in the order of their first event. Invariant: as `streams`.
    order: VecDeque<StreamKey>,
    evicted: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Most events. 0: nothing is kept and no ids are given out.
    pub max_events: usize,
    /// Most bytes of messages.
    pub max_bytes: usize,
    /// Most streams of which is known how far they got.
    pub max_streams: usize,
}

/// The id of one event, written `STREAM-COUNTER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    stream: StreamKey,
    /// Number of events of that stream before this one.
    counter: u64,
}

/// What a client that came back has missed.
#[derive(Debug)]
pub struct Missed {
    /// The stream its last event belongs to.
    pub stream: StreamKey,
    /// What was sent after it on that stream, in order.
    pub events: Vec<(EventId, Bytes)>,
    /// How many more were sent, but are no longer kept; they came before those in `events`.
    pub lost: u64,
}

/// Why a stream cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The text is none of our event ids.
    #[error("the last event id is none of this proxy's")]
    Malformed,
    /// This session never gave out that id.
    #[error("the last event id is none of this session's")]
    Unknown,
    /// The stream has ended and the client had all of it: there is nothing to come back for.
    #[error("the stream has ended, and nothing of it is missing")]
    Over,
}

struct Event {
    id: EventId,
    /// Empty for an event that only gave out its id.
    frame: Bytes,
}

#[derive(Clone, Copy)]
struct Log {
    /// Events given an id so far.
    minted: u64,
}

impl Replay {
    /// A store that has kept nothing yet.
    #[must_use]
    pub fn new(limits: ReplayLimits) -> Self {
        Self {
            limits,
            events: VecDeque::new(),
            bytes: 0,
            streams: HashMap::default(),
            order: VecDeque::new(),
            evicted: 0,
        }
    }

    /// The next id of `stream`; `frame` is kept under it. An empty frame stands for an event without data.
    /// `None` if nothing is kept at all.
    ///
    /// What is kept is copied out of the block it was read into, so that it holds neither the block nor what that is
    /// charged with: it is counted by [`kept_len`](Self::kept_len) alone.
    pub fn push(&mut self, stream: StreamKey, frame: &Bytes) -> Option<EventId> {
        if self.limits.max_events == 0 {
            return None;
        }
        let log = self.streams.entry(stream).or_insert_with(|| {
            self.order.push_back(stream);
            Log { minted: 0 }
        });
        let id = EventId { stream, counter: log.minted };
        log.minted += 1;
        while self.order.len() > self.limits.max_streams {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.streams.remove(&oldest));
        }
        if frame.len() > self.limits.max_bytes {
            // It would push out everything and still not fit.
            self.evicted += 1;
            return Some(id);
        }
        while self.events.len() >= self.limits.max_events || self.bytes + frame.len() > self.limits.max_bytes {
            if !self.evict_oldest() {
                break;
            }
        }
        self.bytes += frame.len();
        self.events.push_back(Event { id, frame: keep_copy(frame) });
        Some(id)
    }

    /// What was sent after `last_event_id`, on the same stream only (Rule G6).
    ///
    /// # Errors
    ///
    /// If the id is not one that this store gave out.
    pub fn after(&self, last_event_id: &[u8]) -> Result<Missed, ResumeError> {
        let last = EventId::parse(last_event_id).ok_or(ResumeError::Malformed)?;
        let log = self.streams.get(&last.stream).ok_or(ResumeError::Unknown)?;
        if last.counter >= log.minted {
            return Err(ResumeError::Unknown);
        }
        let kept = self.events.iter().filter(|event| event.id.stream == last.stream && event.id.counter > last.counter);
        let found = kept.clone().count() as u64;
        let lost = (log.minted - 1 - last.counter).saturating_sub(found);
        let events = kept.filter(|event| !event.frame.is_empty()).map(|event| (event.id, event.frame.clone()));
        Ok(Missed { stream: last.stream, events: events.collect(), lost })
    }

    /// Throws out the oldest events, and forgets the oldest streams once there is none, until what is kept takes `most`
    /// bytes or less.
    pub fn shrink(&mut self, most: usize) {
        while self.kept_len() > most && self.evict_oldest() {}
        while self.kept_len() > most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.streams.remove(&oldest);
        }
        self.events.shrink_to_fit();
        self.order.shrink_to_fit();
        self.streams.shrink_to_fit();
    }

    /// All the memory that what is kept takes, or a little more.
    #[must_use]
    pub fn kept_len(&self) -> usize {
        self.bytes + self.events.len() * EVENT_LEN + self.order.len() * STREAM_LEN
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.events.pop_front();
        if let Some(oldest) = &oldest {
            self.bytes -= oldest.frame.len();
            self.evicted += 1;
        }
        oldest.is_some()
    }

    /// Bytes of messages kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events that were thrown out, or never kept because they are too large.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, bytes) = (self.events.len(), self.bytes);
        f.debug_struct("Replay").field("events", &events).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Default for ReplayLimits {
    /// Enough for a connection that was lost for a moment: 256 events, 1 MiB, of 1024 streams.
    fn default() -> Self {
        Self { max_events: 256, max_bytes: 1 << 20, max_streams: 1024 }
    }
}

impl EventId {
    /// The stream the event was sent on.
    #[must_use]
    pub fn stream(self) -> StreamKey {
        self.stream
    }

    /// Reads exactly what `Display` writes: two decimal numbers without leading zeros.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (stream, counter) = text.split_once('-')?;
        let id = Self { stream: StreamKey::new(stream.parse().ok()?), counter: counter.parse().ok()? };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream.number(), self.counter)
    }
}

/// What outlives the read it came by: copied, because a slice of it would hold the whole block, and its charge, which
/// may be a turn that others wait for.
#[expect(clippy::disallowed_methods, reason = "this is the named copy")]
pub(super) fn keep_copy(frame: &Bytes) -> Bytes {
    Bytes::copy_from_slice(frame)
}

/// What an event takes beside its message: its place in a list that may have grown to twice what is in it, and what the
/// allocator needs for the copy.
const EVENT_LEN: usize = 2 * size_of::<Event>() + 32;

/// What a stream takes: its places in a table and in a list, either of them as above.
const STREAM_LEN: usize = 2 * (size_of::<(StreamKey, Log)>() + size_of::<StreamKey>()) + 2;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: StreamKey = StreamKey::new(7);
    const OTHER: StreamKey = StreamKey::new(8);

    fn store(max_events: usize, max_bytes: usize) -> Replay {
        Replay::new(ReplayLimits { max_events, max_bytes, max_streams: 4 })
    }

    fn push(replay: &mut Replay, stream: StreamKey, frame: &'static str) -> String {
        replay.push(stream, &Bytes::from_static(frame.as_bytes())).unwrap().to_string()
    }

    fn after(replay: &Replay, id: &str) -> (Vec<String>, u64) {
        let missed = replay.after(id.as_bytes()).unwrap();
        (missed.events.iter().map(|(_, frame)| String::from_utf8_lossy(frame).into_owned()).collect(), missed.lost)
    }

    /// Rules G5 and G6.
    #[test]
    fn only_what_was_missed_of_the_same_stream_is_sent_again() {
        let mut replay = store(9, 99);
        assert_eq!(push(&mut replay, ONE, "a"), "7-0");
        assert_eq!(push(&mut replay, OTHER, "b"), "8-0");
        assert_eq!(push(&mut replay, ONE, "c"), "7-1");
        assert_eq!(push(&mut replay, ONE, ""), "7-2");
        assert_eq!(push(&mut replay, ONE, "d"), "7-3");
        assert_eq!(after(&replay, "7-0"), (vec!["c".to_owned(), "d".to_owned()], 0));
        assert_eq!(after(&replay, "8-0"), (vec![], 0));
        assert_eq!(after(&replay, "7-3"), (vec![], 0));
    }

    #[test]
    fn what_was_evicted_is_reported_as_lost() {
        let mut replay = store(2, 99);
        let first = push(&mut replay, ONE, "a");
        for frame in ["b", "c", "d"] {
            push(&mut replay, ONE, frame);
        }
        assert_eq!(after(&replay, &first), (vec!["c".to_owned(), "d".to_owned()], 1));
        assert_eq!(after(&replay, "7-1"), (vec!["c".to_owned(), "d".to_owned()], 0));
        assert_eq!(replay.evicted(), 2);
    }

    #[test]
    fn bytes_are_bounded_and_a_frame_that_cannot_fit_pushes_nothing_out() {
        let mut replay = store(9, 4);
        push(&mut replay, ONE, "aa");
        push(&mut replay, ONE, "bb");
        push(&mut replay, ONE, "too long");
        assert_eq!((replay.bytes(), replay.evicted()), (4, 1));
        push(&mut replay, ONE, "c");
        assert_eq!((replay.bytes(), replay.evicted()), (3, 2));
        assert_eq!(after(&replay, "7-0"), (vec!["bb".to_owned(), "c".to_owned()], 1));
    }

    #[test]
    fn what_is_kept_shrinks_to_what_there_is_room_for_and_ids_go_on() {
        let mut replay = store(9, 99);
        let first = push(&mut replay, ONE, "aaaa");
        for frame in ["bbbb", "cccc"] {
            push(&mut replay, ONE, frame);
        }
        assert_eq!(replay.kept_len(), 12 + 3 * EVENT_LEN + STREAM_LEN);
        replay.shrink(replay.kept_len());
        assert_eq!((replay.bytes(), replay.evicted()), (12, 0));
        replay.shrink(replay.kept_len() - 1);
        assert_eq!(after(&replay, &first), (vec!["bbbb".to_owned(), "cccc".to_owned()], 0));
        replay.shrink(EVENT_LEN + STREAM_LEN + 4);
        assert_eq!(after(&replay, &first), (vec!["cccc".to_owned()], 1));
        assert_eq!(push(&mut replay, ONE, "d"), "7-3");
        replay.shrink(0);
        assert_eq!((replay.kept_len(), replay.after(first.as_bytes()).err()), (0, Some(ResumeError::Unknown)));
    }

    #[test]
    fn ids_of_nobody_are_refused() {
        let mut replay = store(9, 99);
        push(&mut replay, ONE, "a");
        for garbage in
            ["", "7", "7-", "-0", "07-0", "7-00", "+7-0", "7-0 ", "7-0-0", "7--0", "seven-0", "18446744073709551616-0"]
        {
            assert_eq!(replay.after(garbage.as_bytes()).err(), Some(ResumeError::Malformed), "{garbage}");
        }
        for unknown in ["7-1", "8-0", "7-18446744073709551615"] {
            assert_eq!(replay.after(unknown.as_bytes()).err(), Some(ResumeError::Unknown), "{unknown}");
        }
        assert_eq!(replay.after(b"7-\xff0").err(), Some(ResumeError::Malformed));
    }

    #[test]
    fn streams_are_bounded_and_nothing_is_kept_when_nothing_may_be() {
        let mut replay = store(9, 99);
        for key in 2..10 {
            push(&mut replay, StreamKey::new(key), "a");
        }
        assert_eq!(replay.after(b"2-0").err(), Some(ResumeError::Unknown));
        assert!(replay.after(b"9-0").is_ok());
        assert_eq!(store(0, 99).push(ONE, &Bytes::from_static(b"a")), None);
    }
}
