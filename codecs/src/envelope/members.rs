//! The members a proxy routes on: where they may stand, how their keys are spelled, and what a set of
//! them makes of a frame. Both ways to an envelope (tape and scan) fill the same [`Members`].
//!
//! What is not here: JSON text. Keys arrive unescaped, values as raw spans.

use super::{Envelope, IdClass, Kind};
use crate::{Limits, Span};

/// A key we look for. The ones with a [`Shape`] other than `Inside` have a slot in the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Member {
    Jsonrpc,
    Id,
    Method,
    Name,
    Uri,
    RequestId,
    ProgressToken,
    InitializeVersion,
    MetaProgressToken,
    MetaVersion,
    MetaSubscriptionId,
    MetaLogLevel,
    MetaTraceparent,
    ResultVersion,
    ResultType,
    ResultSubscriptionId,
    ErrorCode,
    Params,
    Result,
    Error,
    ParamsMeta,
    ResultMeta,
}

/// Members with a span in the envelope: all before `Params`.
pub(super) const SLOTS: usize = Member::Params as usize;

/// The longest key of the vocabulary, every byte of it written as `\u00XX`. A longer raw key is none of ours.
pub(super) const MAX_RAW_KEY: usize = 6 * "io.modelcontextprotocol/protocolVersion".len();

/// The objects whose members are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Not in an object: the frame's value, or an element of a batch.
    Top,
    Root,
    Params,
    Result,
    Error,
    ParamsMeta,
    ResultMeta,
}

/// What sort of value a raw span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    String,
    Number,
    Null,
    /// `true` or `false`.
    Bool,
    /// An object or an array.
    Container,
}

/// Which values a member may have; others count as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A string, kept without its quotes.
    Text,
    /// A string or a number, kept as raw text.
    Token,
    /// As `Token`, or null.
    Id,
    Number,
    /// An object with members of its own; has no slot.
    Inside,
}

/// What was found so far of one envelope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members {
    /// Bit `m`: the key of member `m` was there.
    seen: u32,
    /// Bit `m`: member `m` has a usable value. Invariant: `present & !seen == 0`, no bit at or above [`SLOTS`].
    present: u32,
    /// Bit `m`: member `m` is null.
    null: u32,
    id_class: IdClass,
    spans: [Span; SLOTS],
}

impl Member {
    /// The member that a key stands for in `scope`.
    #[inline]
    pub(super) fn of(scope: Scope, key: &[u8]) -> Option<Self> {
        Some(match (scope, key) {
            (Scope::Root, b"jsonrpc") => Self::Jsonrpc,
            (Scope::Root, b"id") => Self::Id,
            (Scope::Root, b"method") => Self::Method,
            (Scope::Root, b"params") => Self::Params,
            (Scope::Root, b"result") => Self::Result,
            (Scope::Root, b"error") => Self::Error,
            (Scope::Params, b"name") => Self::Name,
            (Scope::Params, b"uri") => Self::Uri,
            (Scope::Params, b"requestId") => Self::RequestId,
            (Scope::Params, b"progressToken") => Self::ProgressToken,
            (Scope::Params, b"protocolVersion") => Self::InitializeVersion,
            (Scope::Params, b"_meta") => Self::ParamsMeta,
            (Scope::ParamsMeta, b"progressToken") => Self::MetaProgressToken,
            (Scope::ParamsMeta, b"io.modelcontextprotocol/protocolVersion") => Self::MetaVersion,
            (Scope::ParamsMeta, b"io.modelcontextprotocol/subscriptionId") => Self::MetaSubscriptionId,
            (Scope::ParamsMeta, b"io.modelcontextprotocol/logLevel") => Self::MetaLogLevel,
            (Scope::ParamsMeta, b"traceparent") => Self::MetaTraceparent,
            (Scope::Result, b"protocolVersion") => Self::ResultVersion,
            (Scope::Result, b"resultType") => Self::ResultType,
            (Scope::Result, b"_meta") => Self::ResultMeta,
            (Scope::ResultMeta, b"io.modelcontextprotocol/subscriptionId") => Self::ResultSubscriptionId,
            (Scope::Error, b"code") => Self::ErrorCode,
            _ => return None,
        })
    }

    /// The scope that an object as this member's value opens.
    #[inline]
    pub(super) const fn opens(self) -> Option<Scope> {
        Some(match self {
            Self::Params => Scope::Params,
            Self::Result => Scope::Result,
            Self::Error => Scope::Error,
            Self::ParamsMeta => Scope::ParamsMeta,
            Self::ResultMeta => Scope::ResultMeta,
            _ => return None,
        })
    }

