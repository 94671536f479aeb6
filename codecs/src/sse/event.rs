//! Events: one alone ([`Event`]), borrowed ([`EventRef`]), or many in one block ([`EventBatch`]).
//!
//! An event is its data, its type and the last event id at the moment it was dispatched. Types and ids
//! are short and outlive their block (an id holds for all later events), so where they must be kept they
//! are kept by value; data never is.

use std::{borrow::Cow, fmt};

#[cfg(any(feature = "tokio-util", feature = "futures"))]
use bytes::Buf;
use bytes::Bytes;

use super::{
    SseEncodeError,
    place::{Found, Place, Text},
};
use crate::Frame;

/// One event of a batch, borrowed.
///
/// `Debug` shows lengths only: payloads never reach a log.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    batch: &'a EventBatch,
    found: &'a Found,
}

/// One event, owned: what the adapters yield and what [`SseEncoder`](super::SseEncoder) takes.
///
/// The data is a counted reference; type and id are kept by value (up to 62 bytes of each without an
/// allocation), so an id that is kept pins no buffer.
///
/// `Debug` shows lengths only.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use shadowcat_codecs::sse::{Event, SseEncodeError};
///
/// let event = Event::new(Bytes::from_static(b"{}")).with_event("progress")?.with_id("7")?;
/// assert_eq!((event.event(), event.id()), (&b"progress"[..], Some(&b"7"[..])));
/// assert!(matches!(event.with_id("7\n8"), Err(SseEncodeError::Id { at: 1 })));
/// # Ok::<(), SseEncodeError>(())
/// ```
#[derive(Clone)]
pub struct Event {
    data: Frame,
    /// Empty if the event names no type.
    event: Text,
    id: Option<Text>,
}

/// The events found in one block.
#[derive(Clone, Default)]
pub struct EventBatch {
    block: Bytes,
    /// Data that does not lie in `block` as it is: joined, or begun in an earlier body. And types and ids that
    /// were in the way when data was joined in place.
    joined: Bytes,
    found: Vec<Found>,
    /// The type an event was given before this block.
    event: Text,
    /// The last event id as it was before this block.
    id: Text,
}

/// Room for the events of one batch, reused from batch to batch.
#[derive(Debug, Default)]
pub struct EventTable {
    pub(super) found: Vec<Found>,
}

const _: () = assert!(size_of::<EventBatch>() <= 256, "batches travel by value");

impl<'a> EventRef<'a> {
    /// The data, several `data` lines joined by LF. Not necessarily UTF-8.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.found.data.of(if self.found.is_joined() { &self.batch.joined } else { &self.batch.block })
    }

    /// The event's type; `message` if it named none.
    #[must_use]
    pub fn event(&self) -> &'a [u8] {
        self.batch.text(self.found.event, &self.batch.event).unwrap_or(MESSAGE)
    }

    /// The last event id when the event was dispatched: its own, or that of the latest event before it
    /// that had one. `None` as long as the stream had no id; `Some` and empty after an `id` without value.
    #[must_use]
    pub fn id(&self) -> Option<&'a [u8]> {
        self.batch.text(self.found.id, &self.batch.id)
    }

    /// Stream offset of the first byte of the event's first `data`, `event` or `id` line.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.found.at()
    }

    /// The data as text; what is not UTF-8 is replaced. The same text as if the stream had been decoded
    /// before it was cut, as the specification does it, because line ends, colons and spaces are ASCII.
    #[must_use]
    pub fn data_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.data())
    }

    fn to_owned(self, data: Bytes) -> Event {
        let event = self.batch.text(self.found.event, &self.batch.event).unwrap_or_default();
        Event { data: data.into(), event: Text::copied(event), id: self.id().map(Text::copied) }
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (data, event, id) = (self.data().len(), self.event().len(), self.id().map(<[u8]>::len));
        write!(f, "EventRef(data {data} bytes, event {event} bytes, id {id:?} bytes, at {})", self.at())
    }
}

impl Event {
    /// An event of type `message` without an id.
    #[must_use]
    pub fn new(data: impl Into<Frame>) -> Self {
        Self { data: data.into(), event: Text::EMPTY, id: None }
    }

