//! Whatever is dropped, wherever it is, leaves nothing: each public type that moves bytes is dropped at random
//! points under load, and tasks, descriptors and processes are what they were before.
//!
//! No test harness: the keeper is this program, re-executed, and must find its own `main`. Seeds are fixed; a
//! failure names type and seed.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::{
    env, fs,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use http_body_util::BodyExt as _;
use shadowcat::{
    clock,
    link::{
        dial,
        endpoint::{Endpoint, Link, Site, Upstream},
        lines::{Lines, LinesOptions},
        mux::{Mux, MuxOptions},
        pipe::Pipe,
        relay::{self, Relay},
        waits::Waits,
    },
    resources::Resources,
    session::Session,
    supervise::{
        Command,
        keeper::{Keeper, run_if_keeper},
        ladder::Times,
    },
    telemetry::{Log, LogFormat, ServerLines},
    transport::{
        Reader, Writer,
        http::{Body, Client, Incoming, Listener, SendError, client::Config as ClientConfig, server::Config},
        listen::{Address, Listening},
        memory,
    },
};
use shadowcat_codecs::Limits;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
    runtime::{self, Handle},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{
    field::{Field, Visit},
    span,
};

/// How often each type is dropped. More finds more, and takes longer.
fn rounds() -> u64 {
    env::var("SHADOWCAT_DROP_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

fn main() -> ExitCode {
    if let Some(code) = run_if_keeper() {
        return code;
    }
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log = Log::start(None, LogFormat::Text);
    runtime.block_on(every_type(&log));
    drop(runtime);
    a_task_that_panics_lets_go_of_its_child(&log);
    log.finish();
    ExitCode::SUCCESS
}

async fn every_type(log: &Log) {
    let parts = Parts { lines: log.server_lines("fixture".to_owned()), here: env::temp_dir() };
    // What a process has for good once it was used: signal handlers, and the threads behind them.
    checked("keeper", &parts, keeper).await;
    checked("pipe", &parts, pipe).await;
    checked("mux", &parts, mux).await;
    checked("relay", &parts, relay).await;
    checked("dial", &parts, dial).await;
    checked("lines", &parts, lines).await;
}

/// What every subject needs.
#[derive(Clone)]
struct Parts {
    lines: ServerLines,
    here: PathBuf,
}

/// What this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    tasks: usize,
    descriptors: usize,
    /// Keepers, and what runs under them.
    processes: usize,
}

fn held() -> Held {
    Held {
        tasks: Handle::current().metrics().num_alive_tasks(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        processes: children_of(std::process::id()),
    }
}

/// Processes whose parent this is, and theirs, zombies included.
fn children_of(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all: String = lists.collect();
    all.split_ascii_whitespace().map(|child| 1 + children_of(child.parse().unwrap_or(0))).sum()
}

/// Drops a subject in every round at another point, and asserts that nothing is left.
async fn checked<F: Future<Output = ()>>(what: &str, parts: &Parts, subject: impl Fn(Parts, Chance) -> F) {
    // The first use makes what stays.
    Box::pin(cut(subject(parts.clone(), Chance(1)), 40)).await;
    let before = settled(what, 0, None).await;
    for seed in 1..=rounds() {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // Few polls find what is half begun, many what is under load.
        let polls = 1 + chance.below(if seed.is_multiple_of(2) { 30 } else { 300 });
        Box::pin(cut(subject(parts.clone(), chance), polls)).await;
        settled(what, seed, Some(before)).await;
    }
}

/// Polls a future at most so often, and not for long, and drops it.
async fn cut(future: impl Future<Output = ()>, polls: u64) {
    let mut left = polls;
    let mut future = pin!(future);
    let cut = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(cx)
    });
    // One that waits for what does not come is dropped while it waits.
    let _elapsed = timeout(Duration::from_millis(300), cut).await;
}

/// What is held once it does not change any more; what was held `before`, if that is known.
async fn settled(what: &str, seed: u64, before: Option<Held>) -> Held {
    let start = clock::now();
    let (mut last, mut same) = (held(), 0);
    loop {
        sleep(Duration::from_millis(5)).await;
        let now = held();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        let is_good = before.is_none_or(|before| now == before);
        if is_good && same >= if before.is_some() { 2 } else { 40 } {
            return now;
        }
        assert!(clock::now() - start < support::DEADLINE, "{what}, seed {seed}: {now:?} is left, before {before:?}");
    }
}

