//! The adapters say what the decoder says. Every grammar case goes through them in `tests/sse_grammar.rs`.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_util::codec::{Framed, FramedRead};

use super::*;
use crate::tokio_codec::ErrorsAsItems;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn limits(max: usize) -> Limits {
    Limits::default().with_max_frame_len(max).unwrap()
}

#[test]
fn events_longer_than_the_read_buffer_arrive() {
    let datas: Vec<Vec<u8>> = (0..20).map(|size| vec![b'x'; 1 << size]).collect();
    let bytes: Vec<u8> = datas.iter().flat_map(|data| [b"data: ", &data[..], b"\n\n"].concat()).collect();
    let events = FramedRead::new(&bytes[..], SseCodec::new(limits(1 << 20)));
    let got: Vec<Vec<u8>> = block_on(events.map(|event| event.unwrap().data().to_vec()).collect());
    assert_eq!(got, datas);
    let batches = FramedRead::new(&bytes[..], SseBatchCodec::new(limits(1 << 20)));
    let batches: Vec<EventBatch> = block_on(batches.map(Result::unwrap).collect());
    let got: Vec<&[u8]> = batches.iter().flat_map(|batch| batch.iter().map(|event| event.data())).collect();
    assert_eq!(got, datas);
}

#[test]
fn errors_can_be_items() {
    let bytes = &b"data: ok\n\ndata: too long\n\ndata: next\n\ndata: unfinished"[..];
    let events = FramedRead::new(bytes, ErrorsAsItems::new(SseCodec::new(limits(4))));
    let got: Vec<_> = block_on(events.map(Result::unwrap).collect());
    let got: Vec<_> = got.iter().map(|item| item.as_ref().map(Event::data).map_err(|&error| error)).collect();
    let first = Err(FrameError::MessageTooLarge { limit: 4, at: 10 });
    let last = Err(FrameError::MessageTooLarge { limit: 4, at: 38 });
    assert_eq!(got, [Ok(&b"ok"[..]), first, Ok(b"next"), last]);
}

#[test]
fn what_is_sent_arrives() {
    block_on(async {
        let (here, there) = tokio::io::duplex(64);
        let mut here = Framed::new(here, SseCodec::new(limits(64)));
        let mut there = Framed::new(there, SseCodec::new(limits(64)));
        let event = Event::new(Bytes::from_static(b"a\n\nb")).with_event("e").unwrap().with_id("1").unwrap();
        here.send(event).await.unwrap();
        let got = there.next().await.unwrap().unwrap();
        assert_eq!((got.event(), got.id(), got.data()), (&b"e"[..], Some(&b"1"[..]), &b"a\n\nb"[..]));
        assert_eq!(there.codec().decoder().last_id(), Some(&b"1"[..]));
    });
}

#[test]
fn the_last_event_of_a_block_is_the_last_reference_to_it() {
    let mut codec = SseCodec::new(limits(8));
    let mut src = BytesMut::from(&b"data: a\n\ndata: b\n\n"[..]);
    let mut next = || codec.decode(&mut src).unwrap().unwrap().into_data().into_bytes();
    let (first, last) = (next(), next());
    assert!(!last.is_unique());
    // The read buffer may have the rest of the allocation.
    drop((first, src));
    assert!(last.is_unique());
}
