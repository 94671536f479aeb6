//! Whoever comes when the memory budget is used up: refused at once, told when to come back, and served again once
//! there is room. The real program, on each link that lets clients connect.

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
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use client::{Pending, Request, Response};
use legacy::initialize;
use mux::{Mux, call, run};
use rustix::process::Signal;
use serde_json::Value;
use support::{DEADLINE, Launch, eventually};
use temp::TempDir;

/// About the least there may be.
const SMALL: [&str; 4] = ["--max-frame-len", "4MiB", "--memory-budget", "12.5MiB"];

/// What is said of it.
const USED_UP: &str = "memory budget of 13107200 bytes is used up";

/// Asks on a connection that is kept.
fn ask_on(kept: &TcpStream, request: &Request, address: SocketAddr) -> Response {
    let (head, body) = request.parts(address);
    let mut pending = Pending::of(kept.try_clone().unwrap());
    pending.write(&[head.replace("Connection: close\r\n", "").as_bytes(), body].concat());
    pending.response()
}

#[test]
fn heads_on_a_kept_connection_take_no_more_room_however_many_there_were() {
    let mux = Mux::start(&SMALL);
    let ask = call("1", "echo", "[1]").modern();
    let kept: Vec<_> = (0..20).map(|_| TcpStream::connect(mux.address).unwrap()).collect();
    // Together far more than the 8 KiB that a head may take of its connection, on each of them.
    for round in 0..40 {
        for kept in &kept {
            let mut response = ask_on(kept, &ask, mux.address);
            let text = String::from_utf8(response.read_all().unwrap()).unwrap();
            assert_eq!(response.status, 200, "round {round}: {text}");
        }
    }
}

#[test]
fn a_new_session_before_children_is_refused() {
    let mux = Mux::start(&[&SMALL[..], &["--shutdown-grace", "100ms", "--kill-after", "100ms"]].concat());
    let kept = TcpStream::connect(mux.address).unwrap();
    // A connection that has had an exchange may be idle for longer than it takes to open the others.
    assert_eq!(
        ask_on(&kept, &run("0", "").modern(), mux.address).read_all().map(|read| read.is_empty()).ok(),
        Some(false)
    );
    let begin = Request::post(initialize("2025-11-25"));
    // Each takes room for a connection and an exchange. Those that find none are not even accepted.
    let wait = run("1", r#"{"wait":"never"}"#).modern();
    let (head, body) = wait.parts(mux.address);
    let waiting: Vec<TcpStream> = (0..300)
        .map_while(|_| {
            // Once those that wait to be accepted are too many, the system lets nobody wait any more.
            let mut socket = TcpStream::connect_timeout(&mux.address, Duration::from_millis(500)).ok()?;
            let _refused = socket.write_all(&[head.as_bytes(), body].concat());
            Some(socket)
        })
        .collect();
    let mut refused = None;
    eventually("there is no room for a session", || {
        let mut response = ask_on(&kept, &begin, mux.address);
        let (status, retry_after) = (response.status, response.header("retry-after").map(str::to_owned));
        let text = String::from_utf8(response.read_all().unwrap()).unwrap();
        refused = (status != 200).then_some((status, retry_after, text));
        refused.is_some()
    });
    let (status, retry_after, text) = refused.unwrap();
    assert_eq!((status, retry_after.as_deref()), (503, Some("5")), "{text}");
    assert!(text.contains(USED_UP) && text.contains("overloaded"), "{text}");
    drop(waiting);
    eventually("there is room again", || {
        let mut response = ask_on(&kept, &begin, mux.address);
        response.read_all().unwrap();
        response.status == 200
    });
}

#[test]
fn a_new_session_of_lines_is_refused() {
    let here = TempDir::new().unwrap();
    let path = here.join("lines");
    let listen = format!("unix:{}", path.display());
    // In front of a server over HTTP, so that a session is no process.
    let args = ["proxy", "--listen", &listen, "--max-sessions", "4096", "--log-level", "info"];
    let mut proxy = Launch::new([&args[..], &SMALL, &["http://127.0.0.1:1/mcp"]].concat()).start();
    proxy.stderr.line_with("listening");
    let connect = || {
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let idle: Vec<UnixStream> = (0..400).map(|_| connect()).collect();
    let ask = |mut socket: UnixStream| -> Value {
        socket.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    };
    let error = ask(connect());
    assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&7.into(), &"overloaded".into()), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains(USED_UP), "{error}");
    drop(idle);
    // Then the only thing that is wrong is that nobody is at that port.
    eventually("there is room again", || ask(connect())["error"]["data"]["reason"] == "server_unreachable");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
}

#[test]
fn heads_that_find_no_room_are_refused_and_the_next_ones_are_not() {
    let args = ["proxy", "--listen", "127.0.0.1:0"];
    let mut proxy = Launch::new([&args[..], &SMALL, &["http://127.0.0.1:1/mcp"]].concat()).start();
    let line = proxy.stderr.line_with("listening on http://");
    let address: SocketAddr =
        line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/mcp")).unwrap().parse().unwrap();
    // Beyond 8 KiB a head takes room for the longest there may be, out of what is common. Here that is for a dozen.
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {}", "x".repeat(12 << 10));
    let begun: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(long.as_bytes()).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            socket
        })
        .collect();
    let mut refused = None;
    eventually("one finds no room", || {
        refused = begun.iter().find_map(|mut socket| {
            let mut answer = [0; 256];
            match socket.read(&mut answer) {
                Ok(len) => Some(String::from_utf8_lossy(&answer[..len]).into_owned()),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    None
                }
            }
        });
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 5\r\n"), "{refused}");
    drop(begun);
    eventually("there is room again", || {
        let request = Request::new("GET").at("/healthz").with("x", "x".repeat(12 << 10));
        request.begin(address).try_response().is_ok_and(|response| response.status == 200)
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_unread(), Some(0));
}
