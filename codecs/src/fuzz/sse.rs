//! Event streams: every cut of the bytes says what the whole-buffer decoder says, on a read buffer, on
//! shared bodies and through the adapter; nothing is kept beyond the limits. And the reframing law: whatever
//! is in a message, one message in is one message out, through both encoders and both decoders.

use bytes::{Bytes, BytesMut};

use super::CutStream;
use crate::{
    Frame, FrameError, FrameTable, Limits,
    line::{LineDecoder, LineEncoder, LineEnds},
    sse::{
        Event, EventBatch, EventTable, SseDecoder, SseEncoder,
        naive::{Heard, Said, naive},
    },
};

/// The body of the target `sse`; the input is a limit, read lengths and a stream.
pub fn sse(input: &[u8]) {
    let Some(cut) = CutStream::new(input) else { return };
    // Types and ids get a different limit than data.
    let max_field_len = u16::from(input.first().map_or(1, |limit| limit / 2).max(1));
    let expected = naive(cut.stream, cut.limit, usize::from(max_field_len));
    let limits = Limits::default().with_max_frame_len(cut.limit).unwrap_or_default().with_max_field_len(max_field_len);
    for reads in cut.ways() {
        assert_eq!(by_read_buffer(&reads, limits), expected, "limit {}, cut as {reads:?}", cut.limit);
        assert_eq!(by_bodies(&reads, limits), expected, "limit {}, bodies {reads:?}", cut.limit);
        #[cfg(feature = "tokio-util")]
        assert_eq!(by_adapter(&reads, limits), datas(&expected), "limit {}, cut as {reads:?}", cut.limit);
    }
}

fn by_read_buffer(reads: &[&[u8]], limits: Limits) -> Heard {
    let mut decoder = SseDecoder::new(limits);
    let (mut table, mut src, mut said) = (EventTable::new(), BytesMut::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        while step(decoder.decode(&mut src, &mut table), &mut table, &mut said) {}
        assert!(src.len() <= most_kept(limits), "{} bytes kept", src.len());
    }
    while step(decoder.finish(&mut src, &mut table), &mut table, &mut said) {}
    assert!(src.is_empty(), "the end of the stream leaves nothing behind");
    heard(&decoder, said)
}

fn by_bodies(reads: &[&[u8]], limits: Limits) -> Heard {
    let mut decoder = SseDecoder::new(limits);
    let (mut table, mut said) = (EventTable::new(), Vec::new());
    for read in reads {
        let mut body = Bytes::from((*read).to_owned());
        while step(decoder.push(&mut body, &mut table), &mut table, &mut said) {}
        assert!(body.is_empty(), "a body is read to its end");
        assert!(decoder.kept_len() <= most_kept(limits), "{} bytes kept", decoder.kept_len());
    }
    heard(&decoder, said)
}

fn step(found: Result<Option<EventBatch>, FrameError>, table: &mut EventTable, said: &mut Vec<Said>) -> bool {
    match found {
        Ok(None) => return false,
        Ok(Some(batch)) => {
            assert!(!batch.is_empty(), "a batch has events");
            said.extend(batch.iter().map(|event| Said::Event {
                at: event.at(),
                event: event.event().to_owned(),
                data: event.data().to_owned(),
                id: event.id().map(<[u8]>::to_owned),
            }));
            table.recycle(batch);
        }
        Err(FrameError::MessageTooLarge { at, limit }) => said.push(Said::TooLarge { at, limit }),
    }
    true
}

fn heard(decoder: &SseDecoder, said: Vec<Said>) -> Heard {
    let retry = decoder.retry().map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
    Heard { said, last_id: decoder.last_id().map(<[u8]>::to_owned), retry }
}

/// Data and a byte too much, or data and a type or id.
fn most_kept(limits: Limits) -> usize {
    limits.max_frame_len() + 1 + limits.max_field_len() + "event: ".len()
}

#[cfg(feature = "tokio-util")]
fn datas(heard: &Heard) -> Vec<Result<Vec<u8>, u64>> {
    let said = heard.said.iter().cloned();
    said.map(|said| match said {
        Said::Event { data, .. } => Ok(data),
        Said::TooLarge { at, .. } => Err(at),
    })
    .collect()
}

/// As `FramedRead` drives a codec.
#[cfg(feature = "tokio-util")]
fn by_adapter(reads: &[&[u8]], limits: Limits) -> Vec<Result<Vec<u8>, u64>> {
    use tokio_util::codec::Decoder;

    use crate::tokio_codec::{ErrorsAsItems, SseCodec};

    let mut codec = ErrorsAsItems::new(SseCodec::new(limits));
    let (mut src, mut said) = (BytesMut::new(), Vec::new());
    let mut hear = |item: Result<Event, FrameError>| {
        said.push(item.map(|event| event.data().to_owned()).map_err(|FrameError::MessageTooLarge { at, .. }| at));
    };
    for read in reads {
        src.extend_from_slice(read);
        while let Ok(Some(item)) = codec.decode(&mut src) {
            hear(item);
        }
    }
    while let Ok(Some(item)) = codec.decode_eof(&mut src) {
        hear(item);
    }
    said
}

