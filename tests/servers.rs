//! Several servers under one listener, out of a file: the real program, children and HTTP upstreams, each at paths
//! of its own. What one of them cannot do is no other's affair.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/upstream.rs"]
mod upstream;

use std::{fs, net::SocketAddr};

use client::{Request, Response};
use mux::{call, done, echoed, fixture, run};
use rustix::process::Signal;
use support::{Launch, Session, eventually};
use temp::TempDir;
use upstream::Upstream;

/// A listener with the servers of a file. Dropping it asserts that nothing is left behind.
struct Servers {
    session: Session,
    address: SocketAddr,
    /// Where it says that its servers are.
    urls: Vec<String>,
    _dir: TempDir,
}

impl Servers {
    /// `tables` are those of the file; `$FIXTURE` is a command, `$COUNT` of them say where they are.
    fn start(flags: &[&str], tables: &str, count: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.join("shadowcat.toml");
        let top = "listen = \"127.0.0.1:0\"\nshutdown_grace = \"1h\"\n";
        fs::write(&path, format!("{top}{}", tables.replace("$FIXTURE", fixture().to_str().unwrap()))).unwrap();
        let mut session = Launch::new([&["proxy", "--config", path.to_str().unwrap()], flags].concat()).start();
        let mut url = || session.stderr.line().strip_prefix("listening on ").expect("a URL").to_owned();
        let urls: Vec<String> = (0..count).map(|_| url()).collect();
        let address = urls[0].split('/').nth(2).unwrap().parse().unwrap();
        Self { session, address, urls, _dir: dir }
    }

    fn send(&self, request: Request, path: &str) -> Response {
        request.at(path).send(self.address)
    }

    fn ready(&self) -> (u16, String) {
        let response = self.send(Request::get(), "/readyz");
        (response.status, response.text())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.session.signal(Signal::TERM);
    }
}

const CHILD_AND_UPSTREAM: &str =
    "[servers.child]\ncommand = [\"$FIXTURE\"]\n[servers.far]\nurl = \"$URL\"\nheader = { X-Key = \"k\" }\n";

