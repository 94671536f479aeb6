//! `shadowcat proxy https://…`: a session over HTTP/2, where all exchanges share one connection and each ends alone.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{DEADLINE, Launch, Session, eventually};
use temp::TempDir;
use tokio::{net::TcpListener, runtime, sync::mpsc as channel, sync::oneshot};
use tokio_rustls::TlsAcceptor;

const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
const INITIALIZE_RESULT: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");
const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

/// A server with TLS that speaks nothing but HTTP/2 and leaves the answers to the test.
struct Server {
    address: SocketAddr,
    certificate: PathBuf,
    asked: mpsc::Receiver<Asked>,
    connections: Arc<AtomicUsize>,
    _folder: TempDir,
}

/// One request, to be answered.
struct Asked {
    method: Method,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    answer: oneshot::Sender<Response<Pieces>>,
}

/// An answer that goes on.
struct Answer(channel::Sender<Result<Frame<Bytes>, Infallible>>);

type Pieces = StreamBody<channel_stream::Received>;

mod channel_stream {
    //! A channel's receiver as a stream.

    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::sync::mpsc::Receiver;

    pub(crate) struct Received(pub(crate) Receiver<Result<Frame<Bytes>, Infallible>>);

    impl futures::Stream for Received {
        type Item = Result<Frame<Bytes>, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }
}

impl Server {
    fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = TempDir::new().unwrap();
        let certificate = folder.join("root.pem");
        fs::write(&certificate, key.cert.pem()).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![key.cert.der().clone()];
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(chain, private).unwrap();
        config.alpn_protocols = vec![b"h2".into()];
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (told, asked) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(socket, TlsAcceptor::from(Arc::new(config)), told, counted));
        });
        Self { address, certificate, asked, connections, _folder: folder }
    }

    fn session(&self) -> Session {
        let url = format!("https://localhost:{}/mcp", self.address.port());
        Launch::new(["proxy", "--ca", self.certificate.to_str().unwrap(), &url]).start()
    }

    #[track_caller]
    fn next(&self, method: &Method) -> Asked {
        let asked = self.asked.recv_timeout(DEADLINE).expect("a request in time");
        assert_eq!((&asked.method, asked.version), (method, Version::HTTP_2), "{:?}", asked.body);
        asked
    }

    #[track_caller]
    fn post(&self) -> Asked {
        self.next(&Method::POST)
    }
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn answer(self, status: u16, headers: &[(&str, &str)]) -> Answer {
        let (sender, pieces) = channel::channel(64);
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let _gone = self.answer.send(builder.body(StreamBody::new(channel_stream::Received(pieces))).unwrap());
        Answer(sender)
    }

    fn json(self, body: &str) {
        self.answer(200, &[JSON]).send(body);
    }

    fn status(self, status: u16) {
        self.answer(status, &[]);
    }

    /// Awaits that the client gives the exchange up before its answer.
    fn assert_reset(self) {
        eventually("the stream is reset", || self.answer.is_closed());
    }
}

impl Answer {
    fn send(&self, piece: &str) {
        self.0.try_send(Ok(Frame::data(Bytes::from(piece.to_owned())))).unwrap();
    }

    fn assert_reset(self) {
        eventually("the stream is reset", || self.0.is_closed());
    }
}

async fn serve(
    socket: std::net::TcpListener,
    tls: TlsAcceptor,
    told: mpsc::Sender<Asked>,
    connections: Arc<AtomicUsize>,
) {
    let socket = TcpListener::from_std(socket).unwrap();
    while let Ok((stream, _)) = socket.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let (tls, told) = (tls.clone(), told.clone());
        tokio::spawn(async move {
            let stream = tls.accept(stream).await.unwrap();
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                    let (answer, answered) = oneshot::channel();
                    let (method, version, headers) = (parts.method, parts.version, parts.headers);
                    told.send(Asked { method, version, headers, body, answer }).unwrap();
                    answered.await.map_err(io::Error::other)
                }
            });
            let _ended =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn modern(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t",{META}}}}}"#)
}

fn result(id: u32, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{text}"}}"#)
}

#[test]
fn a_legacy_session_runs_over_one_connection() {
    let server = Server::start();
    let mut session = server.session();
    session.send(format!("{INITIALIZE}\n{INITIALIZED}\n"));
    let asked = server.post();
    assert_eq!(asked.body, INITIALIZE);
    asked.answer(200, &[JSON, ("mcp-session-id", "one")]).send(INITIALIZE_RESULT);
    assert_eq!(session.stdout.line(), INITIALIZE_RESULT);
    let asked = server.post();
    assert_eq!((&*asked.body, asked.header("mcp-session-id")), (INITIALIZED.as_bytes(), Some("one")));
    asked.status(202);
    let listening = server.next(&Method::GET).answer(200, &[EVENTS]);
    // Longer than the windows of HTTP/2, both ways.
    let text = "0123456789abcdef".repeat(1 << 17);
    let call = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x","params":["{text}"]}}"#);
    for id in 1..=2 {
        session.send(call(id) + "\n");
    }
    let (mut one, mut two) = (server.post(), server.post());
    if one.body == call(2) {
        std::mem::swap(&mut one, &mut two);
    }
    assert!(one.body == call(1) && two.body == call(2), "other bodies");
    let events = one.answer(200, &[EVENTS]);
    two.json(&result(2, &text));
    assert!(session.stdout.line() == result(2, &text), "another answer");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    for stream in [&listening, &events] {
        stream.send(&format!("data: {note}\n\n"));
        assert_eq!(session.stdout.line(), note);
    }
    events.send(&format!("data: {}\n\n", result(1, &text)));
    assert!(session.stdout.line() == result(1, &text), "another answer");
    drop(events);
    session.stdin = None;
    let asked = server.next(&Method::DELETE);
    assert_eq!(asked.header("mcp-session-id"), Some("one"));
    asked.status(200);
    let ended = session.wait();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    listening.assert_reset();
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn modern_cancellation_resets_its_stream_and_no_other() {
    let server = Server::start();
    let mut session = server.session();
    let mut ask = |id: u32| {
        session.send(modern(id) + "\n");
        let asked = server.post();
        assert_eq!(asked.header("mcp-name"), Some("t"));
        asked
    };
    let (before, within, other) = (ask(1), ask(2).answer(200, &[EVENTS]), ask(3).answer(200, &[EVENTS]));
    within.send(": open\n\n");
    for id in [1, 2] {
        session.send(format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}\n"
        ));
    }
    before.assert_reset();
    within.assert_reset();
    other.send(&format!("data: {}\n\n", result(3, "")));
    assert_eq!(session.stdout.line(), result(3, ""));
    session.send(modern(4) + "\n");
    server.post().json(&result(4, ""));
    assert_eq!(session.stdout.line(), result(4, ""));
    let ended = session.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{}", ended.stderr);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    assert!(server.asked.try_recv().is_err(), "nothing else is posted");
}