/// The body of the target `reframe`; the input is `type_len  id_len  type  id  data…`.
///
/// The message stands between two others, which have to come out as they went in.
pub fn reframe(input: &[u8]) {
    let Some((&[type_len, id_len], rest)) = input.split_first_chunk() else { return };
    let (event_type, rest) = rest.split_at(usize::from(type_len).min(rest.len()));
    let (id, data) = rest.split_at(usize::from(id_len).min(rest.len()));
    let event = Event::new(frame(data));
    // What an event refuses could break out; what it takes has to arrive.
    let event = event.clone().with_event(event_type).unwrap_or(event);
    let event = event.clone().with_id(id).unwrap_or(event);

    let event = through_sse(event);
    let data_in_lf = line_feeds(data);
    assert_eq!(event.data(), data_in_lf, "CR and CRLF become LF, and nothing else changes");
    same_json(data, event.data());

    for frame in [data, event.data()] {
        let Some(line) = through_lines(frame) else {
            assert!(frame.is_empty(), "only what is empty cannot be a line");
            continue;
        };
        let blanked: Vec<u8> =
            frame.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect();
        assert!(line == frame || line == blanked, "line ends become spaces, and nothing else changes");
        same_json(frame, &line);
        // And back: a line has no LF, but may have a CR.
        assert_eq!(through_sse(Event::new(line.clone())).data(), line_feeds(&line));
    }
}

fn through_sse(event: Event) -> Event {
    let neighbour = || Event::new(frame(b"neighbour"));
    let mut written = BytesMut::new();
    let encoder = SseEncoder::new();
    for event in [neighbour(), event.clone(), neighbour()] {
        let encoded = encoder.encode(event.clone());
        let start = written.len();
        encoder.encode_into(&event, &mut written);
        let slices: Vec<u8> = encoded.slices().flatten().copied().collect();
        assert_eq!(written.get(start..), Some(&slices[..]));
        assert_eq!(encoded.len(), slices.len());
        assert_eq!(encoded.into_pieces().flatten().collect::<Vec<u8>>(), slices);
    }
    let mut decoder = SseDecoder::new(Limits::default());
    let batch = decoder.push(&mut written.freeze(), &mut EventTable::new()).ok().flatten().unwrap_or_default();
    assert_eq!(batch.len(), 3, "one event in, one event out");
    let [first, middle, last] = [0, 1, 2].map(|index| batch.get(index).unwrap_or_else(neighbour));
    assert_eq!((first.data(), first.event(), first.id()), (&b"neighbour"[..], &b"message"[..], None));
    assert_eq!((last.data(), last.event(), last.id()), (&b"neighbour"[..], &b"message"[..], event.id()));
    assert_eq!((middle.event(), middle.id()), (event.event(), event.id()));
    middle
}

fn through_lines(data: &[u8]) -> Option<Bytes> {
    let mut written = BytesMut::new();
    let encoder = LineEncoder::new(LineEnds::Blank);
    for data in [b"neighbour", data, b"neighbour"] {
        encoder.encode_into(data, &mut written).ok()?;
    }
    let mut table = FrameTable::new();
    let open = LineDecoder::new(Limits::default()).decode(&mut written, &mut table).ok().flatten()?;
    let batch = open.freeze();
    assert_eq!(batch.len(), 3, "one line in, one line out");
    let frames = [0, 1, 2].map(|index| batch.get(index).map(Frame::into_bytes).unwrap_or_default());
    let [first, middle, last] = frames;
    assert_eq!((&first[..], &last[..]), (&b"neighbour"[..], &b"neighbour"[..]));
    Some(middle)
}

/// What was one JSON value before is the same one after.
fn same_json(before: &[u8], after: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(before) {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(after).ok(), Some(value));
    }
}

fn frame(data: &[u8]) -> Frame {
    Frame::new(Bytes::from(data.to_owned()))
}

fn line_feeds(data: &[u8]) -> Vec<u8> {
    let mut lines: Vec<u8> = Vec::new();
    let mut rest = data;
    while let [byte, behind @ ..] = rest {
        lines.push(if *byte == b'\r' { b'\n' } else { *byte });
        rest = if *byte == b'\r' { behind.strip_prefix(b"\n").unwrap_or(behind) } else { behind };
    }
    lines
}
