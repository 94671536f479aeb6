//! The grammar of event streams, case by case: whole, at every two-cut split and byte by byte, through the
//! decoder on a read buffer, the decoder on shared bodies, both adapters to tokio-util and both to
//! futures.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and copy")]

#[path = "grammar/cases.rs"]
mod cases;

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use cases::{CASES, Case};
use futures::{Stream, stream};
use shadowcat_codecs::{
    Limits,
    sse::{Event, EventBatch, EventTable, SseDecoder},
    stream::{EventBatches, Events},
    tokio_codec::{SseBatchCodec, SseCodec},
};
use tokio_util::codec::Decoder;

/// Type, data and id of each event, then the reconnection time.
type Said = (Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>, Option<u64>);

type Way = fn(&[&[u8]]) -> Said;

const WAYS: [(&str, Way); 6] = [
    ("read buffer", by_read_buffer),
    ("bodies", by_bodies),
    ("SseCodec", by_codec),
    ("SseBatchCodec", by_batch_codec),
    ("Events", by_events),
    ("EventBatches", by_event_batches),
];

#[test]
fn the_table_is_as_long_as_promised() {
    assert!(CASES.len() >= 100, "{} cases", CASES.len());
}

#[test]
fn every_case_at_every_cut_and_in_every_way() {
    for case in CASES {
        let expect = expected(case);
        let stream = case.stream;
        for (name, way) in WAYS {
            let check = |reads: &[&[u8]]| {
                assert_eq!(way(reads), expect, "{:?}: {} by {name} in {reads:?}", case.rule, stream.escape_ascii());
            };
            check(&[stream]);
            check(&stream.chunks(1).collect::<Vec<_>>());
            for first in 0..=stream.len() {
                for second in first..=stream.len() {
                    check(&[&stream[..first], &stream[first..second], &stream[second..]]);
                }
            }
        }
    }
}

#[test]
fn text_is_what_decoding_the_stream_first_would_give() {
    for case in CASES {
        let text = String::from_utf8_lossy(case.stream).into_owned();
        let (events, retry) = by_bodies(&[text.as_bytes()]);
        let mut table = EventTable::new();
        let mut decoder = SseDecoder::new(Limits::default());
        let mut body = Bytes::from_static(case.stream);
        let mut texts = Vec::new();
        while let Some(batch) = decoder.push(&mut body, &mut table).unwrap() {
            texts.extend(batch.iter().map(|event| event.data_text().into_owned().into_bytes()));
        }
        assert_eq!(texts, events.into_iter().map(|(_, data, _)| data).collect::<Vec<_>>());
        assert_eq!(retry, case.retry);
    }
}

fn expected(case: &Case) -> Said {
    let events = case.events.iter();
    let events = events.map(|(event, data, id)| (event.as_bytes().to_vec(), data.to_vec(), id.as_bytes().to_vec()));
    (events.collect(), case.retry)
}

fn by_read_buffer(reads: &[&[u8]]) -> Said {
    let mut decoder = SseDecoder::new(Limits::default());
    let (mut src, mut table, mut said) = (BytesMut::new(), EventTable::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        while let Some(batch) = decoder.decode(&mut src, &mut table).unwrap() {
            hear(&mut said, &batch);
        }
    }
    while let Some(batch) = decoder.finish(&mut src, &mut table).unwrap() {
        hear(&mut said, &batch);
    }
    assert!(src.is_empty());
    (said, retry(&decoder))
}

fn by_bodies(reads: &[&[u8]]) -> Said {
    let mut decoder = SseDecoder::new(Limits::default());
    let (mut table, mut said) = (EventTable::new(), Vec::new());
    for read in reads {
        let mut body = Bytes::from(read.to_vec());
        while let Some(batch) = decoder.push(&mut body, &mut table).unwrap() {
            hear(&mut said, &batch);
        }
    }
    (said, retry(&decoder))
}

fn by_codec(reads: &[&[u8]]) -> Said {
    let mut codec = SseCodec::new(Limits::default());
    let events = framed(&mut codec, reads);
    (events.iter().map(owned).collect(), retry(codec.decoder()))
}

fn by_batch_codec(reads: &[&[u8]]) -> Said {
    let mut codec = SseBatchCodec::new(Limits::default());
    let mut said = Vec::new();
    framed(&mut codec, reads).iter().for_each(|batch| hear(&mut said, batch));
    (said, retry(codec.decoder()))
}

/// As `FramedRead` drives a codec.
fn framed<D: Decoder>(codec: &mut D, reads: &[&[u8]]) -> Vec<D::Item> {
    let (mut src, mut items) = (BytesMut::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        items.extend(std::iter::from_fn(|| codec.decode(&mut src).ok().unwrap()));
    }
    items.extend(std::iter::from_fn(|| codec.decode_eof(&mut src).ok().unwrap()));
    items
}

fn by_events(reads: &[&[u8]]) -> Said {
    let mut events = Events::new(bodies(reads), Limits::default());
    let said = all(&mut events).into_iter().map(|event| owned(&event.unwrap())).collect();
    (said, retry(events.decoder()))
}

fn by_event_batches(reads: &[&[u8]]) -> Said {
    let mut batches = EventBatches::new(bodies(reads), Limits::default());
    let mut said = Vec::new();
    all(&mut batches).into_iter().for_each(|batch| hear(&mut said, &batch.unwrap()));
    (said, retry(batches.decoder()))
}

fn bodies(reads: &[&[u8]]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    stream::iter(reads.iter().map(|read| Ok(Bytes::from(read.to_vec()))).collect::<Vec<_>>())
}

fn all<S: Stream + Unpin>(stream: &mut S) -> Vec<S::Item> {
    let mut context = Context::from_waker(Waker::noop());
    let mut items = Vec::new();
    while let Poll::Ready(Some(item)) = pin!(&mut *stream).poll_next(&mut context) {
        items.push(item);
    }
    items
}

fn hear(said: &mut Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>, batch: &EventBatch) {
    assert!(!batch.is_empty());
    said.extend(
        batch
            .iter()
            .map(|event| (event.event().to_vec(), event.data().to_vec(), event.id().unwrap_or_default().to_vec())),
    );
}

fn owned(event: &Event) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    (event.event().to_vec(), event.data().to_vec(), event.id().unwrap_or_default().to_vec())
}

fn retry(decoder: &SseDecoder) -> Option<u64> {
    decoder.retry().map(|retry| u64::try_from(retry.as_millis()).unwrap())
}
