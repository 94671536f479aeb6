//! The JSON-RPC envelope of a frame: what a proxy must know to route a message, as spans into bytes that
//! are never changed.
//!
//! There are three ways to it. Which one was taken cannot be seen from the outside:
//!
//! - The *short way*, for whole frames up to 64 KiB in which nothing is out of the ordinary: one loop over the
//!   members that route. What is below them is skipped in blocks of 64 bytes, or, if the parser is strict,
//!   walked to the letter of the grammar.
//! - The *scan* ([`EnvelopeScan`]), for frames of any size, whole or in chunks: the same as a machine that can
//!   stop behind any byte. It compares and measures raw bytes; what a key or text with escapes *means* is
//!   asked of simd-json. What is wrong with a frame is said by it alone.
//! - The *tape*: the whole frame goes through simd-json, in place if it holds no backslash (then simd-json
//!   writes nothing), else on a copy kept by the parser. That is the strict way of all other frames, and the way of
//!   frames up to [`with_small_len`](EnvelopeParser::with_small_len). What simd-json refuses is scanned before
//!   it is called invalid.
//!
//! # What is checked
//!
//! [`Strictness::Envelope`], for every size and any chunking the same: the frame is UTF-8, holds exactly one value,
//! no string holds a control byte, brackets are balanced and not deeper than the limit; the grammar of the
//! top object and of `params`, `result`, `error` and their `_meta` is exact. *Not* checked is the grammar
//! inside the values that are skipped (`[1,]`, `"\q"`, `[}`); such a frame reaches the peer, which refuses
//! it. Numbers of any size and lone surrogate escapes pass, as they do with most peers.
//! [`Strictness::Strict`] accepts what simd-json accepts: all of JSON's grammar, but numbers beyond `f64` and
//! lone surrogates are refused. A frame that is not plainly right goes through simd-json itself.
//!
//! For every valid JSON document without duplicate routing keys the envelope is what a full parser would
//! read. Duplicates are refused ([`EnvelopeError::DuplicateKey`]), in whatever spelling.
//!
//! # Example
//!
//! ```
//! use shadowcat_codecs::{Limits, envelope::{EnvelopeParser, Kind}};
//!
//! let frame = br#"{"jsonrpc":"2.0","id":"a\/1","method":"tools/call","params":{"name":"echo"}}"#;
//! let envelope = EnvelopeParser::new(Limits::default()).parse(frame)?;
//! assert_eq!(envelope.kind(), Kind::Request);
//! assert_eq!(envelope.id().map(|id| id.of(frame)), Some(&br#""a\/1""#[..]), "raw text: nothing is normalised");
//! assert_eq!(envelope.name().map(|name| name.of(frame)), Some(&b"echo"[..]));
//! # Ok::<(), shadowcat_codecs::envelope::EnvelopeError>(())
//! ```

use std::borrow::Cow;

use crate::Span;
use members::{Member, SLOTS};

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod checks;
mod error;
mod members;
#[cfg(any(test, feature = "fuzz"))]
mod oracle;
mod parser;
mod scan;
mod splice;
mod straight;
mod tape;
mod token;
mod utf8;

pub use error::EnvelopeError;
pub use parser::{BatchElement, EnvelopeParser, MAX_HELD, Strictness};
pub use scan::EnvelopeScan;
pub use splice::{MAX_SPLICES, Replacement, Splice, SpliceError};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a router must say what it does with each")]
pub enum Kind {
    /// A method with an id.
    Request,
    /// A method without an id.
    Notification,
    /// A result with an id.
    Response,
    /// An error, with an id or without.
    Error,
    /// An array; each element has an envelope of its own.
    Batch,
    /// One valid JSON value that is not JSON-RPC, or that can be read as two of the above.
    Other,
}

/// What sort of value the id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "JSON-RPC knows no other")]
pub enum IdClass {
    /// There is none, or it is neither of the others.
    Absent,
    /// A number, of any size and spelling.
    Number,
    /// A string.
    String,
    /// Null.
    Null,
}

/// What a frame says to those who pass it on: small, `Copy`, and of no use without the frame.
///
/// A span is relative to the frame (for an element of a batch too: to the whole frame). Ids and tokens are
/// raw text, quotes included: `1`, `1.0` and `"1"` are three ids. Texts (method, name, versions…) are raw
/// too, but without the quotes; they may hold escapes, see [`text`]. A member with a value of another
/// type than its own counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    kind: Kind,
    id_class: IdClass,
    /// Bit `m`: slot `m` has a span. An empty text is present and has an empty span.
    present: u32,
    spans: [Span; SLOTS],
}

