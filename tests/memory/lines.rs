//! Clients that speak lines on a socket, before each kind of server: what a long stream costs, what an idle session does,
//! and what pools cost that keep buffers.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixListener,
    thread,
};

use crate::{
    KIB, MIB, Measured, amount,
    meter::resident,
    say,
    sessions::measure,
    streams::{MOST, count, note},
    temp::TempDir,
    upstream::{Asked, Upstream},
};

/// A server that says back what it hears, on every connection.
fn echo(here: &TempDir) -> String {
    let path = here.join("echo");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream).map(|_| stream.shutdown(Shutdown::Both)));
        }
    });
    format!("unix:{}", path.display())
}

/// A long stream there and back; what it costs.
fn stream(what: &str, server: &[&str]) {
    let (mut proxy, lines) = Measured::on_a_socket("128MiB", &[], server);
    let socket = lines.connect();
    let line = note() + "\n";
    let (mut from, mut got) = (&socket, vec![0; line.len()]);
    (&socket).write_all(line.as_bytes()).unwrap();
    from.read_exact(&mut got).unwrap();
    proxy.begin();
    let (mut to, written) = (socket.try_clone().unwrap(), line.clone());
    let writing = thread::spawn(move || (0..count()).try_for_each(|_| to.write_all(written.as_bytes())).unwrap());
    for _ in 0..count() {
        from.read_exact(&mut got).unwrap();
        assert!(got == line.as_bytes(), "another message");
    }
    writing.join().unwrap();
    proxy.assert_peak(what, MOST);
    drop(socket);
    proxy.end();
}

#[test]
fn long_streams_from_a_socket_to_a_child() {
    stream("lines: a long stream there and back, a child", &["--", "cat"]);
}

#[test]
fn long_streams_from_a_socket_to_a_socket() {
    let here = TempDir::new().unwrap();
    stream("lines: a long stream there and back, a socket", &[&echo(&here)]);
}

const CALL: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n";

/// Idle sessions, each of which has had one answer.
fn idle(what: &str, budget: &str, options: &[&str], server: &[&str]) {
    let (mut proxy, lines) = Measured::on_a_socket(budget, options, server);
    let open = || {
        let mut socket = lines.connect();
        socket.write_all(CALL.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(socket.try_clone().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"jsonrpc\":\"2.0\",\"id\":1"), "{line}");
        socket
    };
    measure(what, &mut proxy, open, || drop(open()));
    proxy.end();
}

#[test]
fn idle_sessions_of_lines_with_children() {
    let options = ["--shutdown-grace", "1s", "--kill-after", "1s"];
    idle("lines, a child each", "128MiB", &options, &["--", "cat"]);
}

#[test]
fn idle_sessions_of_lines_with_sockets() {
    let here = TempDir::new().unwrap();
    idle("lines, a socket each", "128MiB", &[], &[&echo(&here)]);
}

fn answer(_: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    to.write_all(format!("{head}{body}").as_bytes()).map(|()| true)
}

#[test]
fn idle_sessions_of_lines_before_http() {
    let upstream = Upstream::start(answer);
    idle("lines, a session over HTTP each", "128MiB", &[], &[&upstream.url()]);
}

/// What buffers cost that are kept to be used again: no more than may be kept, and nothing for each session.
#[test]
fn pools_cost_no_more_than_they_may_keep() {
    let held = |pool: &str| {
        let (mut proxy, lines) = Measured::on_a_socket("128MiB", &["--pool", pool], &["--", "cat"]);
        proxy.begin();
        let sockets: Vec<_> = (0..amount(30, 200))
            .map(|_| {
                let mut socket = lines.connect();
                let line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}\n", "x".repeat(20 * KIB));
                let mut got = vec![0; line.len()];
                socket.write_all(line.as_bytes()).unwrap();
                socket.read_exact(&mut got).unwrap();
                assert!(got == line.as_bytes(), "another message");
                socket
            })
            .collect();
        let held = resident(proxy.session.pid).saturating_sub(proxy.idle);
        drop(sockets);
        proxy.end();
        held
    };
    let (without, with) = (held("off"), held("on"));
    say(&format!("pool: {} KiB with it, {} KiB without", with / KIB, without / KIB));
    assert!(with <= without + POOLS_LEN, "{with} bytes with a pool, {without} without");
}

/// Most that the pools of a process keep (16 blocks each, of 16 and of 64 KiB), and what the allocator keeps of as much.
const POOLS_LEN: usize = 4 * MIB;
