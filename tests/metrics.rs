//! What the counters say after known traffic, over each link of the real program, and who may ask for them.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[path = "support/exposition.rs"]
mod exposition;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
};

use client::Request;
use exposition::Scrape;
use mux::{Call, Mux, call, echoed};
use rustix::process::Signal;
use shadowcat::telemetry::metrics::labels::{
    Blame, CopyReason, ErrorReason, Label, Link, MessageKind, PoolKind, SessionEnd, Side, TimeoutOf, To,
};
use support::{Launch, Session, eventually};

const PING: &str = r#"{"jsonrpc":"2.0","method":"ping"}"#;

/// Where a proxy shows its counters, by the line it says it in.
fn shown_at(session: &mut Session) -> SocketAddr {
    let line = session.stderr.line();
    let address = line.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics"));
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn grown(link: &str, name: &str, labels: &str, by: usize) -> (String, f64) {
    let comma = if labels.is_empty() { "" } else { "," };
    (format!("shadowcat_{name}{{link=\"{link}\"{comma}{labels}}}"), f64::from(u32::try_from(by).unwrap()))
}

/// Asserts what crossed a link: so many calls and their answers, each of these bytes.
#[track_caller]
fn assert_crossed(before: &Scrape, after: &Scrape, link: &str, calls: usize, bytes: (usize, usize)) {
    let expected = [
        grown(link, "messages_total", "to=\"client\",kind=\"response\"", calls),
        grown(link, "messages_total", "to=\"server\",kind=\"request\"", calls),
    ];
    assert_eq!(after.since(before, "shadowcat_messages_total"), expected, "{link}");
    let expected = [
        grown(link, "message_bytes_total", "to=\"client\"", bytes.1),
        grown(link, "message_bytes_total", "to=\"server\"", bytes.0),
    ];
    assert_eq!(after.since(before, "shadowcat_message_bytes_total"), expected, "{link}");
    for (histogram, labels) in [
        ("inside_seconds_count", "to=\"server\""),
        ("inside_seconds_count", "to=\"client\""),
        ("server_seconds_count", ""),
    ] {
        let (sample, calls) = grown(link, histogram, labels, calls);
        assert_eq!(after.get(&sample) - before.get(&sample), calls, "{sample}");
    }
    let (inside, _) = grown(link, "inside_seconds_sum", "to=\"client\"", 0);
    assert!(after.get(&inside) > before.get(&inside), "no time at all inside: {inside}");
    assert_eq!(after.since(before, "shadowcat_errors_total"), []);
    assert_eq!(after.since(before, "shadowcat_noise_frames_total"), []);
}

#[test]
fn pipe_counts_messages_errors_noise_and_its_child() {
    // Says a banner, echoes what it is told but answers the first line, and ends without an answer to the last.
    let script = r#"read -r ask; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; echo banner
        read -r ping; echo "$ping"; read -r last; exit 0"#;
    let mut session = Session::of_script(&["--metrics", "127.0.0.1:0", "--log-level", "off"], script);
    let address = shown_at(&mut session);
    let before = Scrape::of(address, "/metrics");
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    session.send(format!("{ask}\nno json\n"));
    assert_eq!(session.stdout.line(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    session.send(format!("{PING}\n"));
    assert_eq!(session.stdout.line(), PING);
    let after = Scrape::of(address, "/metrics");
    assert_eq!(
        after.since(&before, "shadowcat_messages_total"),
        [
            grown("pipe", "messages_total", "to=\"client\",kind=\"notification\"", 1),
            grown("pipe", "messages_total", "to=\"client\",kind=\"response\"", 1),
            grown("pipe", "messages_total", "to=\"server\",kind=\"notification\"", 1),
            grown("pipe", "messages_total", "to=\"server\",kind=\"request\"", 1),
        ]
    );
    let answer_len = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.len();
    assert_eq!(
        after.since(&before, "shadowcat_message_bytes_total"),
        [
            grown("pipe", "message_bytes_total", "to=\"client\"", answer_len + PING.len()),
            grown("pipe", "message_bytes_total", "to=\"server\"", ask.len() + PING.len()),
        ]
    );
    assert_eq!(
        after.since(&before, "shadowcat_noise_frames_total"),
        [
            grown("pipe", "noise_frames_total", "to=\"client\"", 1),
            grown("pipe", "noise_frames_total", "to=\"server\"", 1)
        ]
    );
    assert_eq!(after.get("shadowcat_server_seconds_count{link=\"pipe\"}"), 1.0);
    assert_eq!(after.get("shadowcat_inside_seconds_count{link=\"pipe\",to=\"client\"}"), 2.0);
    assert_eq!((after.get("shadowcat_sessions{link=\"pipe\"}"), after.get("shadowcat_children")), (1.0, 1.0));
    assert_eq!(after.get("shadowcat_children_unaccounted"), 0.0);
    assert!(!after.has("shadowcat_sessions{link=\"mux\"}"), "a link that does not run is not shown");
    assert!(after.get("process_resident_memory_bytes") > 1e6 && after.get("process_start_time_seconds") > 1e9);
}

#[test]
fn each_link_of_a_chain_counts_the_same_calls() {
    let mux = Mux::start(&["--metrics", "/metrics"]);
    let upstream = format!("http://{}/mcp", mux.address);
    let mut relay = Launch::new(["proxy", "--listen", "0", "--metrics", "/metrics", upstream.as_str()]).start();
    let line = relay.stderr.line();
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
    let relay_address: SocketAddr = url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
    let mut dial = Launch::new(["proxy", "--metrics", "0", url]).start();
    let dial_address = shown_at(&mut dial);
    let call = |id: usize| call(&id.to_string(), "echo", r#"{"x":"\u00e9\\ 1.0"}"#);
    let mut ask = |call: &Call, id: usize| {
        dial.send(format!("{}\n", call.modern_body()));
        let answer = dial.stdout.line();
        assert_eq!(answer, echoed(&id.to_string(), r#"{"x":"\u00e9\\ 1.0"}"#));
        (call.modern_body().len(), answer.len())
    };
    ask(&call(100), 100);
    let scrapes = || {
        [(dial_address, "dial"), (relay_address, "relay"), (mux.address, "mux")]
            .map(|(address, link)| (link, Scrape::of(address, "/metrics")))
    };
    let before = scrapes();
    const CALLS: usize = 7;
    let lens: Vec<_> = (0..CALLS).map(|id| ask(&call(200 + id), 200 + id)).collect();
    let asked: usize = lens.iter().map(|(asked, _)| asked).sum();
    let answered: usize = lens.iter().map(|(_, answered)| answered).sum();
    for ((link, before), (_, after)) in before.iter().zip(scrapes()) {
        // The child that clients share is told ids of the proxy's own, and its answers bear them: of one digit or two.
        let saved = if *link == "mux" {
            answered.abs_diff(after.grown_by(before, "shadowcat_message_bytes_total{link=\"mux\",to=\"client\"}"))
        } else {
            0
        };
        assert!(saved <= 2 * CALLS, "{link}: {saved}");
        assert_crossed(before, &after, link, CALLS, (asked, answered - saved));
        assert_eq!(after.since(before, "shadowcat_children"), []);
    }
    relay.signal(Signal::TERM);
    dial.end();
}

#[test]
fn errors_are_counted_by_who_is_to_blame() {
    let mux = Mux::start(&["--metrics", "/metrics"]);
    let before = Scrape::of(mux.address, "/metrics");
    assert_eq!(mux.send(&Request::post("{")).status, 400);
    assert_eq!(mux.send(&call("1", "echo", "{}").modern().but("Mcp-Method", "ping")).status, 400);
    assert_eq!(mux.send(&Request::post(PING).with("Origin", "https://evil.example")).status, 403);
    let after = Scrape::of(mux.address, "/metrics");
    let error =
        |blame: &str, reason: &str| (format!("shadowcat_errors_total{{blame=\"{blame}\",reason=\"{reason}\"}}"), 1.0);
    assert_eq!(
        after.since(&before, "shadowcat_errors_total"),
        [error("downstream", "forbidden"), error("downstream", "header_mismatch"), error("downstream", "invalid_json")]
    );
    let nobody = Launch::new(["proxy", "--listen", "0", "--metrics", "/metrics", "http://127.0.0.1:1/mcp"]);
    let mut session = nobody.start();
    let line = session.stderr.line();
    let address = line.strip_prefix("listening on http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
    assert_eq!(call("1", "echo", "{}").modern().send(address).status, 502);
    let after = Scrape::of(address, "/metrics");
    assert_eq!(after.since(&Scrape::default(), "shadowcat_errors_total"), [error("upstream", "server_unreachable")]);
    session.signal(Signal::TERM);
}

#[test]
fn no_count_is_lost_when_many_threads_count() {
    const THREADS: usize = 8;
    const CALLS: usize = 25;
    let mux = Mux::start(&["--metrics", "/metrics"]);
    let address = mux.address;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    assert_eq!(call("1", "echo", "{}").modern().send(address).text(), echoed("1", "{}"));
                }
            });
        }
    });
    let after = Scrape::of(mux.address, "/metrics");
    for (to, kind) in [("server", "request"), ("client", "response")] {
        let (sample, all) = grown("mux", "messages_total", &format!("to=\"{to}\",kind=\"{kind}\""), THREADS * CALLS);
        assert_eq!(after.get(&sample), all, "{sample}");
    }
    // Only the scrape itself is open.
    assert_eq!((after.get("shadowcat_http_exchanges"), after.get("shadowcat_sessions{link=\"mux\"}")), (1.0, 0.0));
}

#[test]
fn counters_are_for_those_who_may_ask() {
    // Not there unless asked for.
    let mux = Mux::start(&[]);
    assert_eq!(mux.send(&Request::new("GET").at("/metrics")).status, 404);
    drop(mux);
    // Behind the guard and the token of the endpoint beside them.
    let args = ["proxy", "--listen", "0", "--metrics", "/numbers", "--require-bearer-env", "TOKEN"];
    let mut session = Launch::new([&args[..], &["http://127.0.0.1:1/"]].concat()).env("TOKEN", "secret").start();
    let line = session.stderr.line();
    let address = line.strip_prefix("listening on http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
    let scrape = Request::new("GET").at("/numbers");
    assert_eq!(scrape.send(address).status, 401);
    assert_eq!(scrape.clone().with("Origin", "https://evil.example").send(address).status, 403);
    let known = scrape.with("Authorization", "Bearer secret");
    assert_eq!(known.send(address).status, 200);
    assert_eq!(Request::post("{}").at("/numbers").with("Authorization", "Bearer secret").send(address).status, 405);
    session.signal(Signal::TERM);
    session.wait();
    // A listener of its own has nothing else, and web pages that came by another name get nothing there either.
    let mut session = Session::of_server(&["--metrics", "0", "--allow-host", "mine.example"], &["cat"]);
    let address = shown_at(&mut session);
    assert_eq!(Request::new("GET").at("/mcp").send(address).status, 404);
    assert_eq!(Request::new("GET").at("/metrics").with("Origin", "https://evil.example").send(address).status, 403);
}

#[test]
fn listener_of_the_counters_is_charged_to_the_memory_budget() {
    const CONNECTIONS: u16 = 4;
    let mut session = Session::of_server(&["--metrics", "0"], &["cat"]);
    let address = shown_at(&mut session);
    // Once through, so that the session holds all that it does.
    session.send(format!("{PING}\n"));
    assert_eq!(session.stdout.line(), PING);
    let held = || Scrape::of(address, "/metrics").get("shadowcat_buffer_bytes");
    let before = held();
    let unfinished: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            connection
        })
        .collect();
    eventually("each is charged", || held() >= before + f64::from(CONNECTIONS) * 8192.0);
    drop(unfinished);
    eventually("all of it is given back", || held() <= before);
}

