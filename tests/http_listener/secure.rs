//! Clients that connect by TLS, and clients that speak HTTP/2.

use std::{fs, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tokio::{net::TcpStream, runtime, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    assert_has,
    client::Listener,
    support::{DEADLINE, Launch},
    temp::TempDir,
    upstream::{Upstream, WAIT},
};

pub(super) fn in_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(DEADLINE, work).await }).expect("in time")
}

/// A certificate for localhost, its file and its key's file.
struct Files {
    here: TempDir,
    cert: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let here = TempDir::new().unwrap();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(here.join("cert.pem"), cert.pem()).unwrap();
        fs::write(here.join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self { here, cert: cert.der().clone() }
    }

    fn path(&self, name: &str) -> String {
        self.here.join(name).to_str().unwrap().to_owned()
    }

    fn listener(&self, upstream: &str) -> Listener {
        Listener::start(&["--tls-cert", &self.path("cert.pem"), "--tls-key", &self.path("key.pem")], upstream)
    }

    async fn connect(&self, port: u16, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().into()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }
}

pub(super) fn posting(uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(uri).header("host", "localhost").body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

#[test]
fn both_protocols_are_spoken_over_tls() {
    let (upstream, files) = (Upstream::start(), Files::new());
    let mut listener = files.listener(&upstream.url);
    assert!(listener.url.starts_with("https://127.0.0.1:"), "{}", listener.url);
    in_time(async {
        for protocols in [&[][..], &["http/1.1"]] {
            let stream = files.connect(listener.port, protocols).await;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(posting("/mcp", "{\"a\":1}")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"a\":1}");
        }
        let stream = files.connect(listener.port, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        // The host stands in the target and in the header; both say the same.
        let response = sender.send_request(posting("https://localhost/mcp", "{\"a\":2}")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"a\":2}");
        let foreign = Request::get("https://evil.example/mcp").body(Full::default()).unwrap();
        assert_eq!(sender.send_request(foreign).await.unwrap().status(), StatusCode::FORBIDDEN);
    });
    // Somebody without TLS gets no answer, and does no harm.
    assert!(!listener.exchange("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").contains("200 OK"));
    assert_eq!(listener.stop().code, Some(0));
}

#[test]
fn exchange_over_http2_ends_after_the_signal() {
    let mut upstream = Upstream::start();
    let mut listener = Listener::start(&["--drain-timeout", "1h"], &upstream.url);
    in_time(async {
        let stream = TcpStream::connect(("127.0.0.1", listener.port)).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let running = tokio::spawn(sender.send_request(posting("http://localhost/mcp", WAIT)));
        let listening = Request::get("http://localhost/mcp").body(Full::default()).unwrap();
        let mut stream = sender.send_request(listening).await.unwrap().into_body();
        assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "data: hello\n\n");
        upstream.next_seen().await;
        upstream.next_seen().await;
        listener.session.signal(Signal::TERM);
        assert_eq!(stream.collect().await.unwrap().to_bytes(), "retry: 1000\n\n");
        upstream.open_gate();
        let response = running.await.unwrap().unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), WAIT);
        drop(sender);
        connection.await.unwrap().unwrap();
    });
    assert_eq!(listener.session.wait().code, Some(0));
}

#[test]
fn files_that_are_no_certificate_are_named_with_the_reason() {
    let (files, others) = (Files::new(), Files::new());
    fs::write(files.here.join("empty.pem"), "nothing").unwrap();
    let (cert, key, empty) = (files.path("cert.pem"), files.path("key.pem"), files.path("empty.pem"));
    for (cert, key, words) in [
        (&empty, &key, "no certificate in it"),
        (&cert, &empty, "empty.pem"),
        (&cert, &others.path("key.pem"), "key.pem"),
        (&key, &cert, "no certificate in it"),
    ] {
        let args = ["proxy", "--listen", "0", "--tls-cert", cert, "--tls-key", key, "http://127.0.0.1:9/"];
        let ended = Launch::new(args).start().wait();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert_has(&ended.stderr, words);
    }
}
