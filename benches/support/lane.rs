//! A client, a link and a server in one thread, with the system's pipes and a loopback socket between them.

use std::{future::poll_fn, pin::Pin};

use bytes::BytesMut;
use shadowcat::{
    clock,
    link::{dial, pipe::Pipe, waits::Waits},
    resources::Resources,
    session::Session,
    transport::{
        PipeWriter, Reader, Writer,
        http::{Client, client},
    },
};
use shadowcat_codecs::Limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, unix::pipe},
    runtime::{Builder, Runtime},
};

/// Which link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Lines on both sides.
    Pipe,
    /// Lines at the client, HTTP at the server.
    Http,
}

/// All of them, while calls are made.
pub(crate) struct Lane {
    runtime: Runtime,
    link: Pin<Box<dyn Future<Output = ()>>>,
    client: LineEnd,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// One end of a stream of lines.
struct LineEnd {
    writer: pipe::Sender,
    reader: pipe::Receiver,
    read: BytesMut,
}

impl Lane {
    /// With messages of `size` bytes.
    pub(crate) fn new(way: Way, size: usize, resources: Resources) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let padded = |head: &str, tail: &str| {
            let text = "x".repeat(size.saturating_sub(head.len() + tail.len()));
            format!("{head}{text}{tail}\n").into_bytes()
        };
        let request = padded(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"t":""#,
            "\"}}}",
        );
        let answer = padded(r#"{"jsonrpc":"2.0","id":1,"result":{"t":""#, "\"}}");
        let entered = runtime.enter();
        let (client, downstream) = line_pair();
        let link: Pin<Box<dyn Future<Output = ()>>> = match way {
            Way::Pipe => {
                let (server, upstream) = line_pair();
                runtime.spawn(serve_lines(server, answer.clone()));
                let room = resources.budget.try_admit(0, 16 << 10).expect("nobody else has any");
                let limits = Limits::default();
                let mut pipe = Pipe::new(downstream, upstream, limits, Session::new(4096)).with_room(&room);
                Box::pin(async move {
                    loop {
                        poll_fn(|cx| pipe.poll_event(cx, || clock::now().into_std())).await;
                    }
                })
            }
            Way::Http => {
                let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
                let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
                runtime.spawn(serve_http(listener, answer.clone()));
                let url = url.parse().expect("a URL");
                let client = Client::new(client::Config::new(url)).expect("a client");
                let (limits, waits) = (Limits::default(), Waits::default());
                let options = dial::Options { limits, max_pending: 4096, drain: None, resources, waits };
                Box::pin(async move {
                    let outcome = dial::run(downstream, client, options).await;
                    panic!("the link has ended: {outcome:?}");
                })
            }
        };
        drop(entered);
        let mut lane = Self { runtime, link, client, request: INITIALIZE.into(), answer: INITIALIZE_ANSWER.into() };
        lane.call(1);
        lane.runtime.block_on(lane.client.writer.write_all(INITIALIZED)).expect("the link reads");
        (lane.request, lane.answer) = (request, answer);
        lane
    }

    /// So many calls, one after the other.
    pub(crate) fn call(&mut self, calls: u64) {
        let Self { runtime, link, client, request, answer } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = client.call(request, answer, calls) => {}
                () = link => {}
            }
        });
    }
}

impl LineEnd {
    async fn call(&mut self, request: &[u8], answer: &[u8], calls: u64) {
        for _ in 0..calls {
            self.writer.write_all(request).await.expect("the link reads");
            while !self.read.ends_with(b"\n") {
                assert_ne!(self.reader.read_buf(&mut self.read).await.expect("the link writes"), 0, "no answer");
            }
            assert!(self.read == answer, "another answer: {:?}", self.read.get(..self.read.len().min(200)));
            self.read.clear();
        }
    }
}

/// An end for a client or a server, and the link's end.
fn line_pair() -> (LineEnd, (Reader, Writer)) {
    let pipe = || pipe::pipe().expect("two descriptors");
    let ((writer, own_reader), (own_writer, reader)) = (pipe(), pipe());
    let own_writer = own_writer.into_nonblocking_fd().and_then(PipeWriter::new).expect("it can be watched");
    let end = LineEnd { writer, reader, read: BytesMut::with_capacity(128 << 10) };
    (end, (Reader::Pipe(own_reader.into()), Writer::Pipe(own_writer)))
}

async fn serve_lines(mut end: LineEnd, answer: Vec<u8>) {
    while end.reader.read_buf(&mut end.read).await.is_ok_and(|len| len > 0) {
        if end.read.ends_with(b"\n") {
            let answer = if holds(&end.read, b"\"initialize\"") { INITIALIZE_ANSWER } else { &answer };
            // What is told and not asked is the one message without an id.
            if holds(&end.read, b"\"id\":") && end.writer.write_all(answer).await.is_err() {
                return;
            }
            end.read.clear();
        }
    }
}

async fn serve_http(listener: TcpListener, answer: Vec<u8>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a socket takes it");
        tokio::spawn(serve_exchanges(stream, answer.clone()));
    }
}

async fn serve_exchanges(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) {
    let mut read = BytesMut::with_capacity(128 << 10);
    loop {
        let head = loop {
            if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
                break read.split_to(end + 4);
            }
            if !stream.read_buf(&mut read).await.is_ok_and(|len| len > 0) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let len =
            head.split_once("content-length:").and_then(|(_, rest)| rest.split("\r\n").next()?.trim().parse().ok());
        let len = len.unwrap_or(0);
        while read.len() < len {
            if !stream.read_buf(&mut read).await.is_ok_and(|len| len > 0) {
                return;
            }
        }
        let body = read.split_to(len);
        let (status, body) = match () {
            () if !head.starts_with("post") => ("405 Method Not Allowed", &b""[..]),
            () if holds(&body, b"\"initialize\"") => ("200 OK", INITIALIZE_ANSWER),
            () if holds(&body, b"\"id\":") => ("200 OK", &answer[..]),
            () => ("202 Accepted", &b""[..]),
        };
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
            return;
        }
    }
}

/// Whether it begins with something like that: what is long is not looked through.
fn holds(message: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(message.get(..message.len().min(100)).unwrap_or_default(), part).is_some()
}

const INITIALIZE: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"bench\",\"version\":\"0\"}}}\n";
const INITIALIZE_ANSWER: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"bench\",\"version\":\"0\"}}}\n";
const INITIALIZED: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
