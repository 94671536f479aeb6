//! The adapters say what the decoders say, keep the error of the stream, and send what was given to them.

use std::{collections::VecDeque, pin::Pin, task};

use bytes::Bytes;
use futures::{FutureExt, SinkExt, Stream, StreamExt, stream};

use super::*;
use crate::{
    Frame, Limits,
    line::{LineEncodeError, LineEnds},
    sse::Event,
};

/// Bodies, and a pause before each: what waits is polled again.
struct Bodies(VecDeque<Result<Bytes, &'static str>>, bool);

impl Stream for Bodies {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return task::Poll::Pending;
        }
        task::Poll::Ready(self.0.pop_front())
    }
}

fn bodies(pieces: impl IntoIterator<Item = Result<&'static [u8], &'static str>>) -> Bodies {
    Bodies(pieces.into_iter().map(|piece| piece.map(Bytes::from_static)).collect(), false)
}

fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

fn limits(max: usize) -> Limits {
    Limits::default().with_max_frame_len(max).unwrap()
}

type Said<'a> = Result<&'a [u8], StreamError<&'static str>>;

#[test]
fn events_go_on_after_errors_of_both_kinds() {
    let pieces = || {
        bodies([
            Ok(&b"data: 1\n\nid:"[..]),
            Ok(b""),
            Err("broken"),
            Ok(b"\ndata: 12345\n\ndata: 2\n\ndata: 3\n"),
            Ok(b"\n"),
            Ok(b"data: 4\n"),
        ])
    };
    let at_9 = StreamError::Codec(FrameError::MessageTooLarge { limit: 4, at: 9 });
    let expect: [Said<'_>; 5] = [Ok(b"1"), Err(StreamError::Stream("broken")), Err(at_9), Ok(b"2"), Ok(b"3")];
    let events: Vec<_> = block_on(Events::new(pieces(), limits(4)).collect());
    let said: Vec<Said<'_>> =
        events.iter().map(|event| event.as_ref().map(Event::data).map_err(|&error| error)).collect();
    assert_eq!(said, expect);

    let batches: Vec<_> = block_on(EventBatches::new(pieces(), limits(4)).collect());
    let said: Vec<Said<'_>> = batches
        .iter()
        .flat_map(|batch| match batch {
            Ok(batch) => batch.iter().map(|event| Ok(event.data())).collect(),
            Err(error) => vec![Err(*error)],
        })
        .collect();
    assert_eq!(said, expect);
}

#[test]
fn lines_go_on_after_errors_of_both_kinds() {
    let pieces = || bodies([Ok(&b"1\n2"[..]), Err("broken"), Ok(b"2\r\n33333"), Ok(b"3\n\n4\n5")]);
    let at_6 = StreamError::Codec(FrameError::MessageTooLarge { limit: 4, at: 6 });
    let expect: [Said<'_>; 6] =
        [Ok(b"1"), Err(StreamError::Stream("broken")), Ok(b"22"), Err(at_6), Ok(b"4"), Ok(b"5")];
    let lines: Vec<_> = block_on(Lines::new(pieces(), limits(4)).collect());
    let said: Vec<Said<'_>> = lines.iter().map(|line| line.as_deref().map_err(|&error| error)).collect();
    assert_eq!(said, expect);

    let batches: Vec<_> = block_on(LineBatches::new(pieces(), limits(4)).collect());
    let said: Vec<Said<'_>> = batches
        .iter()
        .flat_map(|batch| match batch {
            Ok(batch) => batch.iter().map(Ok).collect(),
            Err(error) => vec![Err(*error)],
        })
        .collect();
    assert_eq!(said, expect);
}

#[test]
fn what_waits_is_not_lost_when_nobody_waits_for_it() {
    let mut events = Events::new(bodies([Ok(&b"data: 1\n"[..]), Ok(b"\ndata: 2\n\n")]), limits(4));
    let mut got = Vec::new();
    for _ in 0..20 {
        // Each future is polled once and dropped.
        if let Some(Some(event)) = events.next().now_or_never() {
            got.push(event.unwrap().into_data());
        }
    }
    assert_eq!(got, [Frame::new(Bytes::from_static(b"1")), Frame::new(Bytes::from_static(b"2"))]);
    assert_eq!(events.decoder().last_id(), None);
}

#[test]
fn sinks_write_what_the_streams_read() {
    let large = Bytes::from(vec![b'x'; 10_000]);
    let datas = [Bytes::from_static(b"a\nb"), large, Bytes::new()];
    let (mut events, mut lines) = (Vec::new(), Vec::new());
    block_on(async {
        let mut sink = EventSink::new(&mut events);
        for data in datas.clone() {
            sink.send(Event::new(data)).await.unwrap();
        }
        sink.close().await.unwrap();
        let mut sink = LineSink::new(&mut lines, LineEnds::Refuse);
        let [refused, taken, empty] = datas.clone().map(Frame::new);
        assert_eq!(sink.send(refused).await, Err(StreamError::Codec(LineEncodeError::LineEnd { at: 1 })));
        assert_eq!(sink.send(empty).await, Err(StreamError::Codec(LineEncodeError::Empty)));
        sink.send(taken).await.unwrap();
    });
    assert_eq!(events.len(), 1 + 3 + 1, "small events are one piece");
    let body = stream::iter(events.into_iter().map(Ok::<_, std::convert::Infallible>));
    let got: Vec<Bytes> =
        block_on(Events::new(body, Limits::default()).map(|event| event.unwrap().into_data().into()).collect());
    assert_eq!(got, datas);
    assert_eq!(lines.concat(), [&datas[1][..], b"\n"].concat());
}
