//! SSE decoder and encoder: limits, recovery, memory, and the chunking law over every cut. The grammar itself is
//! in `tests/sse_grammar.rs`, through the public face.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};

use super::{
    naive::{Heard, Said, naive},
    *,
};
use crate::{FrameError, Limits};

fn limits(max_event_len: usize, max_field_len: u16) -> Limits {
    Limits::default().with_max_frame_len(max_event_len).unwrap().with_max_field_len(max_field_len)
}

/// Feeds `reads` one after the other, as a transport with a buffer of its own would.
fn decoded<'a>(reads: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> Heard {
    let mut decoder = SseDecoder::new(limits);
    let (mut table, mut src, mut said) = (EventTable::new(), BytesMut::new(), Vec::new());
    for read in reads {
        src.extend_from_slice(read);
        while step(decoder.decode(&mut src, &mut table), &mut table, &mut said) {}
        assert!(src.len() <= most_kept(limits), "kept {}", src.len());
    }
    while step(decoder.finish(&mut src, &mut table), &mut table, &mut said) {}
    assert!(src.is_empty());
    heard(&decoder, said)
}

/// Feeds `bodies` one after the other, as an HTTP library would: the same is heard however memory grows.
fn pushed<'a>(bodies: impl IntoIterator<Item = &'a [u8]>, limits: Limits) -> Heard {
    let bodies: Vec<_> = bodies.into_iter().collect();
    let heard = pushed_to(SseDecoder::new(limits), &bodies, limits, usize::MAX);
    assert_eq!(pushed_to(SseDecoder::new(limits).with_told_growth(), &bodies, limits, 0), heard);
    heard
}

/// The same, to `decoder`, which keeps no more than it said or than is `allowed`.
fn pushed_to(mut decoder: SseDecoder, bodies: &[&[u8]], limits: Limits, allowed: usize) -> Heard {
    let (mut table, mut said) = (EventTable::new(), Vec::new());
    for body in bodies {
        let mut body = Bytes::copy_from_slice(body);
        let room = decoder.room_for(body.len()).max(allowed);
        while step(decoder.push(&mut body, &mut table), &mut table, &mut said) {}
        assert!(body.is_empty());
        assert!(decoder.kept_capacity() <= room, "{} for {room}", decoder.kept_capacity());
        assert!(decoder.kept_len() <= most_kept(limits), "kept {}", decoder.kept_len());
    }
    heard(&decoder, said)
}

fn step(result: Result<Option<EventBatch>, FrameError>, table: &mut EventTable, said: &mut Vec<Said>) -> bool {
    match result {
        Ok(None) => return false,
        Ok(Some(batch)) => {
            assert!(!batch.is_empty());
            said.extend(batch.iter().map(|event| Said::Event {
                at: event.at(),
                event: event.event().to_vec(),
                data: event.data().to_vec(),
                id: event.id().map(<[u8]>::to_vec),
            }));
            table.recycle(batch);
        }
        Err(FrameError::MessageTooLarge { at, limit }) => said.push(Said::TooLarge { at, limit }),
    }
    true
}

fn heard(decoder: &SseDecoder, said: Vec<Said>) -> Heard {
    let retry = decoder.retry().map(|retry| u64::try_from(retry.as_millis()).unwrap());
    Heard { said, last_id: decoder.last_id().map(<[u8]>::to_vec), retry }
}

fn most_kept(limits: Limits) -> usize {
    limits.max_frame_len() + 1 + limits.max_field_len() + "event: ".len()
}

fn check_every_cut(bytes: &[u8], limits: Limits) {
    let expect = naive(bytes, limits.max_frame_len(), limits.max_field_len());
    assert_eq!(decoded([bytes], limits), expect, "{bytes:?} whole");
    assert_eq!(pushed([bytes], limits), expect, "{bytes:?} whole body");
    assert_eq!(decoded(bytes.chunks(1), limits), expect, "{bytes:?} byte by byte");
    assert_eq!(pushed(bytes.chunks(1), limits), expect, "{bytes:?} body by byte");
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let reads = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(decoded(reads, limits), expect, "{bytes:?} read cut at {first} and {second}");
            assert_eq!(pushed(reads, limits), expect, "{bytes:?} body cut at {first} and {second}");
        }
    }
}

