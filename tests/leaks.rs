//! Many sessions over each link, opened and cut in every way, one after the other and side by side: what the proxy and
//! its keeper hold afterwards is what they held before, and a server has neither a session nor a stream of theirs.
//! Processes, descriptors and memory are counted by the system, sessions by the server.
//!
//! 500 sessions; `SHADOWCAT_LEAK_SESSIONS=10000` for the full length, which prints memory for every 1000:
//!
//! ```text
//! SHADOWCAT_LEAK_SESSIONS=10000 cargo test --release --test leaks -- --nocapture
//! ```

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/exposition.rs"]
mod exposition;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/legacy.rs"]
mod legacy;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[path = "leaks/upstream.rs"]
mod upstream;

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

use client::{Pending, Request};
use exposition::Scrape;
use legacy::{Client, INITIALIZED, answer, initialize};
use mux::{Mux, call, echoed, fixture, run};
use rustix::process::Signal;
use support::{Launch, Session, eventually};
use temp::TempDir;

/// A ladder that is climbed at once, and sessions that end soon after their client.
const OPTIONS: [&str; 6] = ["--shutdown-grace", "100ms", "--kill-after", "100ms", "--session-idle", "3s"];

/// The proxy, its keeper, and a child that clients of 2026-07-28 share.
const MOST_AT_REST: usize = 3;

/// Sessions at a time.
const THREADS: usize = 8;

/// How many sessions.
fn sessions() -> usize {
    env::var("SHADOWCAT_LEAK_SESSIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(500)
}

/// What two processes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    processes: usize,
    proxy_descriptors: usize,
    keeper_descriptors: usize,
}

fn held(session: &Session, keeper: u32) -> Held {
    let descriptors = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Held {
        processes: session.processes().len(),
        proxy_descriptors: descriptors(session.pid),
        keeper_descriptors: descriptors(keeper),
    }
}

/// Resident memory, in KiB.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Opens and cuts `count` sessions, several at a time; `one` is told which it is.
fn churn(count: usize, one: &(impl Fn(usize) + Sync)) {
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || (first..count).step_by(THREADS).for_each(one));
        }
    });
}

/// What a proxy counts of itself.
struct Counted(SocketAddr);

impl Counted {
    /// Where a proxy that listens elsewhere says that its counters are.
    fn shown_by(session: &mut Session) -> Self {
        let line = session.stderr.line_with("metrics at http://");
        Self(line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).unwrap().parse().unwrap())
    }

    fn tasks(&self) -> f64 {
        Scrape::of(self.0, "/metrics").get("shadowcat_tasks")
    }

    /// Nothing was altered, nobody lost and no task is left beyond those there were.
    fn assert_clean(&self, link: &str, tasks: f64) {
        eventually(&format!("{link}: no more than {tasks} tasks, and no session"), || {
            let scrape = Scrape::of(self.0, "/metrics");
            let altered = scrape.since(&Scrape::default(), "shadowcat_verify_mismatches_total");
            assert_eq!(altered, [], "{link}");
            let open = scrape.since(&Scrape::default(), "shadowcat_sessions{");
            let unaccounted = scrape.get("shadowcat_children_unaccounted");
            scrape.get("shadowcat_tasks") <= tasks && open.is_empty() && unaccounted == 0.0
        });
        let scrape = Scrape::of(self.0, "/metrics");
        let verified = scrape.since(&Scrape::default(), "shadowcat_verify_frames_total");
        assert!(!verified.is_empty(), "{link}: nothing was verified");
    }
}

