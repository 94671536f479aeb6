//! Whatever is dropped, wherever it is, leaves nothing: each public type that moves bytes is dropped at random
//! points under load, and tasks, descriptors, processes, pooled buffers in use and bytes charged to the memory budget
//! are what they were before. That there was load is asserted too.
//!
//! No test harness: the keeper is this program, re-executed, and must find its own `main`. Seeds are fixed; a
//! failure names type and seed.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

#[path = "drops/panics.rs"]
mod panics;
#[path = "drops/parts.rs"]
mod parts;

use std::{
    env, fs,
    future::{Future, poll_fn},
    io::{self},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use panics::a_task_that_panics_lets_go_of_its_child;
use parts::{
    INITIALIZE, QUICK, answering, bind, call, client_of, clients, drain, flood, new_keeper, new_mux, result, serve,
    server, shakes_hands_and_floods, site,
};
use shadowcat::{
    budget::Budget,
    clock,
    link::{
        dial,
        endpoint::{Link, Upstream},
        lines::{Lines, LinesOptions},
        pipe::Pipe,
        relay::{self, Relay},
        socket, stdio,
        waits::Waits,
    },
    resources::Resources,
    session::Session,
    supervise::keeper::run_if_keeper,
    telemetry::{
        Log, LogFormat, ServerLines,
        metrics::labels::{Link as Over, MessageKind, To},
    },
    transport::{
        connection::{Connection, Target},
        http::{Client, Listener, client::Config as ClientConfig, tls::Identity},
        listen::{Address, Listening},
        memory,
    },
};
use shadowcat_codecs::{Limits, pool::BufferPool};
use temp::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    runtime::{self, Handle},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often each type is dropped. More finds more, and takes longer.
fn rounds() -> u64 {
    env::var("SHADOWCAT_DROP_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8)
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
    let here = Arc::new(TempDir::new().unwrap());
    let mut resources = Resources::default();
    // Small enough that it is used up now and then, and buffers that come from a pool.
    resources.budget = Budget::new(24 << 20, 1 << 20).unwrap().with_pools();
    let parts = Parts {
        lines: log.server_lines("fixture".to_owned()),
        identity: identity(&here),
        here,
        resources,
        born: Arc::default(),
    };
    // What a process has for good once it was used: signal handlers, and the threads behind them.
    checked("keeper", &parts, |parts| parts.born.load(Ordering::Relaxed), keeper).await;
    checked("pipe", &parts, |parts| parts.crossed(Over::Pipe), pipe).await;
    checked("stdio", &parts, |parts| parts.crossed(Over::Pipe), on_stdio).await;
    checked("socket", &parts, |parts| parts.crossed(Over::Socket), on_socket).await;
    checked("mux", &parts, |parts| parts.crossed(Over::Mux), mux).await;
    checked("relay", &parts, |parts| parts.crossed(Over::Relay), relay).await;
    checked("relay to TLS", &parts, |parts| parts.crossed(Over::Relay), relay_to_tls).await;
    checked("dial", &parts, |parts| parts.crossed(Over::Dial), dial).await;
    checked("lines", &parts, |parts| parts.crossed(Over::Pipe), lines).await;
    checked("lines before a socket", &parts, |parts| parts.crossed(Over::Socket), lines_before_socket).await;
    checked("lines before HTTP", &parts, |parts| parts.crossed(Over::Dial), lines_before_http).await;
}

/// A certificate for `localhost`; its file is named `root.pem`.
fn identity(here: &TempDir) -> Identity {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, private) = (here.join("root.pem"), here.join("key.pem"));
    fs::write(&certificate, key.cert.pem()).unwrap();
    fs::write(&private, key.signing_key.serialize_pem()).unwrap();
    Identity::read(&certificate, &private).unwrap()
}

/// What every subject needs.
#[derive(Clone)]
struct Parts {
    lines: ServerLines,
    here: Arc<TempDir>,
    identity: Identity,
    resources: Resources,
    /// Children that a bare keeper has seen to their end.
    born: Arc<AtomicU64>,
}

impl Parts {
    /// Requests that have crossed a link so far, and answers.
    fn crossed(&self, link: Over) -> u64 {
        let messages = &self.resources.metrics.messages;
        messages.of((link, To::Server, MessageKind::Request)).min(messages.of((
            link,
            To::Client,
            MessageKind::Response,
        )))
    }

    /// A path that nobody has used.
    fn path(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.here.join(format!("socket-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn held(&self) -> Held {
        let pools = self.resources.budget.pools().unwrap();
        Held {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            processes: children_of(std::process::id()),
            pooled: in_use(pools.stdio()) + in_use(pools.http()),
            charged: self.resources.budget.held(),
        }
    }
}

/// Blocks that were taken and have not come home.
fn in_use(pool: &BufferPool) -> u64 {
    let counts = pool.counts();
    counts.hits + counts.misses - counts.returned - counts.dropped
}

/// What this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    tasks: usize,
    descriptors: usize,
    /// Keepers, and what runs under them.
    processes: usize,
    /// Buffers of the pools.
    pooled: u64,
    /// Bytes of the budget. What pools may keep is charged for good.
    charged: usize,
}

/// Processes whose parent this is, and theirs, zombies included.
fn children_of(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all: String = lists.collect();
    all.split_ascii_whitespace().map(|child| 1 + children_of(child.parse().unwrap_or(0))).sum()
}

/// Drops a subject in every round at another point, and asserts that nothing is left. `load` is how much it has done.
async fn checked<F: Future<Output = ()>>(
    what: &str,
    parts: &Parts,
    load: fn(&Parts) -> u64,
    subject: impl Fn(Parts, Chance) -> F,
) {
    // The first use makes what stays.
    Box::pin(cut(subject(parts.clone(), Chance(1)), 40, || true)).await;
    let before = settled(what, parts, 0, None).await;
    for seed in 1..=rounds() {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // Few polls find what is half begun, many what is under load: which is awaited, and so asserted.
        let (is_early, idle) = (seed.is_multiple_of(2), load(parts));
        let polls = 1 + chance.below(if is_early { 30 } else { 300 });
        let flows = || is_early || load(parts) > idle;
        Box::pin(cut(subject(parts.clone(), chance), polls, flows)).await;
        assert!(flows(), "{what}, seed {seed}: nothing flowed before it was dropped");
        settled(what, parts, seed, Some(before)).await;
    }
}

/// Polls a future until something flows, then at most so often, and not for long, and drops it.
async fn cut(future: impl Future<Output = ()>, polls: u64, flows: impl Fn() -> bool) {
    let mut left = polls;
    let mut future = pin!(future);
    let loaded = poll_fn(|cx| if flows() { Poll::Ready(()) } else { future.as_mut().poll(cx) });
    let _elapsed = timeout(support::DEADLINE, loaded).await;
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
async fn settled(what: &str, parts: &Parts, seed: u64, before: Option<Held>) -> Held {
    let start = clock::now();
    let (mut last, mut same) = (parts.held(), 0);
    loop {
        sleep(Duration::from_millis(5)).await;
        let now = parts.held();
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

// --- subjects ------------------------------------------------------------------------------------------------

/// Children that are started, and one that is told to end.
async fn keeper(parts: Parts, _: Chance) {
    let mut keeper = new_keeper();
    loop {
        let child = keeper.spawn(&server()).await.unwrap();
        drop(child.stdin);
        keeper.next_exit().await.unwrap();
        parts.born.fetch_add(1, Ordering::Relaxed);
        let _running = keeper.spawn(&server()).await.unwrap();
    }
}

/// Both directions full of messages.
async fn pipe(parts: Parts, _: Chance) {
    let ((client, here), (there, server)) = (memory::pair(512), memory::pair(512));
    let (limits, session) = (Limits::default(), Session::new(64));
    let Resources { budget, metrics, .. } = &parts.resources;
    let allowance = budget.try_admit(0, 16 << 10).unwrap();
    let mut pipe = Pipe::new((here.reader, here.writer), (there.reader, there.writer), limits, session)
        .with_room(&allowance)
        .counted(metrics, Over::Pipe);
    let pumped = async {
        loop {
            poll_fn(|cx| pipe.poll_event(cx, || clock::now().into_std())).await;
        }
    };
    let (client_floods, server_floods) = (flood(client.writer, call), flood(server.writer, result));
    tokio::join!(pumped, client_floods, server_floods, drain(client.reader), drain(server.reader));
}

/// A session of lines with a child, which is asked more than it answers.
async fn on_stdio(parts: Parts, _: Chance) {
    let mut keeper = new_keeper();
    let child = keeper.spawn(&server()).await.unwrap();
    let (here, there) = memory::pair(4096);
    let options = stdio::Options {
        limits: Limits::default(),
        max_pending: 64,
        shutdown: QUICK,
        drain: None,
        start_timeout: Duration::from_secs(30),
        resources: parts.resources.clone(),
        waits: Waits::default(),
    };
    let mut lines = parts.lines.clone();
    let log = async move |line: &[u8]| lines.pass(line).await;
    let session = stdio::run((there.reader, there.writer), &mut keeper, child, log, options);
    tokio::join!(session, shakes_hands_and_floods(here.writer), drain(here.reader)).0.unwrap();
}

/// A session of lines with a server that listens.
async fn on_socket(parts: Parts, _: Chance) {
    let path = parts.path();
    let listening = UnixListener::bind(&path).unwrap();
    let upstream = Connection::connect(&Target::Unix(path), Duration::from_secs(10)).await.unwrap();
    let (here, there) = memory::pair(4096);
    let options = socket::Options {
        limits: Limits::default(),
        max_pending: 64,
        grace: QUICK.grace,
        drain: None,
        resources: parts.resources.clone(),
        waits: Waits::default(),
    };
    let session = socket::run((there.reader, there.writer), upstream, options);
    let flooding = shakes_hands_and_floods(here.writer);
    tokio::join!(session, answering(listening), flooding, drain(here.reader)).0.unwrap();
}

/// Clients of both eras, streams, and a listener, all dropped at once.
async fn mux(parts: Parts, chance: Chance) {
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let listener = bind(&parts.resources, None).await;
    let address = listener.local_addr().unwrap().unwrap();
    tokio::join!(serve(listener, endpoint), clients(address, chance));
}

/// The same, behind a relay.
async fn relay(parts: Parts, chance: Chance) {
    let upstream = bind(&parts.resources, None).await;
    let client = client_of(upstream.local_addr().unwrap().unwrap(), &parts.resources.budget);
    relay_to(parts, upstream, client, chance).await;
}

/// The same over TLS, and so over HTTP/2.
async fn relay_to_tls(parts: Parts, chance: Chance) {
    let upstream = bind(&parts.resources, Some(parts.identity.clone())).await;
    let port = upstream.local_addr().unwrap().unwrap().port();
    let mut config = ClientConfig::new(format!("https://localhost:{port}/mcp").parse().unwrap());
    config.ca.push(parts.here.join("root.pem"));
    config.budget = parts.resources.budget.clone();
    let client = Client::new(config).unwrap();
    relay_to(parts, upstream, client, chance).await;
}

async fn relay_to(parts: Parts, upstream: Listener, client: Client, chance: Chance) {
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let reach = Upstream::new(client.url());
    let mut options = relay::Options::default();
    options.resources = parts.resources.clone();
    let relaying = site(Link::Relay(Box::new(Relay::new(client, options)), reach));
    let listener = bind(&parts.resources, None).await;
    let address = listener.local_addr().unwrap().unwrap();
    tokio::join!(serve(upstream, endpoint), serve(listener, relaying), clients(address, chance));
}

/// A client of lines in front of a server over HTTP, with calls in flight.
async fn dial(parts: Parts, _: Chance) {
    let upstream = bind(&parts.resources, None).await;
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let client = client_of(upstream.local_addr().unwrap().unwrap(), &parts.resources.budget);
    let (here, there) = memory::pair(4096);
    let options = dial::Options {
        limits: Limits::default(),
        max_pending: 64,
        drain: None,
        resources: parts.resources.clone(),
        waits: Waits::default(),
    };
    let dialling = dial::run((there.reader, there.writer), client, options);
    let asking = shakes_hands_and_floods(here.writer);
    tokio::join!(serve(upstream, endpoint), dialling, asking, drain(here.reader)).1.unwrap();
}

/// Clients of lines over a socket, each with a child.
async fn lines(parts: Parts, _: Chance) {
    let lines = Lines::before_command(server(), new_keeper(), parts.lines.clone(), lines_options(&parts));
    clients_of_lines(&parts, lines).await;
}

/// The same, each with a connection to a server that listens.
async fn lines_before_socket(parts: Parts, _: Chance) {
    let path = parts.path();
    let listening = UnixListener::bind(&path).unwrap();
    let lines = Lines::before_socket(Target::Unix(path), lines_options(&parts));
    tokio::join!(answering(listening), clients_of_lines(&parts, lines));
}

/// The same, each with a session over HTTP.
async fn lines_before_http(parts: Parts, _: Chance) {
    let upstream = bind(&parts.resources, None).await;
    let endpoint = site(Link::Mux(new_mux(&parts)));
    let client = client_of(upstream.local_addr().unwrap().unwrap(), &parts.resources.budget);
    let lines = Lines::before_http(client, lines_options(&parts));
    tokio::join!(serve(upstream, endpoint), clients_of_lines(&parts, lines));
}

fn lines_options(parts: &Parts) -> LinesOptions {
    let mut options = LinesOptions::new(Limits::default());
    options.shutdown = QUICK;
    options.resources = parts.resources.clone();
    options
}

async fn clients_of_lines(parts: &Parts, lines: Lines) {
    let path = parts.path();
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
