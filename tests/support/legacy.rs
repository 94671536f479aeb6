//! A client of a legacy HTTP session: what it repeats in every request.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    client::{Request, Response},
    mux::{Call, Mux, call},
};

pub(crate) const SESSION: &str = "Mcp-Session-Id";
pub(crate) const VERSION: &str = "MCP-Protocol-Version";
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A client that has begun a session.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) session: String,
    /// What it says in the header. 2025-03-26 had none.
    pub(crate) version: Option<String>,
}

/// The body of an `initialize` with the id `"init"`.
pub(crate) fn initialize(version: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"init","method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{"sampling":{{}}}},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
    )
}

impl Client {
    /// Shakes hands.
    pub(crate) fn start(mux: &Mux, version: &str) -> Self {
        Self::begin(mux.address, version)
    }

    /// The same, whatever listens there.
    pub(crate) fn begin(address: SocketAddr, version: &str) -> Self {
        let response = Request::post(initialize(version)).send(address);
        assert_eq!(response.status, 200, "{response:?}");
        let session = response.header("mcp-session-id").expect("a session").to_owned();
        let answer = answer(response);
        assert_eq!(answer["id"], "init");
        let agreed = answer["result"]["protocolVersion"].as_str().expect("a version");
        let client = Self { session, version: (agreed > "2025-03-26").then(|| agreed.to_owned()) };
        assert_eq!(client.post(INITIALIZED).send(address).status, 202);
        client
    }

    pub(crate) fn post(&self, body: impl Into<Vec<u8>>) -> Request {
        self.named(Request::post(body))
    }

    pub(crate) fn get(&self) -> Request {
        self.named(Request::get())
    }

    pub(crate) fn request(&self, method: &'static str) -> Request {
        self.named(Request::new(method))
    }

    fn named(&self, request: Request) -> Request {
        let request = request.with(SESSION, self.session.as_str());
        match &self.version {
            Some(version) => request.with(VERSION, version.as_str()),
            None => request,
        }
    }

    /// A call's plain reply.
    pub(crate) fn ask(&self, mux: &Mux, call: &Call) -> String {
        let response = mux.send(&self.post(call.legacy_body()));
        assert_eq!((response.status, response.is_events()), (200, false), "{response:?}");
        response.text()
    }

    /// The process that serves it.
    pub(crate) fn pid(&self, mux: &Mux) -> u64 {
        let answer: Value = serde_json::from_str(&self.ask(mux, &call("\"pid\"", "pid", "{}"))).unwrap();
        answer["result"]["pid"].as_u64().unwrap()
    }
}

/// The answer, whichever form it came in.
pub(crate) fn answer(mut response: Response) -> Value {
    if !response.is_events() {
        return response.json();
    }
    loop {
        let data = response.data();
        match serde_json::from_str::<Value>(&data) {
            Ok(message) if message.get("id").is_some() && message.get("method").is_none() => return message,
            _ => {}
        }
    }
}
