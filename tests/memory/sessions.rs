//! What an idle session costs the proxy. Asserted: no more than 100 KB each. Printed: what it is, and what is aimed at.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::{
    KIB, MIB, Measured, amount,
    client::{Request, Response},
    fixture,
    legacy::{Client, initialize},
    meter::resident,
    say,
    temp::TempDir,
    upstream::{Asked, Upstream},
};

/// Bound of a session.
const MOST: usize = 100 * 1000;
/// What is aimed at.
const TARGET: usize = 40 * KIB;

/// What a session keeps open: the stream it listens by.
struct Idle(#[expect(dead_code, reason = "held open")] Response);

/// Opens sessions in steps, and says what each costs at every step, before and after all have done something.
pub(crate) fn measure<I>(what: &str, proxy: &mut Measured, open: impl Fn() -> I, call: impl Fn()) {
    let first = open();
    proxy.begin();
    let mut sessions = vec![first];
    for count in [amount(10, 50), amount(50, 200), amount(100, 1000)] {
        while sessions.len() <= count {
            sessions.push(open());
        }
        let each = resident(proxy.session.pid).saturating_sub(proxy.idle) / count;
        say(&format!("{what}: {count} idle sessions, {} KiB each of {} KiB aimed at", each / KIB, TARGET / KIB));
        assert!(each <= MOST, "{what}: {each} bytes, more than {MOST}");
    }
    let count = sessions.len();
    (0..count).for_each(|_| call());
    let each = resident(proxy.session.pid).saturating_sub(proxy.idle) / count;
    say(&format!("{what}: after as many calls, {} KiB each of {} KiB aimed at", each / KIB, TARGET / KIB));
    assert!(each <= MOST, "{what}: {each} bytes, more than {MOST}");
    // Whatever the budget they are charged to: it is a bound of what they might take, and this is what they do.
    proxy.assert_peak(what, crate::slow::BUDGET);
    drop(sessions);
}

/// Answers requests, and lets whoever listens wait.
fn answer(asked: &Asked, to: &mut TcpStream) -> io::Result<bool> {
    if asked.head.starts_with("get") {
        to.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n4\r\n:hi\n\r\n",
        )?;
        return Ok(true);
    }
    to.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").map(|()| true)
}

#[test]
fn idle_sessions_of_a_relay() {
    let upstream = Upstream::start(answer);
    // What is charged for them is more than they cost while they idle: 1 000 do not fit into 128 MiB.
    let (mut proxy, address) = Measured::listening_within("512MiB", &["--max-connections", "4096"], &[&upstream.url()]);
    let call = || assert_eq!(Request::post(initialize("2025-11-25")).send(address).text(), "{}");
    let open = || {
        call();
        listen(&Request::get(), address)
    };
    measure("relay", &mut proxy, open, call);
    proxy.end();
}

#[test]
fn idle_sessions_with_children() {
    let options =
        ["--max-connections", "4096", "--max-sessions", "4096", "--shutdown-grace", "1s", "--kill-after", "1s"];
    // What is charged for a session is more than it costs while it idles: 1 000 of them do not fit into 128 MiB.
    let (mut proxy, address) = Measured::listening_within("512MiB", &options, &["--", &fixture()]);
    let caller = Client::begin(address, "2025-11-25");
    let open = || {
        let client = Client::begin(address, "2025-11-25");
        listen(&client.get(), address)
    };
    let call = || {
        let body = crate::mux::call("7", "echo", "[1]").legacy_body();
        assert_eq!(caller.post(body).send(address).status, 200);
    };
    measure("mux, own child", &mut proxy, open, call);
    proxy.end();
}

fn listen(request: &Request, address: SocketAddr) -> Idle {
    let response = request.send(address);
    assert_eq!(response.status, 200);
    Idle(response)
}

/// Each session may keep 1 MiB of what it sent for a client that comes back; all together no more than is spare.
#[test]
fn what_chatty_sessions_keep_for_later_is_within_the_budget() {
    const BUDGET: usize = 24 * MIB;
    let line = |text: &str| {
        let params = format!(r#"{{"progressToken":$TOKEN,"progress":1,"message":"{text}"}}"#);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#) + "\n"
    };
    let (dir, count) = (TempDir::new().unwrap(), amount(40, 200));
    let path = dir.join("said");
    std::fs::write(&path, line(&"x".repeat(40 * KIB)).repeat(26)).unwrap();
    let options = ["--max-frame-len", "1MiB", "--shutdown-grace", "1s", "--kill-after", "1s"];
    let (mut proxy, address) = Measured::listening_within("24MiB", &options, &["--", &fixture()]);
    let _first = Client::begin(address, "2025-11-25");
    proxy.begin();
    let body = crate::mux::run("7", &format!(r#"{{"file":"{}"}}"#, path.display())).token("1").legacy_body();
    for _ in 0..count {
        let mut events = Client::begin(address, "2025-11-25").post(body.as_str()).send(address);
        assert_eq!((0..26).filter(|_| events.data().contains(r#""progressToken":1"#)).count(), 26);
        assert!(events.data().contains(r#""id":7,"result""#));
    }
    proxy.assert_peak("mux, own child: what is kept for later", BUDGET);
    proxy.end();
}