/// What the grammar table does not have: limits, and events that meet them.
#[test]
fn every_one_cut_and_two_cut_split_says_the_same() {
    let corpus: [(&[u8], usize, u16); 30] = [
        (b"data: abc\n\ndata: abcd\n\ndata: abcde\n\ndata: abc\n\n", 4, 4),
        (b"data: abc\r\n\r\ndata: abcd\r\n\r\ndata: abcde\r\n\r\ndata: abc\r\n\r\n", 4, 4),
        (b"data: abcde\r\rdata: abcd\r\r", 4, 4),
        (b"data: ab\ndata: c\n\ndata: ab\ndata: cd\n\ndata: e\n\n", 4, 4),
        (b"data: ab\ndata:\ndata\n\ndata: e\n\n", 4, 4),
        (b"data: ab\ndata:\ndata:\ndata:\n\ndata: e\n\n", 4, 4),
        (b"data\ndata\ndata\ndata\ndata\n\n", 4, 4),
        (b"data\ndata\ndata\ndata\ndata\ndata\n\n", 4, 4),
        (b"data: aaaaaaaaa", 4, 4),
        (b"data: aaaa", 4, 4),
        (b"data: aaaaa\n", 4, 4),
        (b"data: aaaaaaaaa\ndata: bbbbbbbbb\n: c\ndata: d\n\ndata: e\n\n", 4, 4),
        (b"event: abcd\nid: abcd\ndata: x\n\nevent: abcde\ndata: y\n\ndata: z\n\n", 4, 4),
        (b"id: abcde\ndata: y\n\ndata: z\n\n", 4, 4),
        (b"id: a\ndata: x\n\nid: abcde\nid: b\ndata: y\n\ndata: z\n\n", 4, 4),
        (b"data: y\nid: abcdefgh\n\ndata: z\n\n", 4, 4),
        (b"data: yyyyyyy\nid: abcdefgh\nevent: abcdefgh\n\ndata: z\n\n", 4, 4),
        (b"retry: 12345\nretry: 1234\n\n", 4, 4),
        (b"retry: 00000000001\n\n", 4, 4),
        (b"data: ab\n: comment, and a long one\ndata: c\n\n", 4, 4),
        (b"data: ab\nunknown: field, and a long one\n\n", 4, 4),
        (b"data: ab\nevent: x\nevent: y\nevent\nevent: z\n\ndata: q\n\n", 4, 4),
        (b": 1\n\n: 2\r\n\r\n: 3\r\rdata: x\n\n:\n\n", 4, 4),
        (b"id: 1\n\ndata: a\n\nid: 2\n", 4, 4),
        (b"id: 1\ndata: a\n\nid\ndata: b\n\nid: 3\0\ndata: c\n\n", 4, 4),
        (b"\xEF\xBB\xBFdata: abcd\n\n\xEF\xBB\xBFdata: x\n\n", 4, 4),
        (b"\xEF\xBBdata: abcd\n\ndata: x\n\n", 4, 4),
        (b"\xEF\xBB", 4, 4),
        (b"data: ab\r\ndata: c\r\n\r\n\r\ndata: d\r\n\r\n", 4, 4),
        (b"data: ab\rdata: c\r\r\ndata: d\r\n\r", 4, 4),
    ];
    for (bytes, max_event_len, max_field_len) in corpus {
        check_every_cut(bytes, limits(max_event_len, max_field_len));
    }
}

