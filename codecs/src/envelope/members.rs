//! The members a proxy routes on: where they may stand, how their keys are spelled, and what a set of
//! them makes of a frame. Both ways to an envelope (tape and scan) fill the same [`Members`].
//!
//! What is not here: JSON text. Keys arrive unescaped, values as raw spans.

use super::{Envelope, IdClass, Kind};
use crate::{Limits, Span};

/// A key we look for. The ones with a [`Shape`] other than `None` have a slot in the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Member {
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
    ErrorCode,
    Jsonrpc,
    Params,
    Result,
    Error,
    ParamsMeta,
    ResultMeta,
    /// Shares its slot with `MetaSubscriptionId`: a message has params or a result.
    ResultSubscriptionId,
}

/// Members with a span in the envelope: all before `Jsonrpc`.
pub(super) const SLOTS: usize = Member::Jsonrpc as usize;

/// The longest key of the vocabulary, every byte of it written as `\u00XX`. A longer raw key is none of ours.
pub(super) const MAX_RAW_KEY: usize = 6 * "io.modelcontextprotocol/protocolVersion".len();

/// The longest key that can be [packed]: fifteen bytes, the sixteenth is for their number.
pub(super) const SHORT_KEY: usize = size_of::<u128>() - 1;

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
    /// It only counts that the key is there, and what is inside.
    None,
}

/// What was found so far of one envelope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Members {
    /// Bit `m`: the key of member `m` was there.
    seen: u32,
    /// Bit `m`: member `m` is null.
    null: u32,
    /// All but its kind.
    envelope: Envelope,
}

impl Member {
    /// The member that a key stands for in `scope`.
    #[inline(always)]
    pub(super) fn of(scope: Scope, key: &[u8]) -> Option<Self> {
        if key.len() <= SHORT_KEY {
            return Self::of_packed(scope, packed_slice(key));
        }
        Some(match (scope, key) {
            (Scope::ParamsMeta, b"io.modelcontextprotocol/protocolVersion") => Self::MetaVersion,
            (Scope::ParamsMeta, b"io.modelcontextprotocol/subscriptionId") => Self::MetaSubscriptionId,
            (Scope::ParamsMeta, b"io.modelcontextprotocol/logLevel") => Self::MetaLogLevel,
            (Scope::ResultMeta, b"io.modelcontextprotocol/subscriptionId") => Self::ResultSubscriptionId,
            _ => return None,
        })
    }

