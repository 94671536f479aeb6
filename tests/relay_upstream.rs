//! How a relay reaches its upstream: with TLS and HTTP/2, through proxies, with credentials, many times at once.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;

#[path = "support/temp.rs"]
mod temp;

use std::{
    convert::Infallible,
    fs, io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use ::http::{Request, Response};
use http::{Conn, Proxy, Upstream};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::Launch;
use temp::TempDir;
use tokio::{net::TcpListener, runtime};
use tokio_rustls::TlsAcceptor;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;

/// A server with TLS and HTTP/2 that answers each request with its body, and says in headers by which version of HTTP it came
/// and by which name. Its certificate is in the file.
struct TlsServer {
    address: SocketAddr,
    certificate: PathBuf,
    _folder: TempDir,
}

impl TlsServer {
    fn start(name: &str) -> Self {
        let key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
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
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(socket, TlsAcceptor::from(Arc::new(config))));
        });
        Self { address, certificate, _folder: folder }
    }

    fn certificate(&self) -> &str {
        self.certificate.to_str().unwrap()
    }
}

async fn serve(socket: std::net::TcpListener, tls: TlsAcceptor) {
    let socket = TcpListener::from_std(socket).unwrap();
    while let Ok((stream, _)) = socket.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            // A client that does not believe us ends the handshake.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| async move {
                let version = format!("{:?}", request.version());
                let name = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                let media_type = request.headers().get("content-type").cloned();
                let mut answer = Response::builder().header("x-version", version).header("x-name", name);
                answer.headers_mut().unwrap().extend(media_type.map(|value| (::http::header::CONTENT_TYPE, value)));
                Ok::<_, Infallible>(answer.body(request.into_body()).unwrap())
            });
            let _ended =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A proxy in front of `url`, with this environment.
fn proxy(options: &[&str], url: &str, environment: &[(&str, &str)]) -> Proxy {
    let launch = Launch::new([&["proxy", "--listen", "127.0.0.1:0"], options, &[url]].concat());
    Proxy::launch(environment.iter().fold(launch, |launch, (key, value)| launch.env(key, value)))
}

#[test]
fn a_server_with_tls_is_believed_by_its_root_and_spoken_to_by_http_2() {
    let server = TlsServer::start("localhost");
    let url = format!("https://localhost:{}/mcp", server.address.port());
    let believing = proxy(&["--ca", server.certificate()], &url, &[]);
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    for body in [CALL, &long] {
        let mut client = believing.connect();
        client.post("", body);
        let head = client.head();
        assert_eq!((head.status(), head.get("x-version")), (200, Some("HTTP/2.0")), "{head:?}");
        assert_eq!(head.get("x-name"), Some(format!("localhost:{}", server.address.port()).as_str()));
        assert!(client.body(&head) == Ok(body.into()), "another body");
    }
    // Another root does not do. `SSL_CERT_FILE` stands for the system's, so that there is one on every machine.
    let stranger = TlsServer::start("localhost");
    let doubting = proxy(&[], &url, &[("SSL_CERT_FILE", stranger.certificate())]);
    let mut client = doubting.connect();
    client.post("", CALL);
    let head = client.head();
    let body = String::from_utf8(client.body(&head).unwrap()).unwrap();
    assert_eq!(head.status(), 502);
    assert!(body.contains("certificate"), "{body}");
}

#[test]
fn a_server_is_reached_through_the_proxy_the_environment_names() {
    let forward = Upstream::start();
    let address = format!("http://user:word@{}", forward.address);
    // The name is the proxy's to look up.
    let proxied = proxy(&[], "http://upstream.test:8080/mcp", &[("HTTP_PROXY", &address)]);
    let mut client = proxied.connect();
    client.post("", CALL);
    let mut asked = forward.accept();
    let head = asked.head();
    assert_eq!(head.start, "POST http://upstream.test:8080/mcp HTTP/1.1");
    assert_eq!(
        (head.get("host"), head.get("proxy-authorization")),
        (Some("upstream.test:8080"), Some("Basic dXNlcjp3b3Jk"))
    );
    assert_eq!(asked.body(&head), Ok(CALL.into()));
    asked.answer("application/json", "{}");
    assert_eq!(client.head().status(), 200);
    // What runs on this machine is not the proxy's business.
    let upstream = Upstream::start();
    let direct =
        proxy(&[], &format!("http://{}/mcp", upstream.address), &[("HTTP_PROXY", &address), ("ALL_PROXY", &address)]);
    let mut client = direct.connect();
    client.post("", CALL);
    assert_eq!(upstream.accept().head().start, "POST /mcp HTTP/1.1");
    assert_eq!(forward.waiting(), 0);
}