/// Churns in portions of 1000, and asserts that nothing piles up.
fn assert_nothing_piles_up(link: &str, session: &Session, counted: &Counted, one: &(impl Fn(usize) + Sync)) {
    let count = sessions();
    // A proxy that starts no children has none.
    let keeper = session.processes().into_iter().find(|process| process.words.starts_with("shadowcat-keeper"));
    let keeper_pid = keeper.map_or(session.pid, |keeper| keeper.pid);
    // What is there for good after the first use: threads, tables, pooled connections.
    churn(count.div_ceil(10).max(40), one);
    let quiet = |what: &str, before: Option<Held>| {
        let mut last = held(session, keeper_pid);
        let mut same = 0;
        eventually(&format!("{link}: {what} holds no more than before, {before:?}"), || {
            let now = held(session, keeper_pid);
            // At first it is not known what is held; but children of sessions are not.
            let is_so = before.map_or(now.processes <= MOST_AT_REST, |before| now == before);
            same = if now == last && is_so { same + 1 } else { 0 };
            last = now;
            same == 20
        });
        (last, resident(session.pid), resident(keeper_pid))
    };
    let (before, proxy_before, keeper_before) = quiet("the warm-up", None);
    let tasks = counted.tasks();
    let mut done = 0;
    let mut after = (before, proxy_before, keeper_before);
    while done < count {
        let portion = (count - done).min(1000);
        churn(portion, one);
        done += portion;
        after = quiet("the churn", Some(before));
        let (_, proxy, keeper) = after;
        report(&format!("{link}: {done} sessions, {before:?}, resident: proxy {proxy} KiB, keeper {keeper} KiB"));
    }
    let growth = |now: usize, then: usize| now.saturating_sub(then);
    let (proxy, keeper) = (growth(after.1, proxy_before), growth(after.2, keeper_before));
    report(&format!(
        "{link}: growth per 1000 sessions: proxy {} KiB, keeper {} KiB",
        proxy * 1000 / count,
        keeper * 1000 / count
    ));
    // An allocator's own holes for a start; what leaks 1 KiB a session shows at full length.
    let allowed = 4096 + count / 2;
    let allowed_keeper = if keeper_pid == session.pid { allowed } else { 1024 };
    let what = format!("{link}: the proxy grew by {proxy} KiB, the keeper by {keeper} KiB");
    assert!(proxy < allowed && keeper < allowed_keeper, "{what}");
    counted.assert_clean(link, tasks);
}

