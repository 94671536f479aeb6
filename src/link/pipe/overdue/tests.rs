//! A pipe in memory, in time that stands still until nothing else is left to do.

use std::{future::poll_fn, io::IoSlice};

use bytes::BytesMut;
use shadowcat_codecs::Limits;

use super::*;
use crate::{
    clock,
    link::waits::SlowConsumer,
    session::{ResponseTimeouts, Session},
    transport::memory::{self, End},
};

const SECOND: Duration = Duration::from_secs(1);
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":"t"}}}"#;
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t"}}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
const CANCELLED: &str = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"there was no answer in time"}}"#;

/// A pipe whose sides hold 64 bytes each, and who are at its ends.
fn piped(waits: Waits) -> (Pipe, End, End) {
    let ((client, down), (server, up)) = (memory::pair(64), memory::pair(64));
    let session = Session::new(8).with_timeouts(waits.response.clone());
    let pipe = Pipe::new((down.reader, down.writer), (up.reader, up.writer), Limits::default(), session);
    (pipe.with_waits(waits), client, server)
}

fn now() -> Instant {
    clock::now().into_std()
}

/// Runs the pipe until somebody is overdue; and how long that took.
async fn overdue(mut pipe: Pipe) -> (Overdue, Duration) {
    let begun = now();
    loop {
        if let Turn::Overdue(overdue) = poll_fn(|cx| pipe.poll_turn(cx, now)).await {
            return (overdue, now() - begun);
        }
    }
}

async fn write(end: &mut End, line: &str) {
    let text = format!("{line}\n");
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = poll_fn(|cx| end.writer.poll_write(cx, &[IoSlice::new(rest)])).await.unwrap();
        rest = &rest[written..];
    }
}

async fn read(end: &mut End) -> String {
    let mut line = BytesMut::new();
    while line.last() != Some(&b'\n') {
        line.reserve(1);
        let mut one = BytesMut::with_capacity(1);
        assert_eq!(poll_fn(|cx| end.reader.poll_read(cx, &mut one)).await.unwrap(), 1);
        line.extend_from_slice(&one);
    }
    std::str::from_utf8(&line).unwrap().trim_end().to_owned()
}

fn limit(all: Option<u64>, own: &[(&str, u64)]) -> Waits {
    let own = own.iter().map(|&(method, seconds)| (method.into(), Some(Duration::from_secs(seconds))));
    let response = ResponseTimeouts::new(all.map(Duration::from_secs), own);
    Waits { response, ..Waits::default() }
}