/// A small random number generator (SplitMix64).
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A fault of ours in the task of a child: the child is ended, though whoever started it goes on, and whoever waits is
/// told that it is gone.
fn a_task_that_panics_lets_go_of_its_child(log: &Log) {
    let panics = Panics::default();
    let has_panicked = Arc::clone(&panics.has_panicked);
    // On one thread, which has this subscriber.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(panics, || {
        runtime.block_on(async {
            let mut options = MuxOptions::new(Limits::default());
            options.shutdown = QUICK;
            // It would not see by itself that nobody is there.
            let deaf = Command::new("sleep").with_args(["1000"]);
            let mux = Mux::new(deaf, new_keeper(), log.server_lines("sleep".to_owned()), options);
            let before = children_of(std::process::id());
            let listener = bind().await;
            let client = client_of(listener.local_addr().unwrap().unwrap());
            let asking = async {
                let answer = ask(&client, 8).await.unwrap();
                assert_eq!(answer.status(), 502);
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(body.windows(6).any(|bytes| bytes == b"\"id\":8"), "{body:?}");
                let start = clock::now();
                while children_of(std::process::id()) > before {
                    assert!(clock::now() - start < support::DEADLINE, "the child of a task that is gone goes on");
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = serve(listener, site(Link::Mux(mux))) => panic!("it serves no more"),
                () = asking => {}
            }
        });
    });
    assert!(has_panicked.load(Ordering::Relaxed), "nothing panicked, so nothing was tested");
}

/// Panics in the task of a child, which has just been started.
#[derive(Default)]
struct Panics {
    has_panicked: Arc<AtomicBool>,
}

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut is_start = IsStart(false);
        event.record(&mut is_start);
        if is_start.0 {
            self.has_panicked.store(true, Ordering::Relaxed);
            panic!("on purpose, in the task of a child");
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct IsStart(bool);

impl Visit for IsStart {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "server started";
    }
}

// --- subjects ------------------------------------------------------------------------------------------------

/// Children that are started, and one that is told to end.
async fn keeper(_: Parts, _: Chance) {
    let mut keeper = new_keeper();
    loop {
        let child = keeper.spawn(&server()).await.unwrap();
        drop(child.stdin);
        keeper.next_exit().await.unwrap();
        let _running = keeper.spawn(&server()).await.unwrap();
    }
}

/// Both directions full of messages.
async fn pipe(_: Parts, _: Chance) {
    let ((client, here), (there, server)) = (memory::pair(512), memory::pair(512));
    let (limits, session) = (Limits::default(), Session::new(64));
    let mut pipe = Pipe::new((here.reader, here.writer), (there.reader, there.writer), limits, session);
    let pumped = async {
        loop {
            poll_fn(|cx| pipe.poll_event(cx, || clock::now().into_std())).await;
        }
    };
    tokio::join!(pumped, flood(client.writer), flood(server.writer), drain(client.reader), drain(server.reader));
}

/// Clients of both eras, streams, and a listener, all dropped at once.
async fn mux(parts: Parts, chance: Chance) {
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let listener = bind().await;
    let address = listener.local_addr().unwrap().unwrap();
    tokio::join!(serve(listener, endpoint), clients(address, chance));
}

/// The same, behind a relay.
async fn relay(parts: Parts, chance: Chance) {
    let upstream = bind().await;
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let client = client_of(upstream.local_addr().unwrap().unwrap());
    let reach = Upstream::new(client.url());
    let link = Link::Relay(Box::new(Relay::new(client, relay::Options::default())), reach);
    let relaying = site(link);
    let listener = bind().await;
    let address = listener.local_addr().unwrap().unwrap();
    tokio::join!(serve(upstream, endpoint), serve(listener, relaying), clients(address, chance));
}

/// A client of lines in front of a server over HTTP, with calls in flight.
async fn dial(parts: Parts, _: Chance) {
    let upstream = bind().await;
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let client = client_of(upstream.local_addr().unwrap().unwrap());
    let (here, there) = memory::pair(4096);
    let options = dial::Options {
        limits: Limits::default(),
        max_pending: 64,
        drain: None,
        resources: Resources::default(),
        waits: Waits::default(),
    };
    let dialling = dial::run((there.reader, there.writer), client, options);
    let asking = async {
        let mut writer = here.writer;
        let handshake = format!("{INITIALIZE}\n{INITIALIZED}\n");
        write(&mut writer, handshake.as_bytes()).await;
        for id in 0.. {
            write(&mut writer, format!("{}\n", call(id)).as_bytes()).await;
        }
    };
    tokio::join!(serve(upstream, endpoint), dialling, asking, drain(here.reader)).1.unwrap();
}

