//! What the types that are dropped are made of: messages, servers, clients, and what makes load flow.

use std::{
    env,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use http_body_util::BodyExt as _;
use shadowcat::{
    budget::Budget,
    link::{
        endpoint::{Endpoint, Link, Site},
        mux::{Mux, MuxOptions},
    },
    resources::Resources,
    supervise::{Command, keeper::Keeper, ladder::Times},
    transport::{
        Reader, Writer,
        http::{
            Body, Client, Incoming, Listener, SendError, client::Config as ClientConfig, server::Config, tls::Identity,
        },
        listen::Address,
    },
};
use shadowcat_codecs::Limits;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

use super::{Chance, Parts};

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
pub(crate) const QUICK: Times = Times { grace: Duration::from_millis(50), term: Duration::from_millis(50) };

pub(crate) fn call(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":["{}"]}}}}"#,
        "x".repeat(1000)
    )
}

pub(crate) fn result(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{}"}}}}"#, "x".repeat(1000))
}

pub(crate) fn modern_call(id: u64) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":1}"#;
    let steps = r#"{"progress":["a","b"]},{"flood":4}"#;
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"run","arguments":{{"steps":[{steps}]}},{meta}}}}}"#
    )
}

pub(crate) fn server() -> Command {
    let test = env::current_exe().unwrap();
    let fixture = test.ancestors().nth(2).unwrap().join("examples/fixture_server");
    assert!(fixture.exists(), "`cargo build --example fixture_server` first; `cargo test` without `--test` does it");
    Command::new(fixture)
}

pub(crate) fn new_keeper() -> Keeper {
    Keeper::start_with(QUICK.term).unwrap()
}

pub(crate) fn new_mux(parts: &Parts) -> Mux {
    let mut options = MuxOptions::new(Limits::default());
    options.shutdown = QUICK;
    options.resources = parts.resources.clone();
    Mux::new(server(), new_keeper(), parts.lines.clone(), options)
}

pub(crate) fn site(link: Link) -> Endpoint {
    Endpoint::new(vec![Site::new("/mcp".to_owned(), link)], CancellationToken::new())
}

pub(crate) async fn bind(resources: &Resources, tls: Option<Identity>) -> Listener {
    let mut config = Config::default();
    (config.tls, config.resources) = (tls, resources.clone());
    Listener::bind(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), config).await.unwrap()
}

pub(crate) fn client_of(address: SocketAddr, budget: &Budget) -> Client {
    let mut config = ClientConfig::new(format!("http://{address}/mcp").parse().unwrap());
    config.budget = budget.clone();
    Client::new(config).unwrap()
}

/// A server of lines that answers whatever it is asked.
pub(crate) async fn answering(listening: UnixListener) {
    let each = |stream: UnixStream| async move {
        let (reader, mut writer) = stream.into_split();
        let mut asked = BufReader::new(reader).lines();
        for id in 0.. {
            // Its own count, but for the handshake: which answer it is does not matter here.
            asked.next_line().await?;
            writer.write_all(format!("{}\n", result(id)).as_bytes()).await?;
        }
        io::Result::Ok(())
    };
    let mut busy = FuturesUnordered::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listening.accept() => busy.push(each(stream)),
            Some(_gone) = busy.next() => {}
        }
    }
}

pub(crate) async fn serve(listener: Listener, endpoint: Endpoint) {
    let handle = move |request, peer| endpoint.clone().handle(request, peer);
    listener.serve(handle, CancellationToken::new()).await;
}

/// Clients that ask, read some of the answer, and leave; until they are dropped themselves.
pub(crate) async fn clients(address: SocketAddr, mut chance: Chance) {
    let client = client_of(address, &Budget::default());
    let mut busy: FuturesUnordered<_> = (0..6).map(|id| asks(&client, id, chance.below(20))).collect();
    // And one that has sent half a request.
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    let mut id = 6;
    while busy.next().await.is_some() {
        busy.push(asks(&client, id, chance.below(20)));
        id += 1;
    }
}

/// One exchange, of which so many pieces are read.
pub(crate) async fn asks(client: &Client, id: u64, pieces: u64) {
    let Ok(mut response) = ask(client, id).await else { return };
    for _ in 0..pieces {
        if !matches!(response.body_mut().frame().await, Some(Ok(_))) {
            return;
        }
    }
}

/// What is answered to `initialize`, or to a call of 2026-07-28 where the id is even.
pub(crate) async fn ask(client: &Client, id: u64) -> Result<http::Response<Incoming>, SendError> {
    let is_modern = id.is_multiple_of(2);
    let body = if is_modern { modern_call(id) } else { INITIALIZE.to_owned() };
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(client.url().clone())
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if is_modern {
        let mirrored = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "run")];
        request = mirrored.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    }
    let request = request.body(Body::from(Bytes::from(body))).unwrap();
    client.send(request).await
}

pub(crate) async fn flood(mut writer: Writer, message: fn(u64) -> String) {
    for id in 0.. {
        write(&mut writer, format!("{}\n", message(id)).as_bytes()).await;
    }
}

pub(crate) async fn shakes_hands_and_floods(mut writer: Writer) {
    write(&mut writer, format!("{INITIALIZE}\n{INITIALIZED}\n").as_bytes()).await;
    flood(writer, call).await;
}

pub(crate) async fn write(writer: &mut Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Ok(len) = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(bytes)])).await else { return };
        bytes = bytes.get(len..).unwrap_or_default();
    }
}

pub(crate) async fn drain(mut reader: Reader) {
    let mut buf = BytesMut::new();
    loop {
        buf.clear();
        buf.reserve(1024);
        match poll_fn(|cx| reader.poll_read(cx, &mut buf)).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}