#[test]
fn answers_say_how_long_they_took_and_where_unless_told_not_to() {
    let mux = Mux::start(&[]);
    let upstream = format!("http://{}/mcp", mux.address);
    for (flags, expected) in [(&[][..], 2), (&["--no-server-timing"], 1)] {
        let args = [&["proxy", "--listen", "0"], flags, &[&upstream]].concat();
        let mut relay = Launch::new(args).start();
        let line = relay.stderr.line();
        let address = line.strip_prefix("listening on http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
        let response = call("1", "echo", "{}").modern().send(address);
        let timings: Vec<_> = response.all("server-timing").iter().map(|timing| times(timing)).collect();
        // The mux's own passes the relay untouched.
        assert_eq!(timings.len(), expected, "{response:?}");
        if let [(mux_inside, child), (relay_inside, mux_whole)] = timings[..] {
            assert!(mux_inside > 0.0 && child > 0.0 && relay_inside > 0.0, "{timings:?}");
            assert!(mux_whole >= mux_inside + child, "what the relay waited for holds what the mux took: {timings:?}");
        }
        relay.signal(Signal::TERM);
    }
}

/// The milliseconds inside us and at the server.
fn times(timing: &str) -> (f64, f64) {
    let parsed = || {
        let (inside, server) = timing.strip_prefix("shadowcat;dur=")?.split_once(", upstream;dur=")?;
        Some((inside.parse().ok()?, server.parse().ok()?))
    };
    parsed().unwrap_or_else(|| panic!("{timing}"))
}

#[test]
fn table_in_the_documents_is_what_is_exposed() {
    let mut session = Session::of_server(&["--metrics", "0"], &["cat"]);
    let address = shown_at(&mut session);
    // Once through, so that the link is known to run.
    session.send(format!("{PING}\n"));
    session.stdout.line();
    let scrape = Scrape::of(address, "/metrics");
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|row| row.len() == 4)
        .collect();
    let documented: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let exposed: BTreeSet<_> = scrape.families.keys().cloned().collect();
    assert_eq!(documented, exposed, "docs/METRICS.md lists what is exposed, and nothing else");
    for row in rows {
        let (kind, help) = &scrape.families[row[0].trim_matches('`')];
        assert_eq!((row[1], row[3]), (kind.as_str(), help.as_str()), "{}", row[0]);
        let labels: Vec<&str> =
            row[2].split(", ").map(|label| label.trim_matches('`')).filter(|l| !l.is_empty()).collect();
        assert_eq!(labels, scrape.labels(row[0].trim_matches('`')), "{}", row[0]);
    }
}

