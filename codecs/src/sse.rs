//! Server-Sent Events: the `text/event-stream` framing of MCP over HTTP and of LLM token streams.
//!
//! An event stream is lines; a line is a field (`data`, `event`, `id`, `retry`), a comment, or blank; a
//! blank line ends an event:
//!
//! ```text
//! : a comment
//! event: progress
//! id: 42
//! data: {"first": "line",
//! data:  "second": "line"}
//!
//! data: an event of type "message", with the id of the one before
//!
//! ```
//!
//! [`SseDecoder`] follows the grammar to the letter: lines end with CR, LF or CRLF in any mixture, one
//! byte order mark may come first, exactly one space is taken off a value, an event without a `data` field is not
//! dispatched, an id holds until the next one, an unfinished event at end of stream is dropped. Bytes that
//! are not UTF-8 are passed on as they are; [`EventRef::data_text`] shows them as the specification would.
//!
//! What this does not do: connect, reconnect or wait (there is no clock here; [`SseDecoder::retry`] and
//! [`SseDecoder::last_id`] are what a client needs for it), look into the data, or check UTF-8.
//!
//! Rules: WHATWG HTML, "Server-sent events", sections "Parsing an event stream" and "Interpreting an event
//! stream" (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

mod bodies;
mod decoder;
mod encoder;
mod event;
mod field;
mod joining;
mod place;
mod scan;

pub use decoder::SseDecoder;
pub use encoder::{EncodedEvent, KEEP_ALIVE, SseEncodeError, SseEncoder};
pub use event::{Event, EventBatch, EventRef, EventTable};

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod naive;
#[cfg(test)]
mod tests;
