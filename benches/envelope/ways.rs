//! The ways to an envelope that are compared. Each finds the same members and says so by a digest.

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny},
};
use serde_json::{Value, value::RawValue};
use shadowcat_codecs::{
    Limits, PADDING, PaddedFrame, Span,
    envelope::{Envelope, EnvelopeParser, EnvelopeScan, Kind, Strictness},
};

/// Frame with padding, length without: digest.
type Run = Box<dyn FnMut(&mut [u8], usize) -> u64>;

/// One way: takes a frame, gives a digest of what it found. The frame has [`PADDING`] bytes behind it.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// Whether the digest says anything: some ways only build or check, and look for no members.
    pub(crate) finds: bool,
}

/// All ways; the first is the one others are measured against.
pub(crate) fn all() -> Vec<Way> {
    let mut ways = vec![
        way("serde_json RawValue, two passes", true, raw_two_passes),
        way("serde_json typed, one pass", true, typed),
        way("serde_json Value", false, |frame| {
            serde_json::from_slice::<Value>(frame).map_or(0, |value| u64::from(value.is_object()))
        }),
    ];
    ways.extend(simd_ways());
    ways.push(way("sonic-rs typed, one pass", true, |frame| {
        sonic_rs::from_slice::<Message<'_>>(frame).map_or(0, |message| message.digest())
    }));
    ways.push(way("jiter skip", false, |frame| {
        let mut jiter = jiter::Jiter::new(frame);
        u64::from(jiter.next_skip().is_ok())
    }));
    ways.extend(our_ways());
    ways
}

fn our_ways() -> Vec<Way> {
    let mut copying = EnvelopeParser::new(Limits::default());
    let mut in_place = EnvelopeParser::new(Limits::default()).with_small_len(usize::MAX);
    let mut strict = EnvelopeParser::new(Limits::default()).with_strictness(Strictness::Strict);
    let mut scan = EnvelopeScan::new(Limits::default());
    let digest = |envelope: Envelope, frame: &[u8], parser: &EnvelopeParser| match envelope.kind() {
        Kind::Batch => {
            parser.elements().iter().map(|element| ours(element.envelope(), frame)).fold(0, u64::wrapping_add)
        }
        _ => ours(&envelope, frame),
    };
    let digest_in_place = digest;
    let digest_strict = digest;
    vec![
        way("ours", true, move |frame| copying.parse(frame).map_or(0, |found| digest(found, frame, &copying))),
        Way {
            name: "ours, simd-json tape in place",
            finds: true,
            run: Box::new(move |bytes, len| {
                let Some(frame) = PaddedFrame::new(bytes, len) else { return 0 };
                let Ok(found) = in_place.parse_in_place(frame) else { return 0 };
                digest_in_place(found, bytes.get(..len).unwrap_or_default(), &in_place)
            }),
        },
        way("ours, in chunks of 16 KiB", true, move |frame| {
            scan.reset();
            frame.chunks(16 << 10).for_each(|chunk| scan.feed(chunk));
            let Ok(found) = scan.finish() else { return 0 };
            match found.kind() {
                Kind::Batch => {
                    scan.elements().iter().map(|element| ours(element.envelope(), frame)).fold(0, u64::wrapping_add)
                }
                _ => ours(&found, frame),
            }
        }),
        Way {
            name: "ours, strict",
            finds: true,
            run: Box::new(move |bytes, len| {
                let Some(frame) = PaddedFrame::new(bytes, len) else { return 0 };
                let Ok(found) = strict.parse_in_place(frame) else { return 0 };
                digest_strict(found, bytes.get(..len).unwrap_or_default(), &strict)
            }),
        },
    ]
}

/// simd-json's classic calls spoil their input, so they get a copy of it; and they copy it once more.
fn simd_ways() -> Vec<Way> {
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffers = simd_json::Buffers::new(0);
    let mut kept = Some(simd_json::Tape(Vec::new()));
    vec![
        way("simd-json to_tape", false, move |frame| {
            refill(&mut first, frame);
            simd_json::to_tape(&mut first).map_or(0, |tape| tape.0.len() as u64)
        }),
        way("simd-json fill_tape, reused", false, move |frame| {
            refill(&mut second, frame);
            let mut tape = kept.take().unwrap_or(simd_json::Tape(Vec::new())).reset();
            let nodes = simd_json::fill_tape(&mut second, &mut buffers, &mut tape).map_or(0, |()| tape.0.len() as u64);
            kept = Some(tape.reset());
            nodes
        }),
        way("simd-json borrowed value", false, move |frame| {
            refill(&mut third, frame);
            u64::from(simd_json::to_borrowed_value(&mut third).is_ok())
        }),
    ]
}

fn refill(copy: &mut Vec<u8>, frame: &[u8]) {
    copy.clear();
    copy.extend_from_slice(frame);
}

fn way(name: &'static str, finds: bool, mut run: impl FnMut(&[u8]) -> u64 + 'static) -> Way {
    Way { name, finds, run: Box::new(move |bytes, len| run(bytes.get(..len).unwrap_or_default())) }
}

/// Frames as the ways want them.
pub(crate) fn padded(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_owned();
    bytes.resize(frame.len() + PADDING, b'\n');
    bytes
}

/// Something that depends on every member's text and place in the list.
struct Digest(u64);

