//! What serde_json makes of a frame: the oracle of tests and fuzz targets.
//!
//! Written for being obviously right, not for speed: every object that routes is read as a list of pairs
//! of decoded key and raw value, and the rules are written down a second time.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Envelope, IdClass, Kind};
use crate::Span;

/// A frame that is JSON, as serde_json reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    pub(crate) id_class: IdClass,
    pub(crate) members: Vec<(&'static str, Option<Span>)>,
    /// Whether a routing key is there twice.
    pub(crate) has_duplicate: bool,
    /// Length of the longest id or token.
    pub(crate) longest_id: usize,
    pub(crate) elements: Vec<(Span, Self)>,
}

/// An object's pairs, in order.
struct Pairs<'a>(Vec<(Key, &'a RawValue)>);

/// A decoded key; bytes, because serde_json lets lone surrogates pass in those.
#[derive(PartialEq, Eq, Clone)]
struct Key(Vec<u8>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text.as_bytes().to_owned()))
            }

            fn visit_bytes<E>(self, text: &[u8]) -> Result<Key, E> {
                Ok(Key(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Text)
    }
}

/// Reads `frame`; `None` if serde_json does not take it for JSON.
pub(crate) fn read(frame: &[u8]) -> Option<Reading> {
    let value: &RawValue = serde_json::from_slice(frame).ok()?;
    let mut reading = message(frame, value);
    if value.get().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        reading.kind = Kind::Batch;
        reading.elements = elements.iter().map(|element| (span(frame, element), message(frame, element))).collect();
        reading.has_duplicate = reading.elements.iter().any(|(_, element)| element.has_duplicate);
        reading.longest_id = reading.elements.iter().map(|(_, element)| element.longest_id).max().unwrap_or(0);
    }
    Some(reading)
}

/// The same of an envelope, to compare.
pub(crate) fn members(envelope: &Envelope) -> Vec<(&'static str, Option<Span>)> {
    vec![
        ("id", envelope.id()),
        ("method", envelope.method()),
        ("name", envelope.name()),
        ("uri", envelope.uri()),
        ("requestId", envelope.request_id()),
        ("progressToken", envelope.progress_token()),
        ("initialize version", envelope.initialize_protocol_version()),
        ("meta progressToken", envelope.meta_progress_token()),
        ("meta version", envelope.protocol_version()),
        ("log level", envelope.log_level()),
        ("traceparent", envelope.traceparent()),
        ("result version", envelope.result_protocol_version()),
        ("resultType", envelope.result_type()),
        ("code", envelope.error_code()),
        ("subscriptionId", envelope.subscription_id()),
    ]
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const ROUTING_ROOT: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
const ROUTING_PARAMS: [&str; 6] = ["name", "uri", "requestId", "progressToken", "protocolVersion", "_meta"];
const ROUTING_RESULT: [&str; 3] = ["protocolVersion", "resultType", "_meta"];
const ROUTING_META: [&str; 5] = [
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    SUBSCRIPTION,
    "io.modelcontextprotocol/logLevel",
    "traceparent",
];

fn message(frame: &[u8], value: &RawValue) -> Reading {
    let empty = |kind| Reading {
        kind,
        id_class: IdClass::Absent,
        members: members(&Envelope::bare(Kind::Other)),
        has_duplicate: false,
        longest_id: 0,
        elements: Vec::new(),
    };
    let Some(root) = pairs(Some(value)) else { return empty(Kind::Other) };
    let (params, result, error) = (inner(&root, "params"), inner(&root, "result"), inner(&root, "error"));
    let (meta, result_meta) = (inner(&params, "_meta"), inner(&result, "_meta"));
    let text = |pairs: &Pairs<'_>, key: &str| {
        let raw = get(pairs, key).filter(|raw| raw.get().starts_with('"'))?;
        let raw = span(frame, raw);
        Some(Span::new(u32::try_from(raw.start()).ok()? + 1, u32::try_from(raw.end()).ok()? - 1))
    };
    let first = |raw: &RawValue| raw.get().bytes().next().unwrap_or(0);
    let is_number = |raw: &RawValue| matches!(first(raw), b'-' | b'0'..=b'9');
    let token = |pairs: &Pairs<'_>, key: &str| {
        get(pairs, key).filter(|raw| is_number(raw) || first(raw) == b'"').map(|raw| span(frame, raw))
    };
    let id = get(&root, "id").filter(|raw| is_number(raw) || matches!(first(raw), b'"' | b'n'));
    let id_class = match id.map(first) {
        None => IdClass::Absent,
        Some(b'"') => IdClass::String,
        Some(b'n') => IdClass::Null,
        Some(_) => IdClass::Number,
    };
    let subscription = token(&meta, SUBSCRIPTION);
    // With both, the one that stands later in the frame.
    let subscription = subscription.max_by_start(token(&result_meta, SUBSCRIPTION));
    let members = vec![
        ("id", id.map(|raw| span(frame, raw))),
        ("method", text(&root, "method")),
        ("name", text(&params, "name")),
        ("uri", text(&params, "uri")),
        ("requestId", token(&params, "requestId")),
        ("progressToken", token(&params, "progressToken")),
        ("initialize version", text(&params, "protocolVersion")),
        ("meta progressToken", token(&meta, "progressToken")),
        ("meta version", text(&meta, "io.modelcontextprotocol/protocolVersion")),
        ("log level", text(&meta, "io.modelcontextprotocol/logLevel")),
        ("traceparent", text(&meta, "traceparent")),
        ("result version", text(&result, "protocolVersion")),
        ("resultType", text(&result, "resultType")),
        ("code", get(&error, "code").filter(|raw| is_number(raw)).map(|raw| span(frame, raw))),
        ("subscriptionId", subscription),
    ];
    let tokens = ["id", "requestId", "progressToken", "meta progressToken"];
    let both = [token(&meta, SUBSCRIPTION), token(&result_meta, SUBSCRIPTION)];
    let longest = members.iter().filter(|(name, _)| tokens.contains(name)).filter_map(|(_, span)| *span);
    let has_duplicate = [
        (&root, &ROUTING_ROOT[..]),
        (&params, &ROUTING_PARAMS),
        (&result, &ROUTING_RESULT),
        (&error, &["code"]),
        (&meta, &ROUTING_META),
        (&result_meta, &[SUBSCRIPTION]),
    ]
    .into_iter()
    .any(|(pairs, keys)| keys.iter().any(|key| count(pairs, key) > 1));
    Reading {
        kind: kind(&root, id_class),
        id_class,
        has_duplicate,
        longest_id: longest.chain(both.into_iter().flatten()).map(Span::len).max().unwrap_or(0),
        members,
        ..empty(Kind::Other)
    }
}

