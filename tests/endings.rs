//! Every way a session can end, over every link that starts children: nothing of it is left, neither what the child
//! started in its process group, nor what has left that, nor what ignores SIGTERM. Where the session ends and not
//! the proxy, it is gone while the proxy serves on.
//!
//! One table: [`Link`] × [`Way`].

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
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

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    thread,
};

use client::{Pending, Request};
use legacy::{Client, initialize};
use mux::{Call, Mux, call, fixture, run};
use rustix::process::Signal;
use support::{Launch, Output, Session, eventually, kill};
use temp::TempDir;

/// A ladder that is climbed at once.
const QUICK: [&str; 6] = ["--shutdown-grace", "100ms", "--kill-after", "100ms", "--drain-timeout", "100ms"];

/// The fixture, and beside it: a process that holds its stdout, one in a session of its own, one that ignores TERM
/// and one that does both.
const FAMILY: &str = r#"
    sleep 1001 &
    setsid sleep 1002 >/dev/null 2>&1 &
    (trap '' TERM; exec sleep 1003) >/dev/null 2>&1 &
    (trap '' TERM; exec setsid sleep 1004) >/dev/null 2>&1 &
    "$0"
"#;

/// Where a client meets a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// stdin and stdout.
    Pipe,
    /// Lines over a socket.
    Lines,
    /// HTTP, a legacy session with a child of its own.
    Owned,
    /// HTTP, a child that modern clients share.
    Shared,
}

/// What happens to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The client ends it as it should: end of input, or DELETE.
    Ended,
    /// The client vanishes while it waits for an answer; over HTTP, the time of the session runs out.
    ClientGone,
    /// The client vanishes with half a message sent.
    HalfSent,
    /// The server exits by itself, while asked.
    ServerExits,
    ServerKilled,
    /// The server does not move any more when its client leaves.
    ServerStopped,
    Terminated,
    Interrupted,
    /// SIGKILL of the proxy.
    ProxyKilled,
    KeeperKilled,
    /// A keeper that does not move must not keep the proxy from ending.
    KeeperStopped,
}

const WAYS: [Way; 11] = [
    Way::Ended,
    Way::ClientGone,
    Way::HalfSent,
    Way::ServerExits,
    Way::ServerKilled,
    Way::ServerStopped,
    Way::Terminated,
    Way::Interrupted,
    Way::ProxyKilled,
    Way::KeeperKilled,
    Way::KeeperStopped,
];

/// A session with a family behind it.
enum Running {
    Pipe(Session),
    Lines { proxy: Session, socket: Option<UnixStream>, _here: TempDir },
    Owned { mux: Mux, client: Client },
    Shared { mux: Mux },
}

impl Running {
    fn start(link: Link) -> Self {
        let fixture = fixture().display().to_string();
        let server = ["sh", "-c", FAMILY, &fixture];
        match link {
            Link::Pipe => {
                let mut session = Session::of_server(&QUICK, &server);
                session.send(format!("{}\n", initialize("2025-11-25")));
                assert!(session.stdout.line().contains("init"));
                Self::Pipe(session)
            }
            Link::Lines => {
                let here = TempDir::new().unwrap();
                let listen = format!("unix:{}", here.join("socket").display());
                let args = [&["proxy", "--listen", &listen], &QUICK[..], &["--"], &server].concat();
                let mut proxy = Launch::new(args).start();
                proxy.stderr.line_with("listening");
                let mut socket = UnixStream::connect(here.join("socket")).unwrap();
                socket.write_all(format!("{}\n", initialize("2025-11-25")).as_bytes()).unwrap();
                let mut line = String::new();
                BufReader::new(&socket).read_line(&mut line).unwrap();
                assert!(line.contains("init"), "{line}");
                Self::Lines { proxy, socket: Some(socket), _here: here }
            }
            Link::Owned => {
                let mux = Mux::of_server(&[&QUICK[..], &["--session-idle", "300ms"]].concat(), &server);
                // Without a connection the session would not live to see its end.
                let client = Client::start(&mux, "2025-11-25");
                Self::Owned { mux, client }
            }
            Link::Shared => {
                let options = ["--child", "per-client", "--session-idle", "300ms"];
                Self::Shared { mux: Mux::of_server(&[&QUICK[..], &options].concat(), &server) }
            }
        }
    }

    fn proxy(&self) -> &Session {
        match self {
            Self::Pipe(proxy) | Self::Lines { proxy, .. } => proxy,
            Self::Owned { mux, .. } | Self::Shared { mux } => &mux.session,
        }
    }

    /// Makes a call, and does not await its answer.
    fn ask(&mut self, call: &Call) -> Option<Pending> {
        let line = format!("{}\n", call.legacy_body());
        match self {
            Self::Pipe(session) => session.send(line),
            Self::Lines { socket, .. } => socket.as_mut().unwrap().write_all(line.as_bytes()).unwrap(),
            Self::Owned { mux, client } => return Some(client.post(call.legacy_body()).begin(mux.address)),
            Self::Shared { mux } => return Some(call.modern().begin(mux.address)),
        }
        None
    }

