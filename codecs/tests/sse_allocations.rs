//! What reading event streams costs in allocations, counted, not timed: none per event once warm, in every
//! way to read them, as long as events are passed on and types and ids are short.
//!
//! One test: the counter counts the whole process.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::{
    Limits,
    sse::{EventBatch, EventTable, SseDecoder},
    tokio_codec::{SseBatchCodec, SseCodec},
};
use tokio_util::codec::Decoder;

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;

const READ_LEN: usize = 16 << 10;
const READS: usize = 100;

/// Allocations of `READS` reads after twice as many to warm up, and the events in them.
fn counted(event: &str, mut read: impl FnMut(&Bytes) -> usize) -> (usize, usize) {
    let stream = Bytes::from(event.repeat(READ_LEN * READS / event.len() + 1));
    let reads: Vec<Bytes> = (0..READS).map(|index| stream.slice(index * READ_LEN..(index + 1) * READ_LEN)).collect();
    for bytes in reads.iter().chain(&reads) {
        read(bytes);
    }
    let before = allocations();
    let events = reads.iter().map(&mut read).sum();
    (allocations() - before, events)
}

fn by_read_buffer(mut each: impl FnMut(EventBatch) -> Option<EventBatch>) -> impl FnMut(&Bytes) -> usize {
    let mut decoder = SseDecoder::new(Limits::default());
    let (mut src, mut table) = (BytesMut::new(), EventTable::new());
    move |read| {
        src.reserve(READ_LEN);
        src.extend_from_slice(read);
        let mut events = 0;
        while let Some(batch) = decoder.decode(&mut src, &mut table).unwrap() {
            events += batch.len();
            if let Some(batch) = each(batch) {
                table.recycle(batch);
            }
        }
        events
    }
}

fn by_bodies() -> impl FnMut(&Bytes) -> usize {
    let mut decoder = SseDecoder::new(Limits::default());
    let mut table = EventTable::new();
    move |read| {
        let (mut body, mut events) = (read.clone(), 0);
        while let Some(batch) = decoder.push(&mut body, &mut table).unwrap() {
            events += batch.len();
            table.recycle(batch);
        }
        events
    }
}

fn by_item<D: Decoder>(mut decoder: D, mut each: impl FnMut(&mut D, D::Item) -> usize) -> impl FnMut(&Bytes) -> usize {
    let mut src = BytesMut::new();
    move |read| {
        src.reserve(READ_LEN);
        src.extend_from_slice(read);
        let mut events = 0;
        while let Some(item) = decoder.decode(&mut src).ok().expect("nothing is too long") {
            events += each(&mut decoder, item);
        }
        events
    }
}

#[test]
fn nothing_is_allocated_per_event_once_warm() {
    let data = |len: usize| "x".repeat(len);
    let lines: String = (0..40).map(|_| format!("data: {}\n", data(60))).collect();
    let events = [
        ("tokens", format!("data: {}\n\n", data(142)), 10_000),
        ("messages", format!("event: message\nid: 0b5c9a2e-1f_1732300000000_k3j2h1\ndata: {}\n\n", data(440)), 3_000),
        ("a body each", format!("data: {}\n\n", data(READ_LEN - 8)), 90),
        ("several bodies each", format!("id: 1\ndata: {}\n\n", data(5 * READ_LEN)), 15),
        ("several lines", format!("event: e\n{lines}\n"), 500),
        (
            "types and ids between the lines",
            format!("data: {}\nevent: e\nid: 1\ndata: {}\n\n", data(20), data(40)),
            10_000,
        ),
        ("comments", format!(": keep-alive\n\ndata: {}\n\n", data(30)), 20_000),
    ];
    for (name, event, at_least) in &events {
        let (allocations, events) = counted(event, by_read_buffer(Some));
        assert!(events >= *at_least, "{name}: {events} events");
        assert_eq!(allocations, 0, "{name}, read buffer: {allocations} allocations, {events} events");

        let (allocations, _) = counted(event, by_bodies());
        assert_eq!(allocations, 0, "{name}, bodies: {allocations} allocations, {events} events");

        let (allocations, _) = counted(event, by_item(SseCodec::new(Limits::default()), |_, _| 1));
        assert_eq!(allocations, 0, "{name}, SseCodec: {allocations} allocations, {events} events");

        let recycled = |codec: &mut SseBatchCodec, batch: EventBatch| {
            let events = batch.len();
            codec.recycle(batch);
            events
        };
        let (allocations, _) = counted(event, by_item(SseBatchCodec::new(Limits::default()), recycled));
        assert_eq!(allocations, 0, "{name}, SseBatchCodec: {allocations} allocations, {events} events");
    }

    // Whoever keeps events longer than the next read pays for a new buffer per block: the bytes, and the
    // count that is shared. The tables still come back.
    let mut kept = EventBatch::default();
    let (allocations, _) = counted(&events[0].1, by_read_buffer(|batch| Some(std::mem::replace(&mut kept, batch))));
    assert!(allocations <= 2 * READS + 8, "{allocations} allocations in {READS} blocks kept");
}
