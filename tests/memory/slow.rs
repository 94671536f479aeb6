//! Many who are slow at once: readers that do not read, heads and bodies that never end, servers that take nothing.
//! The healthy are served meanwhile, and what the slow ones cost is bounded.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::{
    KIB, MIB, Measured, amount,
    client::{Pending, Request, Response},
    fixture,
    legacy::Client,
    mux::{call, echoed, run},
    neighbour::Neighbour,
    support::eventually,
    upstream::{Asked, NEIGHBOUR, Upstream},
};

/// What is there for everybody.
pub(crate) const BUDGET: usize = 128 * MIB;

/// Most that an exchange may cost that stands still: buffers of two connections, and a little.
const EXCHANGE_LEN: usize = 256 * KIB;

/// Beside that: what the first of them make once.
const SPARE: usize = 8 * MIB;

fn echo(address: SocketAddr) {
    let response = call("\"n\"", "echo", "[1]").modern().send(address);
    let (status, text) = (response.status, response.text());
    // As an event where the machine is slow.
    assert!(status == 200 && text.contains(&echoed("\"n\"", "[1]")), "{status} {text}");
}

fn ask(address: SocketAddr) {
    let response = Request::post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).with(NEIGHBOUR, "yes").send(address);
    assert_eq!((response.status, &*response.text()), (200, "{}"));
}

/// Serves the neighbour, and floods everybody else.
fn answer(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    if asked.header(NEIGHBOUR).is_some() {
        to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")?;
        return Ok(true);
    }
    to.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")?;
    let event = format!("data: \"{}\"\n\n", "x".repeat(64 * KIB));
    loop {
        to.write_all(event.as_bytes())?;
    }
}