    /// The client is no more.
    fn vanish(&mut self) {
        match self {
            Self::Pipe(session) => (session.stdin, session.stdout) = (None, Output::closed()),
            Self::Lines { socket, .. } => *socket = None,
            Self::Owned { .. } | Self::Shared { .. } => {}
        }
    }

    fn family(&self) -> Vec<String> {
        let processes = self.proxy().processes().into_iter().map(|process| process.words);
        processes
            .filter(|words| words.starts_with("sleep 100") || words.contains("fixture_server"))
            .filter(|words| !words.contains(" proxy "))
            .collect()
    }

    /// Everybody of the family is there.
    fn await_family(&self) {
        for number in 1001..=1004 {
            self.proxy().process(&format!("sleep {number}"));
        }
    }

    /// Whether another session is served.
    fn assert_serves(&self) {
        match self {
            Self::Pipe(_) | Self::Lines { .. } => {}
            Self::Owned { mux, .. } | Self::Shared { mux } => {
                eventually("another is served", || mux.send(&call("1", "echo", "[]").modern()).status == 200);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The others do so by themselves.
        if let Self::Lines { proxy, .. } = self {
            proxy.signal(Signal::TERM);
        }
    }
}

/// One cell of the table. `false`: there is no such thing.
fn ends(link: Link, way: Way) -> bool {
    let mut running = Running::start(link);
    // What keeps a session over HTTP alive until its end.
    let waiting = running.ask(&run("7", r#"{"log":"x"},{"wait":"never"}"#));
    running.await_family();
    let mut ends_proxy = link == Link::Pipe;
    let mut last = None;
    match way {
        Way::Ended => match &mut running {
            Running::Pipe(session) => session.stdin = None,
            Running::Lines { socket, .. } => *socket = None,
            Running::Owned { mux, client } => assert_eq!(mux.send(&client.request("DELETE")).status / 100, 2),
            Running::Shared { .. } => return false,
        },
        Way::ClientGone => {
            drop(waiting);
            running.vanish();
        }
        Way::HalfSent => {
            match &mut running {
                Running::Pipe(session) => session.send(r#"{"jsonrpc":"2.0","id":8,"meth"#),
                Running::Lines { socket, .. } => {
                    socket.as_mut().unwrap().write_all(br#"{"jsonrpc":"2.0","id"#).unwrap();
                }
                Running::Owned { mux, client } => half(mux, &client.post(call("8", "echo", "[]").legacy_body())),
                Running::Shared { mux } => half(mux, &call("8", "echo", "[]").modern()),
            }
            drop(waiting);
            running.vanish();
        }
        Way::ServerExits => last = running.ask(&run("8", r#"{"exit":3}"#)),
        Way::ServerKilled => kill(running.proxy().process("sh -c"), Signal::KILL),
        Way::ServerStopped => {
            kill(running.proxy().process("sh -c"), Signal::STOP);
            drop(waiting);
            running.vanish();
        }
        Way::Terminated | Way::Interrupted | Way::ProxyKilled => {
            ends_proxy = true;
            let signal = match way {
                Way::Terminated => Signal::TERM,
                Way::Interrupted => Signal::INT,
                _ => Signal::KILL,
            };
            running.proxy().signal(signal);
        }
        Way::KeeperKilled => kill(running.proxy().process("shadowcat-keeper"), Signal::KILL),
        Way::KeeperStopped => {
            ends_proxy = true;
            kill(running.proxy().process("shadowcat-keeper"), Signal::STOP);
            running.proxy().signal(Signal::TERM);
        }
    }
    let what = format!("{link:?}, {way:?}: nothing of the session is left");
    if ends_proxy {
        eventually(&what, || running.proxy().processes().is_empty());
    } else {
        eventually(&what, || running.family().is_empty());
        running.assert_serves();
    }
    drop(last);
    true
}

/// Sends half of a request and leaves.
fn half(mux: &Mux, request: &Request) {
    let (head, body) = request.parts(mux.address);
    Pending::connect(mux.address).write(&[head.as_bytes(), &body[..body.len() / 2]].concat());
}

/// All ways for one link, at once.
fn every_way(link: Link) {
    let cells = thread::scope(|scope| {
        let cells: Vec<_> = WAYS.map(|way| scope.spawn(move || ends(link, way))).into();
        cells.into_iter().map(|cell| usize::from(cell.join().unwrap())).sum::<usize>()
    });
    assert!(cells >= WAYS.len() - 1, "{cells} ways");
}

#[test]
fn nothing_is_left_of_a_session_on_stdin() {
    every_way(Link::Pipe);
}

#[test]
fn nothing_is_left_of_a_session_on_a_socket() {
    every_way(Link::Lines);
}

#[test]
fn nothing_is_left_of_a_session_over_http() {
    every_way(Link::Owned);
}

#[test]
fn nothing_is_left_of_a_shared_child() {
    every_way(Link::Shared);
}