#[tokio::test(start_paused = true)]
async fn an_answer_out_of_time_is_an_error_a_cancellation_and_then_nothing() {
    let (pipe, mut client, mut server) = piped(limit(Some(9), &[("tools/call", 2)]));
    let talk = async {
        write(&mut client, CALL).await;
        assert_eq!(read(&mut server).await, CALL);
        let begun = now();
        let error: serde_json::Value = serde_json::from_str(&read(&mut client).await).unwrap();
        assert_eq!(now() - begun, 2 * SECOND);
        assert_eq!((&error["id"], &error["error"]["code"]), (&7.into(), &(-32603).into()));
        let data = &error["error"]["data"];
        assert_eq!((&data["reason"], &data["afterMs"]), (&"timeout".into(), &2000.into()), "{error}");
        assert_eq!(data["what"], "the server's answer");
        assert_eq!(read(&mut server).await, CANCELLED);
        // Late, and so for nobody; what comes behind it passes.
        write(&mut server, ANSWER).await;
        write(&mut server, PROGRESS).await;
        assert_eq!(read(&mut client).await, PROGRESS);
    };
    tokio::select! {
        () = talk => {}
        (overdue, _) = overdue(pipe) => panic!("{overdue:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn progress_begins_the_time_of_its_request_anew() {
    let (pipe, mut client, mut server) = piped(limit(Some(2), &[]));
    let talk = async {
        write(&mut client, CALL).await;
        assert_eq!(read(&mut server).await, CALL);
        for _ in 0..10 {
            tokio::time::sleep(SECOND * 3 / 2).await;
            write(&mut server, PROGRESS).await;
            assert_eq!(read(&mut client).await, PROGRESS);
        }
        write(&mut server, ANSWER).await;
        assert_eq!(read(&mut client).await, ANSWER);
    };
    tokio::select! {
        () = talk => {}
        (overdue, _) = overdue(pipe) => panic!("{overdue:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn initialize_is_never_cancelled() {
    let (pipe, mut client, mut server) = piped(limit(Some(2), &[]));
    let talk = async {
        write(&mut client, r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#).await;
        assert!(read(&mut server).await.contains("initialize"));
        assert!(read(&mut client).await.contains(r#""afterMs":2000"#));
        write(&mut client, PROGRESS).await;
        assert_eq!(read(&mut server).await, PROGRESS, "and nothing before it");
    };
    tokio::select! {
        () = talk => {}
        (overdue, _) = overdue(pipe) => panic!("{overdue:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_overdue_unless_it_may_pause() {
    for (slow_consumer, expected) in [(SlowConsumer::Disconnect(5 * SECOND), Some(5)), (SlowConsumer::Pause, None)] {
        let (pipe, _client, mut server) = piped(Waits { slow_consumer, ..Waits::default() });
        let told = tokio::select! {
            told = overdue(pipe) => Some(told),
            () = async {
                // More than fits on the way; it never reads.
                loop {
                    if tokio::time::timeout(1000 * SECOND, write(&mut server, PROGRESS)).await.is_err() {
                        break;
                    }
                }
            } => None,
        };
        let told = told.map(|(overdue, after)| (overdue.whom, overdue.timeout.after, after));
        let expected = expected.map(|seconds| seconds * SECOND);
        assert_eq!(told, expected.map(|after| (StreamKey::DOWNSTREAM, after, after)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_at_a_time_is_not_overdue() {
    let (pipe, mut client, mut server) =
        piped(Waits { slow_consumer: SlowConsumer::Disconnect(5 * SECOND), ..Waits::default() });
    let talk = async {
        let writing = async {
            for _ in 0..4 {
                write(&mut server, PROGRESS).await;
            }
        };
        let reading = async {
            for _ in 0..4 * (PROGRESS.len() + 1) / 16 {
                tokio::time::sleep(4 * SECOND).await;
                let mut some = BytesMut::with_capacity(16);
                poll_fn(|cx| client.reader.poll_read(cx, &mut some)).await.unwrap();
            }
        };
        tokio::join!(writing, reading);
    };
    tokio::select! {
        () = talk => {}
        (overdue, _) = overdue(pipe) => panic!("{overdue:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_and_says_nothing_is_overdue() {
    let (pipe, mut client, mut server) = piped(Waits { server_write: Some(5 * SECOND), ..Waits::default() });
    let talk = async {
        // Longer than what fits on the way, so that some of it waits.
        write(&mut client, CALL).await;
        // As long as it speaks it is at work, whatever it reads.
        for _ in 0..3 {
            tokio::time::sleep(4 * SECOND).await;
            write(&mut server, PROGRESS).await;
            assert_eq!(read(&mut client).await, PROGRESS);
        }
        std::future::pending::<()>().await;
    };
    let (overdue, after) = tokio::select! {
        () = talk => unreachable!(),
        told = overdue(pipe) => told,
    };
    assert_eq!((overdue.whom, overdue.timeout.after, after), (StreamKey::UPSTREAM, 5 * SECOND, 17 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_asked_and_says_nothing_is_overdue_and_one_that_is_not_asked_is_not() {
    let (pipe, mut client, mut server) = piped(Waits { server_read: Some(5 * SECOND), ..Waits::default() });
    let talk = async {
        tokio::time::sleep(100 * SECOND).await;
        write(&mut client, CALL).await;
        assert_eq!(read(&mut server).await, CALL);
        tokio::time::sleep(4 * SECOND).await;
        write(&mut server, ANSWER).await;
        assert_eq!(read(&mut client).await, ANSWER);
        tokio::time::sleep(100 * SECOND).await;
        write(&mut client, CALL).await;
        assert_eq!(read(&mut server).await, CALL);
        std::future::pending::<()>().await;
    };
    let (overdue, after) = tokio::select! {
        () = talk => unreachable!(),
        told = overdue(pipe) => told,
    };
    assert_eq!((overdue.whom, overdue.timeout.after, after), (StreamKey::UPSTREAM, 5 * SECOND, 209 * SECOND));
}