    const fn shape(self) -> Shape {
        match self {
            Self::Id => Shape::Id,
            Self::RequestId
            | Self::ProgressToken
            | Self::MetaProgressToken
            | Self::MetaSubscriptionId
            | Self::ResultSubscriptionId => Shape::Token,
            Self::ErrorCode => Shape::Number,
            Self::Params | Self::Result | Self::Error | Self::ParamsMeta | Self::ResultMeta => Shape::Inside,
            _ => Shape::Text,
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Scope {
    /// The scope around this one.
    pub(super) const fn parent(self) -> Self {
        match self {
            Self::Top | Self::Root => Self::Top,
            Self::Params | Self::Result | Self::Error => Self::Root,
            Self::ParamsMeta => Self::Params,
            Self::ResultMeta => Self::Result,
        }
    }

    /// The member whose value this scope is.
    pub(super) const fn member(self) -> Option<Member> {
        Some(match self {
            Self::Top | Self::Root => return None,
            Self::Params => Member::Params,
            Self::Result => Member::Result,
            Self::Error => Member::Error,
            Self::ParamsMeta => Member::ParamsMeta,
            Self::ResultMeta => Member::ResultMeta,
        })
    }

    /// Open brackets around a value in this scope, a batch's own not counted.
    pub(super) const fn depth(self) -> u32 {
        match self {
            Self::Top => 0,
            Self::Root => 1,
            Self::Params | Self::Result | Self::Error => 2,
            Self::ParamsMeta | Self::ResultMeta => 3,
        }
    }
}

impl Members {
    pub(super) const fn new() -> Self {
        Self { seen: 0, present: 0, null: 0, id_class: IdClass::Absent, spans: [Span::new(0, 0); SLOTS] }
    }

    /// Notes a key. False: it was there before.
    #[inline]
    #[must_use]
    pub(super) fn see(&mut self, member: Member) -> bool {
        let first = self.seen & member.bit() == 0;
        self.seen |= member.bit();
        first
    }

    /// Notes the value of a key that was [seen](Self::see); `raw` is its text, quotes included. False: it
    /// is an id or a token and longer than the limit.
    #[inline]
    #[must_use]
    pub(super) fn put(&mut self, member: Member, value: Value, raw: Span, limits: &Limits) -> bool {
        if value == Value::Null {
            self.null |= member.bit();
        }
        let is_kept = matches!(
            (member.shape(), value),
            (Shape::Text, Value::String)
                | (Shape::Token, Value::String | Value::Number)
                | (Shape::Id, Value::String | Value::Number | Value::Null)
                | (Shape::Number, Value::Number)
        );
        if !is_kept {
            return true;
        }
        if member == Member::Id {
            self.id_class = match value {
                Value::String => IdClass::String,
                Value::Number => IdClass::Number,
                _ => IdClass::Null,
            };
        }
        let text = if member.shape() == Shape::Text { without_quotes(raw) } else { raw };
        if let Some(slot) = self.spans.get_mut(member as usize) {
            *slot = text;
        }
        self.present |= member.bit();
        !matches!(member.shape(), Shape::Token | Shape::Id) || raw.len() <= limits.max_id_len()
    }

    pub(super) const fn id_class(&self) -> IdClass {
        self.id_class
    }

    /// What these members make of a frame that is an object.
    #[inline]
    pub(super) fn envelope(&self) -> Envelope {
        Envelope { kind: self.kind(), id_class: self.id_class, present: self.present, spans: self.spans }
    }

    /// The kind, from the members alone: `jsonrpc` is not asked for, because peers answer without it.
    pub(super) fn kind(&self) -> Kind {
        let has = |member: Member| self.seen & member.bit() != 0;
        let is_valued = |member: Member| has(member) && self.null & member.bit() == 0;
        if has(Member::Method) {
            // A method that is no string, or a request that is an answer too, can be read in two ways.
            let is_clear = self.present & Member::Method.bit() != 0 && !has(Member::Result) && !has(Member::Error);
            return match (is_clear, has(Member::Id), self.id_class) {
                (true, false, _) => Kind::Notification,
                (true, true, IdClass::Number | IdClass::String | IdClass::Null) => Kind::Request,
                _ => Kind::Other,
            };
        }
        if has(Member::Id) && self.id_class == IdClass::Absent {
            return Kind::Other;
        }
        match (is_valued(Member::Result), is_valued(Member::Error)) {
            (true, true) => Kind::Other,
            (false, true) => Kind::Error,
            // A null beside the other one is how JSON-RPC 1.0 wrote an answer; a null result is a result.
            (true, false) => self.answer(Kind::Response),
            (false, false) if has(Member::Result) => self.answer(Kind::Response),
            (false, false) => Kind::Other,
        }
    }

    /// A result answers something; an error may have lost its id.
    fn answer(&self, kind: Kind) -> Kind {
        if self.id_class == IdClass::Absent { Kind::Other } else { kind }
    }
}

/// The text of a string between its quotes.
#[expect(clippy::cast_possible_truncation, reason = "a span is made of `u32`")]
fn without_quotes(raw: Span) -> Span {
    debug_assert!(raw.len() >= 2);
    Span::new(raw.start() as u32 + 1, raw.end() as u32 - 1)
}