#[test]
fn limit_counts_the_joined_data_alone() {
    for end in ["\n\n", "\r\n\r\n", "\r\r"] {
        for (len, fits) in [(63, true), (64, true), (65, false)] {
            for split in [0, 1, 30] {
                let (first, second) = ("x".repeat(split), "x".repeat(len - split - 1));
                let bytes = format!("event: long\n: c\ndata: {first}\ndata: {second}{end}");
                let heard = decoded([bytes.as_bytes()], limits(64, 64));
                assert_eq!(matches!(heard.said[..], [Said::Event { .. }]), fits, "{bytes:?}");
                assert_eq!(decoded(bytes.as_bytes().chunks(1), limits(64, 64)), heard);
                assert_eq!(pushed(bytes.as_bytes().chunks(7), limits(64, 64)), heard);
            }
        }
    }
}

#[test]
fn large_event_is_reported_before_it_ends_and_the_next_is_whole() {
    let mut decoder = SseDecoder::new(limits(4, 4));
    let (mut table, mut src) = (EventTable::new(), BytesMut::from(": c\nevent: e\ndata: abcde"));
    let error = decoder.decode(&mut src, &mut table).unwrap_err();
    assert_eq!(error, FrameError::MessageTooLarge { limit: 4, at: 4 });
    assert!(src.is_empty());
    assert!(decoder.decode(&mut src, &mut table).unwrap().is_none());
    src.extend_from_slice(b"fgh\ndata: x\n\ndata: y\n\n");
    let batch = decoder.decode(&mut src, &mut table).unwrap().unwrap();
    let events: Vec<_> = batch.iter().map(|event| (event.event(), event.data())).collect();
    assert_eq!(events, [(&b"message"[..], &b"y"[..])]);
}

/// Comments, unknown fields, repeated types, skipped data: nothing of it stays, however much comes.
#[test]
fn floods_hold_no_memory() {
    let floods: [&[u8]; 8] = [
        b":",
        b": comment\n",
        b"unknown: field\n",
        b"event: repeated\n",
        b"id: repeated\n",
        b"retry: 1000\n",
        b"\n",
        b"x",
    ];
    for flood in floods {
        for before in [&b""[..], b"data: open\n"] {
            let mut decoder = SseDecoder::new(limits(64, 64));
            let mut bodies = SseDecoder::new(limits(64, 64));
            let (mut table, mut src) = (EventTable::new(), BytesMut::from(before));
            let mut body = Bytes::from(before);
            assert!(bodies.push(&mut body, &mut table).unwrap().is_none());
            let piece = flood.repeat(4096 / flood.len());
            for _ in 0..64 {
                src.extend_from_slice(&piece);
                while decoder.decode(&mut src, &mut table).unwrap().is_some() {}
                assert!(src.len() <= 64 && src.capacity() <= 16 << 10, "{flood:?} keeps {}", src.capacity());
                let mut body = Bytes::from(piece.clone());
                while bodies.push(&mut body, &mut table).unwrap().is_some() {}
                assert!(bodies.kept_len() <= 64, "{flood:?} keeps {}", bodies.kept_len());
            }
        }
    }
}

#[test]
fn block_of_a_long_event_grows_as_told_and_goes_with_it() {
    const MIB: usize = 1 << 20;
    let piece = Bytes::from(vec![b'x'; 16 << 10]);
    // One that ends, and one that is refused.
    for (max, pieces) in [(32 * MIB, 1200), (16 * MIB, 1200)] {
        let mut decoder = SseDecoder::new(Limits::default().with_max_frame_len(max).unwrap()).with_told_growth();
        let mut table = EventTable::new();
        assert!(decoder.push(&mut Bytes::from("data: "), &mut table).unwrap().is_none());
        let mut is_refused = false;
        for _ in 0..pieces {
            let room = decoder.room_for(piece.len());
            is_refused |= decoder.push(&mut piece.clone(), &mut table).is_err();
            let (len, capacity) = (decoder.kept_len(), decoder.kept_capacity());
            assert!(capacity <= room && (is_refused || room <= len + len.clamp(64 << 10, 8 * MIB)), "{room}");
        }
        let mut end = Bytes::from("\n\ndata: begun");
        assert_eq!(decoder.push(&mut end, &mut table).unwrap().is_none(), is_refused);
        assert_eq!(is_refused, max < pieces * piece.len());
        while decoder.push(&mut end, &mut table).unwrap().is_some() {}
        assert!(decoder.kept_capacity() <= 64 << 10, "{}", decoder.kept_capacity());
    }
}