impl Digest {
    fn add(&mut self, raw: Option<&[u8]>) {
        let raw = raw.map(|raw| raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")).unwrap_or(raw));
        let text = raw.map_or(7, |raw| raw.len() as u64 * 256 + u64::from(raw.last().copied().unwrap_or(1)));
        self.0 = self.0.wrapping_mul(31).wrapping_add(text);
    }
}

fn ours(envelope: &Envelope, frame: &[u8]) -> u64 {
    let mut digest = Digest(0);
    let members: [Option<Span>; 15] = [
        envelope.id(),
        envelope.method(),
        envelope.name(),
        envelope.uri(),
        envelope.request_id(),
        envelope.progress_token(),
        envelope.initialize_protocol_version(),
        envelope.meta_progress_token(),
        envelope.protocol_version(),
        envelope.subscription_id(),
        envelope.log_level(),
        envelope.traceparent(),
        envelope.result_protocol_version(),
        envelope.result_type(),
        envelope.error_code(),
    ];
    for member in members {
        digest.add(member.map(|span| span.of(frame)));
    }
    digest.0
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Top<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, rename = "protocolVersion")]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow, rename = "resultType")]
    result_type: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
    subscription_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "io.modelcontextprotocol/logLevel")]
    log_level: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
}

fn raw_two_passes(frame: &[u8]) -> u64 {
    if frame.first() == Some(&b'[') {
        let elements: Vec<&RawValue> = serde_json::from_slice(frame).unwrap_or_default();
        return elements.iter().map(|element| raw_two_passes(element.get().as_bytes())).fold(0, u64::wrapping_add);
    }
    let Ok(top) = serde_json::from_slice::<Top<'_>>(frame) else { return 0 };
    let params = top.params.and_then(|raw| serde_json::from_str::<Inner<'_>>(raw.get()).ok()).unwrap_or_default();
    let result = top.result.and_then(|raw| serde_json::from_str::<Inner<'_>>(raw.get()).ok()).unwrap_or_default();
    let error = top.error.and_then(|raw| serde_json::from_str::<Inner<'_>>(raw.get()).ok()).unwrap_or_default();
    let meta = params.meta.unwrap_or_default();
    let subscription_id = meta.subscription_id.or_else(|| result.meta.and_then(|meta| meta.subscription_id));
    let mut digest = Digest(0);
    let members = [
        top.id,
        top.method,
        params.name,
        params.uri,
        params.request_id,
        params.progress_token,
        params.protocol_version,
        meta.progress_token,
        meta.protocol_version,
        subscription_id,
        meta.log_level,
        meta.traceparent,
        result.protocol_version,
        result.result_type,
        error.code,
    ];
    for member in members {
        digest.add(member.map(|raw| raw.get().as_bytes()));
    }
    digest.0
}

/// One pass: a proxy that knows at compile time what it wants. Ids and tokens lose their spelling.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Message<'a> {
    id: Option<Token<'a>>,
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<TypedInner<'a>>,
    #[serde(borrow)]
    result: Option<TypedInner<'a>>,
    #[serde(borrow)]
    error: Option<TypedInner<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TypedInner<'a> {
    #[serde(borrow)]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    uri: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "requestId")]
    request_id: Option<Token<'a>>,
    #[serde(rename = "progressToken")]
    progress_token: Option<Token<'a>>,
    #[serde(borrow, rename = "protocolVersion")]
    protocol_version: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, rename = "resultType")]
    result_type: Option<std::borrow::Cow<'a, str>>,
    code: Option<i64>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<TypedMeta<'a>>,
    arguments: IgnoredAny,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TypedMeta<'a> {
    #[serde(rename = "progressToken")]
    progress_token: Option<Token<'a>>,
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    protocol_version: Option<std::borrow::Cow<'a, str>>,
}

/// A string or a number.
enum Token<'a> {
    Text(std::borrow::Cow<'a, str>),
    Number(i64),
}

impl<'de: 'a, 'a> Deserialize<'de> for Token<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Token<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Token<'de>, E> {
                Ok(Token::Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Token<'de>, E> {
                Ok(Token::Text(text.to_owned().into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Token<'de>, E> {
                Ok(Token::Number(number.cast_signed()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Token<'de>, E> {
                Ok(Token::Number(number))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn typed(frame: &[u8]) -> u64 {
    if frame.first() == Some(&b'[') {
        let messages: Vec<Message<'_>> = serde_json::from_slice(frame).unwrap_or_default();
        return messages.iter().map(Message::digest).fold(0, u64::wrapping_add);
    }
    serde_json::from_slice::<Message<'_>>(frame).map_or(0, |message| message.digest())
}

impl Message<'_> {
    /// Only whether things are there: numbers have lost their text.
    fn digest(&self) -> u64 {
        let id = match &self.id {
            Some(Token::Text(text)) => text.len() as u64,
            Some(Token::Number(number)) => number.unsigned_abs(),
            None => 0,
        };
        let inner = |inner: &Option<TypedInner<'_>>| {
            inner.as_ref().map_or(0, |inner| {
                let IgnoredAny = inner.arguments;
                let meta = inner.meta.as_ref();
                [
                    inner.name.is_some(),
                    inner.uri.is_some(),
                    inner.request_id.is_some(),
                    inner.progress_token.is_some(),
                    inner.protocol_version.is_some(),
                    inner.result_type.is_some(),
                    inner.code.is_some(),
                    meta.is_some_and(|meta| meta.progress_token.is_some() || meta.protocol_version.is_some()),
                ]
                .into_iter()
                .fold(0, |digest, is_there| digest * 2 + u64::from(is_there))
            })
        };
        id + self.method.as_ref().map_or(0, |method| method.len() as u64)
            + inner(&self.params)
            + inner(&self.result)
            + inner(&self.error)
    }
}