#[test]
fn each_server_is_used_at_its_own_path_and_none_sees_what_is_anothers() {
    let upstream = Upstream::start();
    let servers = Servers::start(&[], &CHILD_AND_UPSTREAM.replace("$URL", &upstream.url), 2);
    let at = |path: &str| format!("http://{}{path}", servers.address);
    assert_eq!(servers.urls, [at("/child/mcp"), at("/far/mcp")]);
    let request = call("7", "echo", r#"{"a":1.0}"#);
    assert_eq!(servers.send(request.modern(), "/child/mcp").text(), echoed("7", r#"{"a":1.0}"#));
    upstream.assert_idle();
    let pending = request.modern().at("/far/mcp").begin(servers.address);
    let asked = upstream.post();
    assert_eq!((asked.path.as_str(), asked.header("x-key")), ("/mcp", Some("k")));
    assert_eq!(asked.text(), request.modern_body());
    asked.json("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"far\"}");
    assert_eq!(pending.response().text(), "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"far\"}");
    assert_eq!(servers.ready(), (200, "ready\n".to_owned()));
    assert_eq!(servers.send(Request::get(), "/healthz").text(), "ok\n");
}

#[test]
fn path_of_nobody_is_404_and_says_what_to_do_without_names() {
    let upstream = Upstream::start();
    let servers = Servers::start(&[], &CHILD_AND_UPSTREAM.replace("$URL", &upstream.url), 2);
    for path in ["/mcp", "/", "/child", "/child/mcp/", "/childmcp", "/other/mcp", "/far/sse", "/child/messages"] {
        let response = servers.send(Request::post("{}"), path);
        assert_eq!(response.status, 404, "{path}");
        let text = response.text();
        assert!(text.contains("/NAME/mcp") && !text.contains("child") && !text.contains("far"), "{text}");
    }
    upstream.assert_idle();
}

#[test]
fn server_that_cannot_be_had_is_named_and_the_others_go_on() {
    let tables = "[servers.good]\ncommand = [\"$FIXTURE\"]\n[servers.none]\ncommand = [\"/no/such/program-4711\"]\n\
                  [servers.far]\nurl = \"http://127.0.0.1:9/mcp\"\n";
    let servers = Servers::start(&[], tables, 3);
    assert_eq!(servers.ready(), (503, "cannot be reached: none, far\n".to_owned()));
    for (path, status) in [("/none/mcp", 502), ("/far/mcp", 502)] {
        let response = servers.send(call("1", "echo", "{}").modern(), path);
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert_eq!(servers.send(call("2", "echo", "{}").modern(), "/good/mcp").text(), echoed("2", "{}"));
    }
    // A child that dies takes nobody with it, and comes back.
    let tables = "[servers.a]\ncommand = [\"$FIXTURE\"]\n[servers.b]\ncommand = [\"$FIXTURE\"]\n";
    let servers = Servers::start(&[], tables, 2);
    let pid = |path: &str| {
        let answer = servers.send(call("\"pid\"", "pid", "{}").modern(), path).json();
        answer["result"]["pid"].as_u64().unwrap()
    };
    let (a, b) = (pid("/a/mcp"), pid("/b/mcp"));
    assert_ne!(a, b);
    let died = servers.send(run("1", r#"{"exit":3}"#).modern(), "/a/mcp");
    assert_eq!(died.status, 502, "{died:?}");
    assert_eq!(pid("/b/mcp"), b);
    eventually("a child in its place", || servers.send(call("1", "echo", "{}").modern(), "/a/mcp").status == 200);
    assert_ne!(pid("/a/mcp"), a);
}

#[test]
fn limits_of_one_server_are_not_anothers() {
    let tables = "max_frame_len = \"1KiB\"\n[servers.narrow]\ncommand = [\"$FIXTURE\"]\n\
                  [servers.wide]\ncommand = [\"$FIXTURE\"]\nmax_frame_len = \"8KiB\"\n";
    let servers = Servers::start(&[], tables, 2);
    let long = format!("\"{}\"", "x".repeat(4096));
    let request = || call("1", "echo", &format!("{{\"a\":{long}}}")).modern();
    assert_eq!(servers.send(request(), "/narrow/mcp").status, 413);
    assert_eq!(servers.send(request(), "/wide/mcp").status, 200);
}

#[test]
fn running_exchanges_of_all_servers_end_before_we_do() {
    let upstream = Upstream::start();
    let tables = CHILD_AND_UPSTREAM.replace("$URL", &upstream.url);
    let servers = Servers::start(&["--drain-timeout", "1h"], &tables, 2);
    let far = call("1", "echo", "{}").modern().at("/far/mcp").begin(servers.address);
    let asked = upstream.post();
    let mut near = servers.send(run("2", r#"{"log":"begun"},{"wait":"gate"}"#).logs().modern(), "/child/mcp");
    assert!(near.data().contains("begun"));
    let subscribed = mux::ask("3", "subscriptions/listen", r#""notifications":{}"#).modern();
    let mut listening = servers.send(subscribed, "/child/mcp");
    assert!(listening.data().contains("acknowledged"));
    servers.send(run("4", r#"{"open":"gate"}"#).modern(), "/child/mcp");
    servers.session.signal(Signal::TERM);
    // It listens no more, and what was begun still ends.
    assert_eq!(listening.rest(), [""; 0]);
    assert_eq!(near.data(), done("2"));
    asked.json("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}");
    assert_eq!(far.response().text(), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}");
    assert_eq!(servers.session.wait_unread(), Some(0));
}

#[test]
fn streams_of_2024_11_05_name_the_path_of_their_server() {
    let upstream = Upstream::start();
    let tables = CHILD_AND_UPSTREAM.replace("$URL", &upstream.url);
    let servers = Servers::start(&["--legacy-sse"], &tables, 2);
    let mut near = servers.send(Request::get(), "/child/sse");
    let endpoint = near.data();
    assert!(endpoint.starts_with("/child/messages?sessionId="), "{endpoint}");
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    assert_eq!(servers.send(Request::post(ping), &endpoint).status, 202);
    assert!(near.data().contains("\"id\":1"));
    let pending = Request::get().at("/far/sse").begin(servers.address);
    let mut events = upstream.get().events();
    events.raw("event: endpoint\ndata: /post?s=1\n\n");
    let endpoint = pending.response().data();
    assert!(endpoint.starts_with("/far/messages?"), "{endpoint}");
    let posted = Request::post(ping).at(&endpoint).begin(servers.address);
    let asked = upstream.post();
    assert_eq!(asked.path, "/post?s=1");
    asked.accept();
    assert_eq!(posted.response().status, 202);
    events.end();
}

/// RFC 9728, 3.1: the path of what is described stands behind the well-known one.
#[test]
fn metadata_of_each_server_are_those_of_its_upstream() {
    let (one, other) = (Upstream::start(), Upstream::start());
    let tables = format!(
        "[servers.one]\nurl = \"{}\"\npublic_url = \"https://mcp.example.com/one/mcp\"\n[servers.other]\nurl = \"{}\"\n\
         [servers.child]\ncommand = [\"$FIXTURE\"]\n",
        one.url,
        other.url.replace("/mcp", "/api/v2")
    );
    let servers = Servers::start(&["--allow-host", "mcp.example.com"], &tables, 3);
    let ask = |path: &str| Request::get().at(path).begin(servers.address);
    let pending = ask("/.well-known/oauth-protected-resource/one/mcp");
    let asked = one.get();
    assert_eq!(asked.path, "/.well-known/oauth-protected-resource/mcp");
    asked.json(format!("{{\"resource\":\"{}\"}}", one.url));
    assert_eq!(pending.response().json()["resource"], "https://mcp.example.com/one/mcp");
    let pending = ask("/.well-known/oauth-authorization-server/other/mcp?x=1");
    let asked = other.get();
    assert_eq!(asked.path, "/.well-known/oauth-authorization-server/api/v2?x=1");
    asked.status(404);
    assert_eq!(pending.response().status, 404);
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/child/mcp",
        "/.well-known/one/mcp",
    ] {
        assert_eq!(ask(path).response().status, 404, "{path}");
    }
    one.assert_idle();
    other.assert_idle();
}

#[test]
fn one_of_the_servers_can_be_chosen() {
    let upstream = Upstream::start();
    let tables = CHILD_AND_UPSTREAM.replace("$URL", &upstream.url);
    let servers = Servers::start(&["--server", "child"], &tables, 1);
    assert!(servers.urls[0].ends_with("/child/mcp"));
    assert_eq!(servers.send(call("1", "echo", "{}").modern(), "/child/mcp").status, 200);
    assert_eq!(servers.send(call("1", "echo", "{}").modern(), "/far/mcp").status, 404);
}

#[test]
fn what_is_wrong_with_one_server_names_it_before_anything_starts() {
    let dir = TempDir::new().unwrap();
    let path = dir.join("a.toml");
    for (table, words) in [
        (
            "[servers.b]\nurl = \"http://127.0.0.1:9/\"\nbearer_env = \"NO_SUCH_VARIABLE_4711\"\n",
            "servers.b: --bearer-env",
        ),
        ("[servers.b]\nurl = \"unix:/run/x\"\n", "servers.b: HTTP clients in front of unix:/run/x"),
    ] {
        fs::write(&path, format!("listen = 0\n[servers.a]\ncommand = [\"cat\"]\n{table}")).unwrap();
        let ended = Launch::new(["proxy", "--config", path.to_str().unwrap()]).start().end();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
}