#[test]
fn shared_body_is_sliced_unless_data_has_several_lines() {
    let mut decoder = SseDecoder::new(Limits::default());
    let mut table = EventTable::new();
    let mut body = Bytes::from_static(b"data: one\n\ndata: a\ndata: b\n\ndata: two\n\n");
    let range = body.as_ptr_range();
    let batch = decoder.push(&mut body, &mut table).unwrap().unwrap();
    let in_body: Vec<bool> = batch.iter().map(|event| range.contains(&event.data().as_ptr())).collect();
    assert_eq!(in_body, [true, false, true]);
    let last = { batch }.take(2).unwrap();
    assert!(range.contains(&last.data().as_ptr()));
}

#[test]
fn owned_events_are_the_borrowed_ones() {
    let bytes = b"id: 1\nevent: e\ndata: a\n\ndata: b\ndata: c\n\n: x\nid: 2\ndata: d\n\n";
    for cut in 0..bytes.len() {
        let mut decoder = SseDecoder::new(Limits::default());
        let mut table = EventTable::new();
        let mut owned = Vec::new();
        for body in [&bytes[..cut], &bytes[cut..]] {
            let mut body = Bytes::copy_from_slice(body);
            while let Some(mut batch) = decoder.push(&mut body, &mut table).unwrap() {
                for (index, event) in batch.iter().enumerate() {
                    let got = batch.get(index).unwrap();
                    assert_eq!((got.event(), got.data(), got.id()), (event.event(), event.data(), event.id()));
                }
                assert!(batch.get(batch.len()).is_none());
                for index in 0..batch.len() {
                    owned.push(batch.take(index).unwrap());
                }
                assert!(batch.is_empty());
            }
        }
        let owned: Vec<_> = owned.iter().map(|event| (event.event(), event.data(), event.id().unwrap())).collect();
        let expect: [(&[u8], &[u8], &[u8]); 3] =
            [(b"e", b"a", b"1"), (b"message", b"b\nc", b"1"), (b"message", b"d", b"2")];
        assert_eq!(owned, expect);
    }
}

#[test]
fn long_ids_are_kept_too() {
    let id = "i".repeat(200);
    let bytes = format!("id: {id}\nevent: {id}\ndata: a\n\ndata: b\n\n");
    let heard = decoded(bytes.as_bytes().chunks(1), Limits::default());
    assert_eq!(heard, naive(bytes.as_bytes(), 1000, 4096));
    assert_eq!(heard.last_id.as_deref(), Some(id.as_bytes()));
}