/// A label, and every value it can have.
fn values<L: Label>() -> (&'static str, Vec<&'static str>) {
    (L::NAME, L::ALL.iter().map(|label| label.value()).collect())
}

#[test]
fn labels_in_the_documents_are_all_there_are() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let table = table.split("## Labels").nth(1).and_then(|text| text.split("\n## ").next()).unwrap();
    let documented: Vec<(&str, Vec<&str>)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let row: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (row[0].trim_matches('`'), row[2].split(", ").map(|value| value.trim_matches('`')).collect())
        })
        .collect();
    let all = [
        values::<Link>(),
        values::<To>(),
        values::<Side>(),
        values::<MessageKind>(),
        values::<Blame>(),
        values::<ErrorReason>(),
        values::<SessionEnd>(),
        values::<CopyReason>(),
        values::<TimeoutOf>(),
        values::<PoolKind>(),
    ];
    assert_eq!(documented, all, "docs/METRICS.md, \"Labels\": every value, in the order of labels.rs");
}

#[test]
fn reader_of_the_format_refuses_what_is_malformed() {
    let head = "# HELP shadowcat_a_total b\n# TYPE shadowcat_a_total counter\n";
    let histogram = "# HELP shadowcat_a_seconds b\n# TYPE shadowcat_a_seconds histogram\n";
    assert!(Scrape::parse(&format!("{head}shadowcat_a_total{{x=\"y\"}} 1\n")).is_ok());
    for wrong in [
        "shadowcat_a_total 1\n".to_owned(),
        format!("{head}shadowcat_a_total 1"),
        format!("{head}shadowcat_a_total one\n"),
        format!("{head}shadowcat_a_total -1\n"),
        format!("{head}shadowcat_b_total 1\n"),
        format!("{head}shadowcat_a_total 1\nshadowcat_a_total 1\n"),
        format!("{head}shadowcat_a_total{{x=y}} 1\n"),
        format!("{head}{head}"),
        head.replace("_total", ""),
        head.replace("counter", "counted"),
        format!("{histogram}shadowcat_a_seconds_count 1\n").replace("_count 1", "_bucket{le=\"1\"} 1"),
        format!(
            "{histogram}shadowcat_a_seconds_bucket{{le=\"1\"}} 2\nshadowcat_a_seconds_bucket{{le=\"+Inf\"}} 1\nshadowcat_a_seconds_sum 1\nshadowcat_a_seconds_count 1\n"
        ),
    ] {
        assert!(Scrape::parse(&wrong).is_err(), "{wrong}");
    }
}