    /// As [`of`](Self::of), for a [packed] key.
    #[inline(always)]
    pub(super) const fn of_packed(scope: Scope, key: u128) -> Option<Self> {
        Some(match scope {
            Scope::Root => match key {
                keys::JSONRPC => Self::Jsonrpc,
                keys::ID => Self::Id,
                keys::METHOD => Self::Method,
                keys::PARAMS => Self::Params,
                keys::RESULT => Self::Result,
                keys::ERROR => Self::Error,
                _ => return None,
            },
            Scope::Params => match key {
                keys::NAME => Self::Name,
                keys::URI => Self::Uri,
                keys::REQUEST_ID => Self::RequestId,
                keys::PROGRESS_TOKEN => Self::ProgressToken,
                keys::PROTOCOL_VERSION => Self::InitializeVersion,
                keys::META => Self::ParamsMeta,
                _ => return None,
            },
            Scope::ParamsMeta => match key {
                keys::PROGRESS_TOKEN => Self::MetaProgressToken,
                keys::TRACEPARENT => Self::MetaTraceparent,
                _ => return None,
            },
            Scope::Result => match key {
                keys::PROTOCOL_VERSION => Self::ResultVersion,
                keys::RESULT_TYPE => Self::ResultType,
                keys::META => Self::ResultMeta,
                _ => return None,
            },
            Scope::Error => match key {
                keys::CODE => Self::ErrorCode,
                _ => return None,
            },
            Scope::Top | Scope::ResultMeta => return None,
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
            Self::Jsonrpc | Self::Params | Self::Result | Self::Error | Self::ParamsMeta | Self::ResultMeta => {
                Shape::None
            }
            _ => Shape::Text,
        }
    }

    /// The place of its span in the envelope, and the number of its bit in `present`.
    pub(super) const fn slot(self) -> usize {
        match self {
            Self::ResultSubscriptionId => Self::MetaSubscriptionId as usize,
            _ => self as usize,
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
        Self { seen: 0, null: 0, envelope: Envelope::bare(Kind::Other) }
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
        let text = match (member.shape(), value) {
            (Shape::Text, Value::String) => without_quotes(raw),
            (Shape::Token | Shape::Id, Value::String | Value::Number)
            | (Shape::Id, Value::Null)
            | (Shape::Number, Value::Number) => raw,
            _ => return true,
        };
        if member == Member::Id {
            self.envelope.id_class = match value {
                Value::String => IdClass::String,
                Value::Number => IdClass::Number,
                _ => IdClass::Null,
            };
        }
        if let Some(slot) = self.envelope.spans.get_mut(member.slot()) {
            *slot = text;
        }
        self.envelope.present |= 1 << member.slot();
        !matches!(member.shape(), Shape::Token | Shape::Id) || raw.len() <= limits.max_id_len()
    }

    pub(super) const fn id_class(&self) -> IdClass {
        self.envelope.id_class
    }

    /// What these members make of a frame that is an object.
    #[inline]
    pub(super) fn envelope(&self) -> Envelope {
        // Field by field: as a whole it is a few bytes too long to be copied without a call, and what the
        // call stores cannot be loaded again for a while.
        Envelope {
            kind: self.kind(),
            id_class: self.envelope.id_class,
            present: self.envelope.present,
            spans: self.envelope.spans,
        }
    }

    /// The kind, from the members alone: `jsonrpc` is not asked for, because peers answer without it.
    pub(super) fn kind(&self) -> Kind {
        let has = |member: Member| self.seen & member.bit() != 0;
        let is_valued = |member: Member| has(member) && self.null & member.bit() == 0;
        if has(Member::Method) {
            // A method that is no string, or a request that is an answer too, can be read in two ways.
            let is_clear =
                self.envelope.present & Member::Method.bit() != 0 && !has(Member::Result) && !has(Member::Error);
            return match (is_clear, has(Member::Id), self.envelope.id_class) {
                (true, false, _) => Kind::Notification,
                (true, true, IdClass::Number | IdClass::String | IdClass::Null) => Kind::Request,
                _ => Kind::Other,
            };
        }
        if has(Member::Id) && self.envelope.id_class == IdClass::Absent {
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
        if self.envelope.id_class == IdClass::Absent { Kind::Other } else { kind }
    }
}

/// A key of `len` bytes as one number: its bytes from the lowest up, its length in the highest. What of `bytes`
/// is behind the key does not matter.
///
/// `len <= SHORT_KEY`.
#[inline(always)]
pub(super) const fn packed(bytes: u128, len: usize) -> u128 {
    bytes & ((1 << (8 * len)) - 1) | (len as u128) << (8 * SHORT_KEY)
}

/// As [`packed`], for a key of at most [`SHORT_KEY`] bytes that may have nothing behind it: two loads that overlap.
#[inline(always)]
fn packed_slice(key: &[u8]) -> u128 {
    let bytes = if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        let behind = key.len() - size_of::<u64>();
        u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << (8 * behind)
    } else if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        let behind = key.len() - size_of::<u32>();
        u128::from(u32::from_le_bytes(*first)) | u128::from(u32::from_le_bytes(*last)) << (8 * behind)
    } else {
        key.iter().rev().fold(0, |bytes, &byte| bytes << 8 | u128::from(byte))
    };
    packed(bytes, key.len())
}

/// The short keys of the vocabulary, packed.
mod keys {
    use super::{SHORT_KEY, packed};

    pub(super) const JSONRPC: u128 = key(b"jsonrpc");
    pub(super) const ID: u128 = key(b"id");
    pub(super) const METHOD: u128 = key(b"method");
    pub(super) const PARAMS: u128 = key(b"params");
    pub(super) const RESULT: u128 = key(b"result");
    pub(super) const ERROR: u128 = key(b"error");
    pub(super) const NAME: u128 = key(b"name");
    pub(super) const URI: u128 = key(b"uri");
    pub(super) const REQUEST_ID: u128 = key(b"requestId");
    pub(super) const PROGRESS_TOKEN: u128 = key(b"progressToken");
    pub(super) const PROTOCOL_VERSION: u128 = key(b"protocolVersion");
    pub(super) const META: u128 = key(b"_meta");
    pub(super) const TRACEPARENT: u128 = key(b"traceparent");
    pub(super) const RESULT_TYPE: u128 = key(b"resultType");
    pub(super) const CODE: u128 = key(b"code");

    const fn key(text: &[u8]) -> u128 {
        assert!(text.len() <= SHORT_KEY);
        let (mut bytes, mut rest) = (0, text);
        while let [before @ .., last] = rest {
            bytes = bytes << 8 | *last as u128;
            rest = before;
        }
        packed(bytes, text.len())
    }
}

/// The text of a string between its quotes.
#[expect(clippy::cast_possible_truncation, reason = "a span is made of `u32`")]
fn without_quotes(raw: Span) -> Span {
    debug_assert!(raw.len() >= 2);
    Span::new(raw.start() as u32 + 1, raw.end() as u32 - 1)
}