    /// Gives the event a type; an empty one stands for `message`. Copies it (a named copy, and an
    /// allocation if it is longer than 62 bytes).
    ///
    /// # Errors
    ///
    /// [`SseEncodeError::Event`] if it holds a line end.
    pub fn with_event(mut self, event: impl AsRef<[u8]>) -> Result<Self, SseEncodeError> {
        let event = event.as_ref();
        if let Some(at) = memchr::memchr2(b'\r', b'\n', event) {
            return Err(SseEncodeError::Event { at });
        }
        self.event = Text::copied(event);
        Ok(self)
    }

    /// Gives the event an id; an empty one takes back the ids before it. Copies it, as
    /// [`with_event`](Self::with_event) does.
    ///
    /// # Errors
    ///
    /// [`SseEncodeError::Id`] if it holds a line end or a NUL.
    pub fn with_id(mut self, id: impl AsRef<[u8]>) -> Result<Self, SseEncodeError> {
        let id = id.as_ref();
        if let Some(at) = memchr::memchr3(b'\r', b'\n', 0, id) {
            return Err(SseEncodeError::Id { at });
        }
        self.id = Some(Text::copied(id));
        Ok(self)
    }

    /// The data, several `data` lines joined by LF. Not necessarily UTF-8.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The event's type; `message` if it named none.
    #[must_use]
    pub fn event(&self) -> &[u8] {
        self.named_event().unwrap_or(MESSAGE)
    }

    /// The event's id. On a decoded event this is the last event id, as [`EventRef::id`].
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_ref().map(Text::bytes)
    }

    /// As [`EventRef::data_text`].
    #[must_use]
    pub fn data_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }

    /// The data alone.
    #[must_use]
    pub fn into_data(self) -> Frame {
        self.data
    }

    pub(super) fn named_event(&self) -> Option<&[u8]> {
        Some(self.event.bytes()).filter(|event| !event.is_empty())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (data, event, id) = (self.data.len(), self.event().len(), self.id().map(<[u8]>::len));
        write!(f, "Event(data {data} bytes, event {event} bytes, id {id:?} bytes)")
    }
}

impl EventBatch {
    pub(super) fn new(block: Bytes, joined: Bytes, table: &mut EventTable, event: Text, id: Text) -> Self {
        Self { block, joined, found: std::mem::take(&mut table.found), event, id }
    }

    /// Number of events; never 0 when a decoder returned this batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The events in stream order, without touching a reference count.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> + DoubleEndedIterator {
        self.found.iter().map(|found| EventRef { batch: self, found })
    }

    /// The `index`th event. Its data is a counted reference to the block.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Event> {
        let found = self.found.get(index)?;
        let buffer = if found.is_joined() { &self.joined } else { &self.block };
        let data = buffer.slice(found.data.start()..found.data.end());
        Some(EventRef { batch: self, found }.to_owned(data))
    }

    /// As [`get`](Self::get), but if it is the last event, the block's own reference goes along and no count is
    /// touched; what is left of the batch then is only good for recycling.
    #[cfg(any(feature = "tokio-util", feature = "futures"))]
    pub(crate) fn take(&mut self, index: usize) -> Option<Event> {
        if index + 1 < self.found.len() {
            return self.get(index);
        }
        let found = *self.found.get(index)?;
        let event = EventRef { batch: self, found: &found }.to_owned(Bytes::new());
        let mut data = std::mem::take(if found.is_joined() { &mut self.joined } else { &mut self.block });
        data.truncate(found.data.end());
        data.advance(found.data.start());
        self.found.clear();
        Some(Event { data: data.into(), ..event })
    }

    #[inline]
    fn text<'a>(&'a self, place: Place, carried: &'a Text) -> Option<&'a [u8]> {
        match place {
            Place::NOWHERE => None,
            Place::CARRIED => Some(carried.bytes()),
            _ => Some(place.of(&self.block, &self.joined)),
        }
    }
}

impl fmt::Debug for EventBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl EventTable {
    /// An empty table. Nothing is allocated until the first event.
    #[must_use]
    pub const fn new() -> Self {
        Self { found: Vec::new() }
    }

    /// Takes back the allocation of a batch that is no longer needed, so that the next batch is built
    /// without one.
    pub fn recycle(&mut self, batch: EventBatch) {
        if batch.found.capacity() > self.found.capacity() {
            self.found = batch.found;
            self.found.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// The type of an event that names none.
const MESSAGE: &[u8] = b"message";