#[test]
fn a_tunnel_is_asked_for_where_there_is_tls() {
    let (forward, server) = (Upstream::start(), TlsServer::start("upstream.test"));
    let address = format!("http://user:word@{}", forward.address);
    let tunnelled = proxy(&["--ca", server.certificate()], "https://upstream.test/mcp", &[("HTTPS_PROXY", &address)]);
    let mut client = tunnelled.connect();
    client.post("", CALL);
    let mut asked = forward.accept();
    let head = asked.head();
    assert_eq!(head.start, "CONNECT upstream.test:443 HTTP/1.1");
    assert_eq!(head.get("proxy-authorization"), Some("Basic dXNlcjp3b3Jk"));
    asked.send("HTTP/1.1 200 Connected\r\n\r\n");
    join(asked, TcpStream::connect(server.address).unwrap());
    let head = client.head();
    assert_eq!((head.status(), head.get("x-version")), (200, Some("HTTP/2.0")));
    assert_eq!(client.body(&head), Ok(CALL.into()));
    // A proxy that refuses is named as the cause.
    let refused = proxy(&["--ca", server.certificate()], "https://upstream.test/mcp", &[("HTTPS_PROXY", &address)]);
    let mut client = refused.connect();
    client.post("", CALL);
    let mut asked = forward.accept();
    asked.head();
    asked.send("HTTP/1.1 407 Who Are You\r\ncontent-length: 0\r\n\r\n");
    let head = client.head();
    let body = String::from_utf8(client.body(&head).unwrap()).unwrap();
    assert!(head.status() == 502 && body.contains("proxy authorization required"), "{head:?} {body}");
}

/// Passes bytes on between two connections, both ways, until either ends.
fn join(one: Conn, other: TcpStream) {
    let one = one.into_stream();
    let (mut from, mut to) = (one.try_clone().unwrap(), other.try_clone().unwrap());
    thread::spawn(move || io::copy(&mut from, &mut to));
    let (mut from, mut to) = (other, one);
    thread::spawn(move || io::copy(&mut from, &mut to));
}

#[test]
fn a_token_from_the_environment_takes_the_place_of_the_clients() {
    let upstream = Upstream::start();
    let url = format!("http://{}/mcp", upstream.address);
    let proxy = proxy(&["--bearer-env", "RELAY_TOKEN"], &url, &[("RELAY_TOKEN", "secret\n")]);
    let mut client = proxy.connect();
    client.post("authorization: Bearer theirs\r\n", CALL);
    assert_eq!(upstream.accept().head().all("authorization"), ["Bearer secret"]);
    let mut session = Launch::new(["proxy", "--listen", "127.0.0.1:0", "--bearer-env", "RELAY_UNSET", &url]).start();
    let ended = session.end();
    assert!(ended.code == Some(78) && ended.stderr.contains("RELAY_UNSET"), "{ended:?}");
}

#[test]
fn a_public_url_takes_the_place_of_the_upstreams_where_clients_compare_them() {
    let upstream = Upstream::start();
    let url = format!("http://{}/api/mcp", upstream.address);
    let metadata = format!("http://{}/.well-known/oauth-protected-resource/api/mcp", upstream.address);
    let document = format!("{{\"a\": 1.0, \"resource\": \"{url}\" ,\"z\":[]}}");
    let public = "https://gate.example/mcp";
    let cases: [(&[&str], &str, &str, &str); 2] = [
        (&[], &url, &metadata, "/.well-known/oauth-protected-resource/mcp"),
        (
            &["--public-url", public],
            public,
            "https://gate.example/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-protected-resource/api/mcp",
        ),
    ];
    for (options, name, told, asked) in cases {
        let proxy = proxy(options, &url, &[]);
        let mut client = proxy.connect();
        client.post("", CALL);
        let mut server = upstream.accept();
        let head = server.head();
        server.body(&head).unwrap();
        let challenge = |url: &str| format!("Bearer error=\"x\", resource_metadata=\"{url}\"");
        server.send(format!(
            "HTTP/1.1 401 X\r\nwww-authenticate: {}\r\nwww-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            challenge(&metadata)
        ));
        assert_eq!(client.head().all("www-authenticate"), [challenge(told).as_str(), "Basic"]);
        client.send("GET /.well-known/oauth-protected-resource/mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        assert_eq!(server.head().start, format!("GET {asked} HTTP/1.1"));
        server.answer("application/json", &document);
        let head = client.head();
        assert_eq!(client.body(&head), Ok(document.replace(&url, name).into_bytes()));
    }
}

#[test]
fn fifty_streams_run_side_by_side() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut pairs: Vec<(Conn, Conn)> = (0..50)
        .map(|index| {
            let mut client = proxy.connect();
            client.send(format!("GET /mcp?{index} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n"));
            let mut server = upstream.accept();
            assert_eq!(server.head().start, format!("GET /mcp?{index} HTTP/1.1"));
            server.answer_events();
            assert_eq!(client.head().status(), 200);
            (client, server)
        })
        .collect();
    let event = |index: usize, round: usize| format!("id: {index}-{round}\ndata: {{\"round\":{round}}}\n\n");
    for round in 0..20 {
        for (index, (_, server)) in pairs.iter_mut().enumerate() {
            server.chunk(event(index, round));
        }
        for (index, (client, _)) in pairs.iter_mut().enumerate() {
            let expected = event(index, round);
            assert_eq!(client.chunks_of(expected.len()), expected.into_bytes());
        }
    }
    for (client, server) in &mut pairs {
        server.chunk("");
        assert_eq!(client.next_chunk(), Ok(None));
    }
}