#[test]
fn readers_of_a_shared_child_that_do_not_read() {
    let (mut proxy, address) = Measured::listening(&[], &["--", &fixture()]);
    echo(address);
    proxy.begin();
    let neighbour = Neighbour::start(move || echo(address));
    let flood = run("7", r#"{"flood":128}"#).token("1").modern();
    let readers: Vec<Response> = (0..amount(8, 100)).map(|_| reluctant(&flood, address)).collect();
    neighbour.leave("mux, shared child: stalled readers");
    // Who reads before all of it was said may be quick enough to get all of it.
    settle(&proxy);
    // Each is refused, where the budget is used up, be it behind what was sent before; or cut off, which is seen at the
    // end of that.
    for mut reader in readers {
        let is_told = |body: Vec<u8>| memchr::memmem::find(&body, b"\"overloaded\"").is_some();
        assert!(reader.read_all().map_or(true, is_told), "it was not cut off");
    }
    proxy.assert_peak("mux, shared child: stalled readers", BUDGET);
    proxy.end();
}

#[test]
fn readers_of_children_of_their_own_that_do_not_read() {
    let options = ["--shutdown-grace", "1s", "--kill-after", "1s"];
    let (mut proxy, address) = Measured::listening(&options, &["--", &fixture()]);
    let count = amount(8, 100);
    let clients: Vec<Client> = (0..count).map(|_| Client::begin(address, "2025-11-25")).collect();
    echo(address);
    proxy.begin();
    let neighbour = Neighbour::start(move || echo(address));
    // Far more than any of them is let send: each child is kept waiting by its own client, and by nobody else's.
    let flood = run("7", r#"{"flood":1024}"#).token("1").legacy_body();
    let readers: Vec<Response> = clients.iter().map(|client| reluctant(&client.post(flood.clone()), address)).collect();
    assert!(readers.iter().all(|reader| reader.status == 200));
    neighbour.leave("mux, own children: stalled readers");
    settle(&proxy);
    // A queue of 1 MiB and a message on each side of it at most.
    proxy.assert_peak("mux, own children: stalled readers", (count * 2 * MIB + SPARE).min(BUDGET));
    drop(readers);
    proxy.end();
}

#[test]
fn readers_of_a_relay_that_do_not_read() {
    let upstream = Upstream::start(answer);
    let (mut proxy, address) = Measured::listening(&[], &[&upstream.url()]);
    ask(address);
    proxy.begin();
    let neighbour = Neighbour::start(move || ask(address));
    let call = Request::post(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
    let count = amount(20, 100);
    let readers: Vec<Response> = (0..count).map(|_| reluctant(&call, address)).collect();
    neighbour.leave("relay: stalled readers");
    settle(&proxy);
    let neighbour = Neighbour::start(move || ask(address));
    neighbour.leave("relay: with readers that have stalled");
    proxy.assert_peak("relay: stalled readers", count * EXCHANGE_LEN + SPARE);
    drop(readers);
    proxy.end();
}

#[test]
fn a_client_on_stdout_that_does_not_read() {
    let upstream = Upstream::start(answer);
    let mut proxy = Measured::piped(&[], &[&upstream.url()]);
    proxy.begin();
    for id in 0..amount(20, 100) {
        proxy.session.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"x\"}}\n"));
    }
    proxy.session.stdout.take(100 * KIB);
    settle(&proxy);
    proxy.assert_peak("dial: a client that does not read", amount(20, 100) * EXCHANGE_LEN + SPARE);
}

#[test]
fn heads_and_bodies_that_never_end() {
    let (mut proxy, address) =
        Measured::listening(&["--header-timeout", "2s", "--body-timeout", "2s"], &["--", &fixture()]);
    echo(address);
    proxy.begin();
    let neighbour = Neighbour::start(move || echo(address));
    let count = amount(50, 400);
    let slow: Vec<TcpStream> = (0..count)
        .map(|index| {
            let mut pending = TcpStream::connect(address).unwrap();
            let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n\
                 content-type: application/json\r\ncontent-length: 67108000\r\n";
            pending.write_all(head.as_bytes()).unwrap();
            if index % 2 == 0 {
                pending.write_all(format!("\r\n\"{}", "x".repeat(64 * KIB)).as_bytes()).unwrap();
            }
            pending
        })
        .collect();
    for pending in slow {
        let status = Pending::of(pending).response().status;
        // At full length the bodies are more than the budget has room for at once: what finds none is refused at once.
        assert!(status == 408 || status == 503 && count > 50, "{status}");
    }
    neighbour.leave("mux: slow heads and bodies");
    proxy.assert_peak("mux: slow heads and bodies", count * EXCHANGE_LEN / 2 + SPARE);
    proxy.end();
}

#[test]
fn a_child_that_never_reads() {
    let options = ["--shutdown-grace", "0s", "--stdio-write-timeout", "2s"];
    let (mut proxy, address) = Measured::listening(&options, &["--", "sleep", "1000"]);
    proxy.begin();
    let body = call("7", "echo", &format!("\"{}\"", "x".repeat(MIB))).modern();
    let count = amount(20, 100);
    let waiting: Vec<Pending> = (0..count).map(|_| body.begin(address)).collect();
    for waiting in waiting {
        let response = waiting.response();
        // Refused, where the budget is used up.
        assert!(matches!(response.status, 503 | 504), "{response:?}");
        assert!(response.status == 503 || response.json()["id"] == 7);
    }
    proxy.assert_peak("mux: a child that never reads", (count * 2 * MIB + 8 * MIB).min(BUDGET));
    proxy.end();
}

#[test]
fn a_server_over_http_that_never_reads() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (mut proxy, address) = Measured::listening(&["--drain-timeout", "0s"], &[&url]);
    proxy.begin();
    let body = Request::post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(16 * MIB)));
    let count = amount(8, 100);
    let waiting: Vec<_> = (0..count)
        .map(|_| {
            let body = body.clone();
            std::thread::spawn(move || body.begin(address))
        })
        .collect();
    settle(&proxy);
    proxy.assert_peak("relay: a server that never reads", count * EXCHANGE_LEN + SPARE);
    let mut piped = Measured::piped(&["--drain-timeout", "0s"], &[&url]);
    // It says nothing, and has started when it does nothing more.
    settle(&piped);
    piped.begin();
    let stdin = piped.session.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        let line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}\n", "x".repeat(MIB));
        (0..64).try_for_each(|_| (&stdin).write_all(line.as_bytes()))
    });
    settle(&piped);
    piped.assert_peak("dial: a server that never reads", 8 * MIB);
    piped.end();
    assert!(writing.join().unwrap().is_err(), "somebody read it");
    proxy.end();
    waiting.into_iter().for_each(|waiting| drop(waiting.join().unwrap()));
}

/// A client that reads the head of an answer and nothing more, and lets the system keep little of it for him.
fn reluctant(request: &Request, address: SocketAddr) -> Response {
    let socket = TcpStream::connect(address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 16 * KIB).unwrap();
    let mut pending = Pending::of(socket);
    let (head, body) = request.parts(address);
    pending.write(&[head.as_bytes(), body].concat());
    pending.response()
}

/// Awaits that nothing moves any more: the proxy has used no time of a processor for a while.
fn settle(proxy: &Measured) {
    let (mut before, mut quiet) = (String::new(), 0);
    eventually("nothing moves any more", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.session.pid)).unwrap();
        let used: String = stat.split(' ').skip(13).take(2).collect();
        quiet = if used == before { quiet + 1 } else { 0 };
        before = used;
        quiet > 100
    });
}