#[test]
fn debug_shows_no_payload() {
    let mut table = EventTable::new();
    let mut body =
        Bytes::from_static(b"event: secret\nid: secret\ndata: secret\n\nevent: secret\nid: secret\ndata: secret");
    let mut decoder = SseDecoder::new(Limits::default());
    let batch = decoder.push(&mut body, &mut table).unwrap().unwrap();
    let shown = format!("{batch:?} {:?} {table:?} {decoder:?}", batch.get(0));
    assert!(shown.contains("Event(data 6 bytes, event 6 bytes, id Some(6) bytes"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn encoder_turns_every_line_end_into_a_data_line() {
    let encode = |event: Event| {
        let encoded = SseEncoder::new().encode(event.clone());
        let written: Vec<u8> = encoded.slices().flatten().copied().collect();
        assert_eq!(encoded.len(), written.len());
        let mut buf = BytesMut::from("before");
        SseEncoder::new().encode_into(&event, &mut buf);
        assert_eq!(buf.strip_prefix(b"before"), Some(&written[..]));
        assert_eq!(encoded.into_pieces().flatten().collect::<Vec<u8>>(), written);
        String::from_utf8(written).unwrap()
    };
    let data = |data: &'static str| Event::new(Bytes::from_static(data.as_bytes()));
    assert_eq!(encode(data("")), "data: \n\n");
    assert_eq!(encode(data("a")), "data: a\n\n");
    assert_eq!(encode(data(" a")), "data:  a\n\n");
    assert_eq!(encode(data("a\nb")), "data: a\ndata: b\n\n");
    assert_eq!(encode(data("a\r\nb\rc\n\rd")), "data: a\ndata: b\ndata: c\ndata: \ndata: d\n\n");
    assert_eq!(encode(data("a\n\nid: 5\n")), "data: a\ndata: \ndata: id: 5\ndata: \n\n");
    assert_eq!(encode(data("a").with_event("e").unwrap()), "event: e\ndata: a\n\n");
    assert_eq!(encode(data("a").with_event("").unwrap()), "data: a\n\n");
    assert_eq!(encode(data("a").with_id("").unwrap()), "id: \ndata: a\n\n");
    assert_eq!(encode(data("a").with_id("1").unwrap().with_event("e").unwrap()), "event: e\nid: 1\ndata: a\n\n");
}

#[test]
fn types_and_ids_cannot_break_out() {
    let event = || Event::new(Bytes::new());
    assert_eq!(event().with_event("a\nb").unwrap_err(), SseEncodeError::Event { at: 1 });
    assert_eq!(event().with_event("ab\r").unwrap_err(), SseEncodeError::Event { at: 2 });
    assert_eq!(event().with_id("\n").unwrap_err(), SseEncodeError::Id { at: 0 });
    assert_eq!(event().with_id("a\0").unwrap_err(), SseEncodeError::Id { at: 1 });
    assert!(event().with_event("a\0").is_ok());
}

/// Bytes as they come on event streams, wrong ones among them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop_oneof![Just("data: "), Just("data:"), Just("data"), Just("event: "), Just("id: "), Just("retry: ")]
            .prop_map(|token| token.as_bytes().to_vec()),
        5 => prop_oneof![Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just("\r\n\r\n")]
            .prop_map(|token| token.as_bytes().to_vec()),
        3 => vec(prop_oneof![Just(b'a'), Just(b' '), Just(b':'), Just(b'1'), Just(0), Just(0xEF), any::<u8>()], 0..9),
        1 => vec(Just(b'x'), 60..140),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
    ];
    vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_says_what_the_oracle_says(
        bytes in stream(),
        cuts in vec(any::<proptest::sample::Index>(), 0..12),
        max_event_len in prop_oneof![1_usize..24, 60_usize..300],
        max_field_len in prop_oneof![1_u16..8, 60_u16..80],
    ) {
        let limits = limits(max_event_len, max_field_len);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads = || cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        let expect = naive(&bytes, max_event_len, usize::from(max_field_len));
        prop_assert_eq!(&decoded(reads(), limits), &expect);
        prop_assert_eq!(&pushed(reads(), limits), &expect);
    }

    #[test]
    fn one_event_in_is_one_event_out(
        data in vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), Just(b':'), any::<u8>()], 0..80),
        event in "[a-z: ]{0,70}",
        id in proptest::option::of("[a-z0-9: ]{0,70}"),
    ) {
        let mut sent = Event::new(Bytes::from(data.clone())).with_event(&event).unwrap();
        if let Some(id) = &id {
            sent = sent.with_id(id).unwrap();
        }
        let written: Vec<u8> = SseEncoder::new().encode(sent).slices().flatten().copied().collect();
        let event = if event.is_empty() { b"message".to_vec() } else { event.into_bytes() };
        let data = line_feeds_only(&data);
        let expect = Said::Event { at: 0, event, data, id: id.map(String::into_bytes) };
        prop_assert_eq!(decoded([&written[..]], Limits::default()).said, [expect]);
    }
}

/// The one rewrite on the way to SSE: CR and CRLF become LF.
fn line_feeds_only(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, &byte) in data.iter().enumerate() {
        match byte {
            b'\r' => out.push(b'\n'),
            b'\n' if index > 0 && data[index - 1] == b'\r' => {}
            byte => out.push(byte),
        }
    }
    out
}
