//! HTTP clients in front of the fixture: starting both, and writing what clients say.
//!
//! The fixture (`examples/fixture_server.rs`) keeps what it reads in a file of its own, so that a test sees
//! every byte that reached a child.

use std::{env, fmt, fs, net::SocketAddr, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    client::{Request, Response},
    support::{Launch, Session, eventually},
    temp::TempDir,
};

/// A proxy with the fixture behind it. Dropping it asserts that nothing is left behind.
pub(crate) struct Mux {
    pub(crate) session: Session,
    pub(crate) address: SocketAddr,
    children: TempDir,
}

/// A `tools/call`, or any other request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    id: String,
    method: String,
    /// Members of `params`.
    params: String,
    /// Further members of `_meta`.
    meta: String,
    name: Option<String>,
}

impl Mux {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::with_env(options, &[])
    }

    /// With this in the fixture's environment.
    pub(crate) fn with_env(options: &[&str], env: &[&str]) -> Self {
        let fixture = fixture().into_os_string().into_string().unwrap();
        let env: Vec<&str> = env.iter().flat_map(|pair| ["--env", pair]).collect();
        Self::of_server(&[options, &env].concat(), &[&fixture])
    }

    /// In front of another server.
    pub(crate) fn of_server(options: &[&str], server: &[&str]) -> Self {
        let children = TempDir::new().unwrap();
        let log = format!("FIXTURE_LOG={}", children.join("child").display());
        let listen = ["proxy", "--listen", "127.0.0.1:0", "--env", &log];
        let mut session = Launch::new([&listen, options, &["--"], server].concat()).start();
        let line = session.stderr.line();
        let address = line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp"));
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        Self { session, address, children }
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.address)
    }

    /// A modern call's plain reply, as text.
    pub(crate) fn ask(&self, call: &Call) -> String {
        let response = self.send(&call.modern());
        assert_eq!((response.status, response.is_events()), (200, false), "{response:?}");
        response.text()
    }

    /// Does steps for their effect, as a modern client that nobody else knows of.
    pub(crate) fn run(&self, steps: &str) {
        self.ask(&run("\"for its effect\"", steps));
    }

    /// What all children have read, line by line; each child's in its order.
    pub(crate) fn seen(&self) -> Vec<String> {
        let files = fs::read_dir(self.children.join("")).unwrap().map(|file| file.unwrap().path());
        let text = files.map(|file| fs::read(file).unwrap()).collect::<Vec<_>>().concat();
        String::from_utf8(text).unwrap().split_terminator('\n').map(str::to_owned).collect()
    }

    /// Awaits the first line a child has read that contains all of `words`.
    pub(crate) fn seen_with(&self, words: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("a child reads {words:?}"), || {
            found = self.seen().into_iter().find(|line| words.iter().all(|word| line.contains(word)));
            found.is_some()
        });
        found.unwrap()
    }

    /// Processes of the fixture.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let fixture = fixture().display().to_string();
        let processes = self.session.processes().into_iter();
        processes.filter(|process| process.words.starts_with(&fixture)).map(|process| process.pid).collect()
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.session.signal(Signal::TERM);
    }
}

pub(crate) fn fixture() -> PathBuf {
    let test = env::current_exe().unwrap();
    let fixture = test.ancestors().nth(2).unwrap().join("examples/fixture_server");
    assert!(fixture.exists(), "`cargo build --example fixture_server` first; `cargo test` without `--test` does it");
    fixture
}

/// A call of a tool. Id and arguments are JSON.
pub(crate) fn call(id: &str, tool: &str, arguments: &str) -> Call {
    let params = format!(r#""name":"{tool}","arguments":{arguments}"#);
    Call { name: Some(tool.to_owned()), ..ask(id, "tools/call", &params) }
}

/// A call that does steps: see `examples/fixture_server.rs`.
pub(crate) fn run(id: &str, steps: &str) -> Call {
    call(id, "run", &format!(r#"{{"steps":[{steps}]}}"#))
}

/// Any request. Its parameters are the members of an object, or nothing.
pub(crate) fn ask(id: &str, method: &str, params: &str) -> Call {
    let (id, method, params, meta) = (id.to_owned(), method.to_owned(), params.to_owned(), String::new());
    Call { id, method, params, meta, name: None }
}

impl Call {
    /// With a progress token, which is JSON.
    pub(crate) fn token(self, token: &str) -> Self {
        self.meta("progressToken", token)
    }

    /// Wants log messages.
    pub(crate) fn logs(self) -> Self {
        self.meta("io.modelcontextprotocol/logLevel", "\"info\"")
    }

    fn meta(mut self, key: &str, value: &str) -> Self {
        self.meta.push_str(&format!(r#","{key}":{value}"#));
        self
    }

    /// As a body of 2026-07-28.
    pub(crate) fn modern_body(&self) -> String {
        let meta = format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}{}}}"#,
            self.meta
        );
        self.body(&meta)
    }

    /// As a body of the revisions before.
    pub(crate) fn legacy_body(&self) -> String {
        match self.meta.strip_prefix(',') {
            Some(meta) => self.body(&format!(r#""_meta":{{{meta}}}"#)),
            None => self.body(""),
        }
    }

    fn body(&self, meta: &str) -> String {
        let Self { id, method, params, .. } = self;
        let comma = if params.is_empty() || meta.is_empty() { "" } else { "," };
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}{meta}}}}}"#)
    }

    /// As a request of 2026-07-28, with all its headers.
    pub(crate) fn modern(&self) -> Request {
        let request = modern(self.modern_body()).with("Mcp-Method", self.method.as_str());
        match &self.name {
            Some(name) => request.with("Mcp-Name", name.as_str()),
            None => request,
        }
    }
}

/// A POST with the version of 2026-07-28.
pub(crate) fn modern(body: impl Into<Vec<u8>>) -> Request {
    Request::post(body).with("MCP-Protocol-Version", "2026-07-28")
}

/// What the fixture answers to a call of `run` that asked for nothing.
pub(crate) fn done(id: &str) -> String {
    result(id, r#"{"content":[],"answer":null,"resultType":"complete"}"#)
}

/// What the fixture answers to `echo`.
pub(crate) fn echoed(id: &str, arguments: &str) -> String {
    result(id, &format!(r#"{{"content":[],"echo":{arguments},"resultType":"complete"}}"#))
}

pub(crate) fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// A progress notification of the fixture.
pub(crate) fn progress(token: &str, at: usize, message: &str) -> String {
    let params = format!(r#"{{"progressToken":{token},"progress":{at},"message":"{message}"}}"#);
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
}

/// Asserts status, code and id (`Value::Null`: none) of a refusal of ours, and returns its text.
#[track_caller]
pub(crate) fn assert_refused(response: Response, status: u16, code: i64, id: &Value) -> String {
    assert_eq!(response.status, status, "{response:?}");
    let body = response.json();
    assert_eq!((&body["error"]["code"], &body["id"]), (&Value::from(code), id), "{body}");
    assert_eq!(body["error"]["data"]["source"], "shadowcat", "{body}");
    body["error"]["message"].as_str().unwrap_or_default().to_owned()
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("address", &self.address).finish_non_exhaustive()
    }
}