fn kind(root: &Pairs<'_>, id_class: IdClass) -> Kind {
    let is_null = |key: &str| get(root, key).is_some_and(|raw| raw.get() == "null");
    let has = |key: &str| get(root, key).is_some();
    let is_bad_id = has("id") && id_class == IdClass::Absent;
    if has("method") {
        let is_text = get(root, "method").is_some_and(|raw| raw.get().starts_with('"'));
        return match (is_text && !is_bad_id && !has("result") && !has("error"), has("id")) {
            (false, _) => Kind::Other,
            (true, false) => Kind::Notification,
            (true, true) => Kind::Request,
        };
    }
    let (has_result, has_error) = match (has("result"), has("error")) {
        (true, true) if is_null("error") => (true, false),
        (true, true) if is_null("result") => (false, true),
        (false, true) if is_null("error") => (false, false),
        found => found,
    };
    match (has_result, has_error) {
        _ if is_bad_id => Kind::Other,
        (true, false) if id_class != IdClass::Absent => Kind::Response,
        (false, true) => Kind::Error,
        _ => Kind::Other,
    }
}

trait Later {
    fn max_by_start(self, other: Self) -> Self;
}

impl Later for Option<Span> {
    fn max_by_start(self, other: Self) -> Self {
        [self, other].into_iter().flatten().max_by_key(|span| span.start())
    }
}

fn pairs(value: Option<&RawValue>) -> Option<Pairs<'_>> {
    serde_json::from_str(value?.get()).ok()
}

fn inner<'a>(pairs_around: &Pairs<'a>, key: &str) -> Pairs<'a> {
    pairs(get(pairs_around, key)).unwrap_or(Pairs(Vec::new()))
}

fn get<'a>(pairs: &Pairs<'a>, key: &str) -> Option<&'a RawValue> {
    pairs.0.iter().find(|(found, _)| found.0 == key.as_bytes()).map(|&(_, value)| value)
}

fn count(pairs: &Pairs<'_>, key: &str) -> usize {
    pairs.0.iter().filter(|(found, _)| found.0 == key.as_bytes()).count()
}

fn span(frame: &[u8], raw: &RawValue) -> Span {
    let start = raw.get().as_ptr().addr() - frame.as_ptr().addr();
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span::new(offset(start), offset(start + raw.get().len()))
}
