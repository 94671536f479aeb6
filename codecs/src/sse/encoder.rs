//! [`SseEncoder`]: events to slices that can be written, and nothing that can break out of them.

use bytes::{Bytes, BytesMut};

use super::Event;

/// Writes events.
///
/// A line end inside the data — LF, CR or CRLF — would end the line or even the event, so each becomes
/// a further `data` line, which a decoder joins with LF. Types and ids with line ends cannot get into an
/// [`Event`]. Whatever the data holds, one event in is one event out.
///
/// What is written between two events is up to the caller: [`KEEP_ALIVE`] may be, anywhere else it would
/// break an event in two.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use shadowcat_codecs::sse::{Event, SseEncoder};
///
/// let event = Event::new(Bytes::from_static(b"{\n\n}")).with_id("7")?;
/// let written: Vec<u8> = SseEncoder::new().encode(event).slices().flatten().copied().collect();
/// assert_eq!(written, b"id: 7\ndata: {\ndata: \ndata: }\n\n");
/// # Ok::<(), shadowcat_codecs::sse::SseEncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SseEncoder;

/// One event with its framing, as slices to write.
#[derive(Debug, Clone)]
pub struct EncodedEvent {
    event: Event,
}

/// Why something cannot be part of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SseEncodeError {
    /// The event's type has a line end inside.
    #[error("an event type with a line end at byte {at} cannot be sent")]
    Event {
        /// Offset in the type of the first such byte.
        at: usize,
    },
    /// The event's id has a line end or a NUL inside; a decoder would ignore an id with a NUL.
    #[error("an event id with a line end or NUL at byte {at} cannot be sent")]
    Id {
        /// Offset in the id of the first such byte.
        at: usize,
    },
}

impl SseEncoder {
    /// An encoder. It has no state.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// The slices to write for `event`. No copy.
    #[must_use]
    pub const fn encode(&self, event: Event) -> EncodedEvent {
        EncodedEvent { event }
    }

    /// Appends `event` to `dst` with its framing. A named copy: for write buffers.
    pub fn encode_into(&self, event: &Event, dst: &mut BytesMut) {
        dst.reserve(event.data().len() + ROOM_FOR_FRAMING);
        for slice in slices(event) {
            dst.extend_from_slice(slice);
        }
    }
}

impl EncodedEvent {
    /// What to write, in order: two slices a `data` line and at most five more. Finds the line ends in the
    /// data on the way.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        slices(&self.event)
    }

    /// As [`slices`](Self::slices) for whoever sends counted references, an HTTP body for example. No copy of
    /// the data; a type and an id are copied (a named copy) together with what comes before the data.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let mut first = BytesMut::new();
        for slice in head(&self.event) {
            first.extend_from_slice(slice);
        }
        let label = if first.is_empty() { FIRST_DATA } else { NEXT_DATA };
        let mut rest = Some(Bytes::from(self.event.into_data()));
        let lines = std::iter::from_fn(move || {
            let data = rest.take()?;
            let (line, next) = cut_line(&data);
            let line = data.slice_ref(line);
            rest = next.map(|next| data.slice_ref(next));
            Some(line)
        });
        let labels = std::iter::once(label).chain(std::iter::repeat(NEXT_DATA));
        let lines = labels.zip(lines).flat_map(|(label, line)| [Bytes::from_static(label), line]);
        let end = std::iter::once(Bytes::from_static(EVENT_END));
        std::iter::once(first.freeze()).chain(lines).chain(end).filter(|piece| !piece.is_empty())
    }

    /// Number of bytes in all slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }

    /// Never: an event has at least one `data` line.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

fn slices(event: &Event) -> impl Iterator<Item = &[u8]> {
    let head = head(event);
    let label = if head.iter().all(|slice| slice.is_empty()) { FIRST_DATA } else { NEXT_DATA };
    let lines = DataLines { label, line: b"", rest: Some(event.data()) };
    head.into_iter().filter(|slice| !slice.is_empty()).chain(lines).chain(std::iter::once(EVENT_END))
}

/// The slices before the first `data` line, and some that are empty.
fn head(event: &Event) -> [&[u8]; 4] {
    let (event, id) = (event.named_event(), event.id());
    let (event_label, id_label): (&[u8], &[u8]) = match (event, id) {
        (None, None) => (b"", b""),
        (Some(_), None) => (b"event: ", b""),
        (None, Some(_)) => (b"", b"id: "),
        (Some(_), Some(_)) => (b"event: ", b"\nid: "),
    };
    [event_label, event.unwrap_or_default(), id_label, id.unwrap_or_default()]
}

/// The lines of some data, a label before each.
struct DataLines<'a> {
    label: &'static [u8],
    /// A line whose label was just handed out.
    line: &'a [u8],
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for DataLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if !self.line.is_empty() {
            return Some(std::mem::take(&mut self.line));
        }
        (self.line, self.rest) = cut_line(self.rest?);
        Some(std::mem::replace(&mut self.label, NEXT_DATA))
    }
}

/// The first line of `data`, and what comes behind its line end if it has one.
fn cut_line(data: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(line_end) = memchr::memchr2(b'\r', b'\n', data) else { return (data, None) };
    let (line, rest) = data.split_at(line_end);
    (line, rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)))
}

const FIRST_DATA: &[u8] = b"data: ";
const NEXT_DATA: &[u8] = b"\ndata: ";
const EVENT_END: &[u8] = b"\n\n";

/// What the framing of an event with one line of data, a type and an id takes; more lines take more.
const ROOM_FOR_FRAMING: usize = 128;

/// A comment and a blank line, to be written between events when there was nothing to say for a while:
/// intermediaries cut idle streams.
pub const KEEP_ALIVE: &[u8] = b":\n\n";