impl Envelope {
    /// An envelope without members.
    const fn bare(kind: Kind) -> Self {
        Self { kind, id_class: IdClass::Absent, present: 0, spans: [Span::new(0, 0); SLOTS] }
    }

    /// What the frame is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The id's raw text, quotes included; also for null.
    #[must_use]
    pub fn id(&self) -> Option<Span> {
        self.member(Member::Id)
    }

    /// What sort of value the id is.
    #[must_use]
    pub const fn id_class(&self) -> IdClass {
        self.id_class
    }

    /// Text of `method`.
    #[must_use]
    pub fn method(&self) -> Option<Span> {
        self.member(Member::Method)
    }

    /// Text of `params.name`.
    #[must_use]
    pub fn name(&self) -> Option<Span> {
        self.member(Member::Name)
    }

    /// Text of `params.uri`.
    #[must_use]
    pub fn uri(&self) -> Option<Span> {
        self.member(Member::Uri)
    }

    /// Raw text of `params.requestId`: what a cancellation cancels.
    #[must_use]
    pub fn request_id(&self) -> Option<Span> {
        self.member(Member::RequestId)
    }

    /// Raw text of `params.progressToken`: whose progress a notification reports.
    #[must_use]
    pub fn progress_token(&self) -> Option<Span> {
        self.member(Member::ProgressToken)
    }

    /// Text of `params.protocolVersion`: what `initialize` asks for.
    #[must_use]
    pub fn initialize_protocol_version(&self) -> Option<Span> {
        self.member(Member::InitializeVersion)
    }

    /// Raw text of `params._meta.progressToken`: the token a request wants its progress reported under.
    #[must_use]
    pub fn meta_progress_token(&self) -> Option<Span> {
        self.member(Member::MetaProgressToken)
    }

    /// Text of `params._meta["io.modelcontextprotocol/protocolVersion"]`.
    #[must_use]
    pub fn protocol_version(&self) -> Option<Span> {
        self.member(Member::MetaVersion)
    }

    /// Raw text of `_meta["io.modelcontextprotocol/subscriptionId"]`, of `params` or of `result`.
    #[must_use]
    pub fn subscription_id(&self) -> Option<Span> {
        self.member(Member::MetaSubscriptionId)
    }

    /// Text of `params._meta["io.modelcontextprotocol/logLevel"]`.
    #[must_use]
    pub fn log_level(&self) -> Option<Span> {
        self.member(Member::MetaLogLevel)
    }

    /// Text of `params._meta.traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<Span> {
        self.member(Member::MetaTraceparent)
    }

    /// Text of `result.protocolVersion`: what `initialize` was answered.
    #[must_use]
    pub fn result_protocol_version(&self) -> Option<Span> {
        self.member(Member::ResultVersion)
    }

    /// Text of `result.resultType`.
    #[must_use]
    pub fn result_type(&self) -> Option<Span> {
        self.member(Member::ResultType)
    }

    /// Raw text of `error.code`, if it is a number.
    #[must_use]
    pub fn error_code(&self) -> Option<Span> {
        self.member(Member::ErrorCode)
    }

    #[inline]
    fn member(&self, member: Member) -> Option<Span> {
        let is_present = self.present >> member.slot() & 1 == 1;
        is_present.then(|| self.spans.get(member.slot()).copied()).flatten()
    }
}

/// Whether the text at `span` holds escapes, so that it must go through [`text`] to be compared.
#[must_use]
pub fn has_escapes(span: Span, frame: &[u8]) -> bool {
    memchr::memchr(b'\\', span.of(frame)).is_some()
}

/// The characters of a text span (one without quotes), its escapes decoded.
///
/// Borrowed, unless there are escapes. `None` if the span is not such a text, or holds a lone surrogate,
/// which is no character.
#[must_use]
pub fn text(span: Span, frame: &[u8]) -> Option<Cow<'_, str>> {
    let raw = span.of(frame);
    if has_escapes(span, frame) {
        return tape::unescaped(raw).map(Cow::Owned);
    }
    std::str::from_utf8(raw).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests;