/// For whoever asked for the full length. Nobody else reads it.
fn report(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One session over HTTP, cut in the way of its number.
fn over_http(address: SocketAddr, number: usize) {
    let begin = || Client::begin(address, "2025-11-25");
    let waiting = run("1", r#"{"progress":["a"]},{"wait":"never"}"#).token("1");
    match number % 6 {
        // Deleted, as it should be.
        0 => {
            let client = begin();
            let response = client.post(call("1", "echo", "[]").legacy_body()).send(address);
            assert_eq!(response.text(), echoed("1", "[]"));
            assert_eq!(client.request("DELETE").send(address).status / 100, 2);
        }
        // The client vanishes in the middle of a stream, and does not come back.
        1 => {
            let mut response = begin().post(waiting.legacy_body()).send(address);
            assert!(response.is_events() && !response.data().is_empty());
        }
        // The child dies with a request in flight.
        2 => {
            let response = begin().post(run("1", r#"{"exit":3}"#).legacy_body()).send(address);
            assert!(answer(response)["error"]["data"]["exitCode"] == 3);
        }
        // The client just stops.
        3 => drop(begin()),
        // Abandoned at half handshake: before the answer is there.
        4 => drop(Request::post(initialize("2025-11-25")).begin(address)),
        // Of the modern era: cut in the middle of a stream, and in the middle of a request.
        _ => {
            let mut response = waiting.modern().send(address);
            assert!(response.is_events() && !response.data().is_empty());
            let request = call("1", "echo", "[]").modern();
            let (head, body) = request.parts(address);
            Pending::connect(address).write(&[head.as_bytes(), &body[..body.len() / 2]].concat());
        }
    }
}

#[test]
fn sessions_over_http_leave_nothing() {
    let mux = Mux::start(&[&OPTIONS[..], &["--metrics", "/metrics"]].concat());
    // The child that modern clients share is there for good.
    mux.run("");
    let address = mux.address;
    assert_nothing_piles_up("http", &mux.session, &Counted(address), &|number| over_http(address, number));
}

/// One session over a socket, cut in the way of its number.
fn over_socket(path: &Path, number: usize) {
    let mut socket = UnixStream::connect(path).unwrap();
    let mut say = |line: &str| socket.write_all(line.as_bytes()).unwrap();
    if number.is_multiple_of(4) {
        return say(r#"{"jsonrpc":"2.0","id":"init","meth"#);
    }
    say(&format!("{}\n", initialize("2025-11-25")));
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let answer = lines.next().unwrap().unwrap();
    assert!(answer.contains("\"result\""), "{answer}");
    match number % 4 {
        1 => socket.shutdown(Shutdown::Write).unwrap(),
        2 => socket.write_all(format!("{}\n", run("1", r#"{"wait":"never"}"#).legacy_body()).as_bytes()).unwrap(),
        _ => {
            socket.write_all(format!("{}\n", run("1", r#"{"exit":3}"#).legacy_body()).as_bytes()).unwrap();
            assert!(lines.next().unwrap().unwrap().contains("server_exited"));
        }
    }
}

#[test]
fn sessions_over_a_socket_leave_nothing() {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let (listen, fixture) = (format!("unix:{}", path.display()), fixture().display().to_string());
    // A connection lingers for a moment after its session.
    let room = ["--max-sessions", "4096"];
    // Children that end neither with their input nor with their session, but only when they are told to.
    let deaf = ["--env", "FIXTURE_DEAF=1", "--metrics", "0"];
    let args = [&["proxy", "--listen", &listen], &OPTIONS[..4], &room, &deaf, &["--", &fixture]].concat();
    let mut proxy = Launch::new(args).start();
    let counted = Counted::shown_by(&mut proxy);
    proxy.stderr.line_with("listening");
    assert_nothing_piles_up("socket", &proxy, &counted, &|number| over_socket(&path, number));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
}

/// One session over a relay, cut in the way of its number. Those that are not deleted are for the server to forget.
fn over_relay(address: SocketAddr, number: usize) {
    let begin = || Client::begin(address, "2025-11-25");
    let waiting = r#"{"jsonrpc":"2.0","id":1,"method":"wait"}"#;
    match number % 5 {
        0 => {
            let client = begin();
            assert_eq!(client.post(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).send(address).status, 200);
            assert_eq!(client.request("DELETE").send(address).status, 200);
        }
        // The client vanishes in the middle of an answer, or of a stream it listens on.
        1 => assert_eq!(begin().post(waiting).send(address).data(), upstream::NOTE),
        2 => assert_eq!(begin().get().send(address).data(), upstream::NOTE),
        // In the middle of its request, and before the answer is there.
        3 => {
            let request = Request::post(initialize("2025-11-25"));
            let (head, body) = request.parts(address);
            Pending::connect(address).write(&[head.as_bytes(), &body[..body.len() / 2]].concat());
        }
        _ => drop(Request::post(initialize("2025-11-25")).begin(address)),
    }
}

#[test]
fn sessions_over_a_relay_leave_no_stream_at_the_server() {
    let (url, counts) = upstream::over_http();
    let options = ["proxy", "--listen", "127.0.0.1:0", "--metrics", "/metrics", "--upstream-idle-timeout", "100ms"];
    let mut proxy = Launch::new([&options[..], &[&url]].concat()).start();
    let line = proxy.stderr.line_with("listening on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/mcp")).unwrap().parse().unwrap();
    assert_nothing_piles_up("relay", &proxy, &Counted(address), &|number| over_relay(address, number));
    assert!(counts.begun() >= sessions() * 3 / 5, "{counts:?}");
    eventually("no stream is open at the server", || counts.streams() == 0);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
}

/// One session of lines before a server that is no child, cut in the way of its number.
fn before_a_server(path: &Path, number: usize) {
    let mut socket = UnixStream::connect(path).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut say = |line: &str| socket.write_all(line.as_bytes()).unwrap();
    if number.is_multiple_of(5) {
        return say(r#"{"jsonrpc":"2.0","id":"init","meth"#);
    }
    say(&format!("{}\n", initialize("2025-11-25")));
    let answer = lines.next().unwrap().unwrap();
    assert!(answer.contains("\"result\""), "{answer}");
    match number % 5 {
        // Abandoned at half handshake.
        1 => {}
        2 => {
            say(&format!("{INITIALIZED}\n{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}\n"));
            // What comes on the listening stream may come before.
            assert!(lines.any(|line| line.unwrap() == r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
            socket.shutdown(Shutdown::Write).unwrap();
            lines.for_each(|line| drop(line.unwrap()));
        }
        // In the middle of an answer.
        3 => {
            say("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"wait\"}\n");
            assert!(lines.any(|line| line.unwrap() == upstream::NOTE));
        }
        // In the middle of a message.
        _ => say(&format!("{INITIALIZED}\n{{\"jsonrpc\":\"2.0\",\"id\":1")),
    }
}

/// A listener of lines before `server`, churned; what is left at the server.
fn assert_nothing_is_left_at(link: &str, server: &str, counts: &upstream::Counts, options: &[&str]) {
    let here = TempDir::new().unwrap();
    let path = here.join("socket");
    let listen = format!("unix:{}", path.display());
    let args = ["proxy", "--listen", &listen, "--metrics", "0", "--max-sessions", "4096"];
    let mut proxy = Launch::new([&args[..], options, &[server]].concat()).start();
    let counted = Counted::shown_by(&mut proxy);
    proxy.stderr.line_with("listening");
    assert_nothing_piles_up(link, &proxy, &counted, &|number| before_a_server(&path, number));
    assert!(counts.begun() >= sessions() * 4 / 5, "{counts:?}");
    let what = format!("{link}: no session and no stream is left at the server");
    eventually(&what, || (counts.sessions(), counts.streams()) == (0, 0));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
}

#[test]
fn sessions_of_lines_before_http_are_deleted_at_the_server() {
    let (url, counts) = upstream::over_http();
    assert_nothing_is_left_at("dial", &url, &counts, &["--upstream-idle-timeout", "100ms"]);
}

#[test]
fn sessions_of_lines_before_a_socket_leave_no_connection_at_the_server() {
    let here = TempDir::new().unwrap();
    let path = here.join("server");
    let counts = upstream::over_lines(&path);
    let server = format!("unix:{}", path.display());
    assert_nothing_is_left_at("socket to socket", &server, &counts, &["--shutdown-grace", "100ms"]);
}

/// SIGKILL of the proxy, with sessions of every kind in it, of children that ignore the end of their input: none of
/// their processes outlives it, and no stream at a server. Each session that is dropped here asserts the former.
#[test]
fn a_proxy_that_is_killed_leaves_nothing() {
    let (url, counts) = upstream::over_http();
    for _ in 0..sessions().div_ceil(250) {
        let mux = Mux::with_env(&OPTIONS[..4], &["FIXTURE_DEAF=1"]);
        let clients: Vec<Client> = (0..4).map(|_| Client::begin(mux.address, "2025-11-25")).collect();
        let waiting = run("1", r#"{"progress":["a"]},{"wait":"never"}"#).token("1");
        let mut streams: Vec<_> =
            clients.iter().map(|client| client.post(waiting.legacy_body()).send(mux.address)).collect();
        streams.push(waiting.modern().send(mux.address));
        assert!(streams.iter_mut().all(|stream| stream.data().contains("progress")));
        let mut relay = Launch::new(["proxy", "--listen", "127.0.0.1:0", &url]).start();
        let line = relay.stderr.line_with("listening on http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/mcp")).unwrap().parse().unwrap();
        let mut relayed = Client::begin(address, "2025-11-25").get().send(address);
        assert_eq!(relayed.data(), upstream::NOTE);
        let mut dial = Launch::new(["proxy", &url]).start();
        dial.send(format!("{}\n{INITIALIZED}\n", initialize("2025-11-25")));
        assert!(dial.stdout.line().contains("\"result\""));
        assert_eq!(dial.stdout.line(), upstream::NOTE);
        for proxy in [&mux.session, &relay, &dial] {
            proxy.signal(Signal::KILL);
            assert_eq!(proxy.wait_unread(), None, "ended by the signal");
        }
        eventually("no stream is open at the server", || counts.streams() == 0);
        mux.session.assert_gone();
    }
}
