//! However a pipe's streams are cut, and whenever they end, both sides get the bytes that were sent to them.

#![cfg(test)]

use std::{
    io::IoSlice,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use proptest::prelude::*;
use shadowcat::{
    clock,
    link::pipe::{Event, Pipe},
    session::{Session, StreamKey},
    transport::{
        Reader, Writer,
        memory::{self, End},
    },
};
use shadowcat_codecs::Limits;

/// One end of the pipe: what it still has to send, and what it got.
struct Peer {
    reader: Reader,
    /// `None` once everything is sent.
    writer: Option<Writer>,
    unsent: Vec<u8>,
    got: Vec<u8>,
    has_heard_end: bool,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write { by_client: bool, len: usize },
    Read { by_client: bool, len: usize },
    Pump,
}

impl Peer {
    fn new(end: End, unsent: &[u8]) -> Self {
        let End { reader, writer, .. } = end;
        Self { reader, writer: Some(writer), unsent: unsent.to_owned(), got: Vec::new(), has_heard_end: false }
    }

    fn write(&mut self, cx: &mut Context<'_>, len: usize) {
        let Some(writer) = &mut self.writer else { return };
        let len = len.min(self.unsent.len());
        if len == 0 {
            self.writer = None;
        } else if let Poll::Ready(written) = writer.poll_write(cx, &[IoSlice::new(&self.unsent[..len])]) {
            self.unsent.drain(..written.unwrap());
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, len: usize) {
        let mut buf = BytesMut::with_capacity(len);
        if let Poll::Ready(read) = self.reader.poll_read(cx, &mut buf) {
            self.has_heard_end |= read.unwrap() == 0;
            self.got.extend_from_slice(&buf);
        }
    }
}

fn pump(pipe: &mut Pipe, cx: &mut Context<'_>) {
    while let Poll::Ready(event) = pipe.poll_event(cx, || clock::now().into_std()) {
        if let Event::Ended(from) = event {
            pipe.close(from.opposite());
        }
    }
}

/// Runs the steps, then lets everything come to its end. Returns what the client and the server got.
fn run(capacity: usize, steps: &[Step], from_client: &[u8], from_server: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let cx = &mut Context::from_waker(Waker::noop());
    let ((client, downstream), (server, upstream)) = (memory::pair(capacity), memory::pair(capacity));
    let (downstream, upstream) = ((downstream.reader, downstream.writer), (upstream.reader, upstream.writer));
    let mut pipe = Pipe::new(downstream, upstream, Limits::default(), Session::new(4096));
    let (mut client, mut server) = (Peer::new(client, from_client), Peer::new(server, from_server));
    for step in steps {
        match *step {
            Step::Write { by_client: true, len } => client.write(cx, len),
            Step::Write { by_client: false, len } => server.write(cx, len),
            Step::Read { by_client: true, len } => client.read(cx, len),
            Step::Read { by_client: false, len } => server.read(cx, len),
            Step::Pump => pump(&mut pipe, cx),
        }
    }
    // With room for one byte, a round moves one.
    for _ in 0..3 * (from_client.len() + from_server.len()) + 10 {
        if client.has_heard_end && server.has_heard_end {
            break;
        }
        for peer in [&mut client, &mut server] {
            peer.write(cx, 4096);
            peer.read(cx, 4096);
        }
        pump(&mut pipe, cx);
    }
    let (left, right) = (client.has_heard_end, server.has_heard_end);
    assert!(left && right, "stands still: {left} {} {right} {}", client.unsent.len(), server.unsent.len());
    assert_eq!(pipe.session().pending_at(StreamKey::UPSTREAM), 0);
    (client.got, server.got)
}

/// A message nobody answers, and its line end.
fn line() -> impl Strategy<Value = (String, &'static str)> {
    let message = prop_oneof![
        "[a-z \u{2028}é😀]{0,40}".prop_map(|text| format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{text}"]}}"#)),
        (any::<i64>(), "[0-9]{1,30}")
            .prop_map(|(id, digits)| format!(r#" {{"id":{id},"result":{{"a":1.{digits}}},"jsonrpc":"2.0"}} "#)),
        (1..300_usize).prop_map(|len| format!(r#"{{"method":"{}","jsonrpc":"2.0"}}"#, "\\n".repeat(len))),
    ];
    (message, prop_oneof![4 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\n\n"), 1 => Just("\n\r\n")])
}

/// What is sent, and what must arrive; the last line may have no end.
fn stream() -> impl Strategy<Value = (String, String)> {
    (prop::collection::vec(line(), 0..12), any::<bool>()).prop_map(|(lines, is_ended)| {
        let mut sent: String = lines.iter().flat_map(|(message, end)| [message.as_str(), end]).collect();
        if !is_ended {
            sent.truncate(sent.trim_end_matches(['\r', '\n']).len());
        }
        let arriving: String = lines.iter().flat_map(|(message, _)| [message.as_str(), "\n"]).collect();
        (sent, arriving)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 1..20_usize, 1 => 1..5000_usize];
    prop_oneof![
        (any::<bool>(), len()).prop_map(|(by_client, len)| Step::Write { by_client, len }),
        (any::<bool>(), len()).prop_map(|(by_client, len)| Step::Read { by_client, len }),
        Just(Step::Pump),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn bytes_out_are_bytes_in_however_they_are_cut(
        capacity in prop_oneof![1..9_usize, 1..9000_usize],
        steps in prop::collection::vec(step(), 0..300),
        (from_client, to_server) in stream(),
        (from_server, to_client) in stream(),
    ) {
        let (client_got, server_got) = run(capacity, &steps, from_client.as_bytes(), from_server.as_bytes());
        prop_assert!(server_got == to_server.as_bytes(), "{}", String::from_utf8_lossy(&server_got));
        prop_assert!(client_got == to_client.as_bytes(), "{}", String::from_utf8_lossy(&client_got));
    }
}