/// Clients of lines over a socket, each with a child.
async fn lines(parts: Parts, mut chance: Chance) {
    let mut options = LinesOptions::new(Limits::default());
    options.shutdown = QUICK;
    let lines = Lines::before_command(server(), new_keeper(), parts.lines.clone(), options);
    let path = parts.here.join(format!("shadowcat-drops-{}-{}", std::process::id(), chance.below(u64::MAX)));
    let listening = Listening::bind(&Address::Unix(path.clone())).await.unwrap();
    let drain = CancellationToken::new();
    let clients = async {
        let each = |_| async {
            let stream = UnixStream::connect(&path).await?;
            let (reader, mut writer) = stream.into_split();
            writer.write_all(format!("{INITIALIZE}\n").as_bytes()).await?;
            let mut answers = BufReader::new(reader).lines();
            for id in 0.. {
                writer.write_all(format!("{}\n", call(id)).as_bytes()).await?;
                answers.next_line().await?;
            }
            io::Result::Ok(())
        };
        futures::future::join_all((0..4).map(each)).await;
    };
    tokio::join!(lines.serve(listening, drain), clients);
}

// --- their parts ---------------------------------------------------------------------------------------------

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"init","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const QUICK: Times = Times { grace: Duration::from_millis(50), term: Duration::from_millis(50) };

fn call(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":["{}"]}}}}"#,
        "x".repeat(1000)
    )
}

fn modern_call(id: u64) -> String {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":1}"#;
    let steps = r#"{"progress":["a","b"]},{"flood":4}"#;
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"run","arguments":{{"steps":[{steps}]}},{meta}}}}}"#
    )
}

fn server() -> Command {
    let test = env::current_exe().unwrap();
    let fixture = test.ancestors().nth(2).unwrap().join("examples/fixture_server");
    assert!(fixture.exists(), "`cargo build --example fixture_server` first; `cargo test` without `--test` does it");
    Command::new(fixture)
}

fn new_keeper() -> Keeper {
    Keeper::start_with(QUICK.term).unwrap()
}

fn new_mux(parts: &Parts) -> Mux {
    let mut options = MuxOptions::new(Limits::default());
    options.shutdown = QUICK;
    Mux::new(server(), new_keeper(), parts.lines.clone(), options)
}

fn site(link: Link) -> Endpoint {
    Endpoint::new(vec![Site::new("/mcp".to_owned(), link)], CancellationToken::new())
}

async fn bind() -> Listener {
    Listener::bind(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), Config::default()).await.unwrap()
}

fn client_of(address: SocketAddr) -> Client {
    Client::new(ClientConfig::new(format!("http://{address}/mcp").parse().unwrap())).unwrap()
}

async fn serve(listener: Listener, endpoint: Endpoint) {
    let handle = move |request, peer| endpoint.clone().handle(request, peer);
    listener.serve(handle, CancellationToken::new()).await;
}

/// Clients that ask, read some of the answer, and leave; until they are dropped themselves.
async fn clients(address: SocketAddr, mut chance: Chance) {
    let client = client_of(address);
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
async fn asks(client: &Client, id: u64, pieces: u64) {
    let Ok(mut response) = ask(client, id).await else { return };
    for _ in 0..pieces {
        if !matches!(response.body_mut().frame().await, Some(Ok(_))) {
            return;
        }
    }
}

/// What is answered to `initialize`, or to a call of 2026-07-28 where the id is even.
async fn ask(client: &Client, id: u64) -> Result<http::Response<Incoming>, SendError> {
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

async fn flood(mut writer: Writer) {
    for id in 0.. {
        write(&mut writer, format!("{}\n", call(id)).as_bytes()).await;
    }
}

async fn write(writer: &mut Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Ok(len) = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(bytes)])).await else { return };
        bytes = bytes.get(len..).unwrap_or_default();
    }
}

async fn drain(mut reader: Reader) {
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
