//! A server for tests of links: MCP over stdio, of both eras, that does what each call tells it to.
//!
//! Not an example of how to write a server: it checks nothing, and knows no more of MCP than tests need. It
//! has no clock and no threads, so what it writes depends only on what it reads. A call waits for another
//! call to open a gate, never for time to pass.
//!
//! Tools: `echo` gives its arguments back byte for byte, `pid` tells who we are, and `run` does `steps`, a list
//! of objects with one member each:
//!
//! | step | what it does |
//! |---|---|
//! | `"progress": ["a", …]` | a progress notification with each message |
//! | `"flood": 3` | as many progress notifications of 64 KiB each |
//! | `"log": "a"` | a log message |
//! | `"notify": "method"` | this notification on each subscription; bare if there is none |
//! | `"end_listens": true` | the final result of each subscription |
//! | `"open": "gate"` · `"wait": "gate"` | opens a gate for good · goes on once it is open |
//! | `"wait_cancel": true` | goes on once this call is cancelled |
//! | `"wait_cancels": 2` | goes on once as many cancellations came |
//! | `"wait_answers": 1` | goes on once as many answers came to what we never asked |
//! | `"ask": "method"` | a request to the client; goes on with its answer, which is part of the result |
//! | `"tell": "method"` | a request to the client, whose answer is not awaited |
//! | `"line": "text"` · `"part": "text"` | writes text with · without a line end; `$ID`, `$TOKEN` are the call's |
//! | `"file": "path"` | writes the bytes of this file, `$ID` and `$TOKEN` as above |
//! | `"error": {…}` · `"result": {…}` · `"big": 3` | ends with this error · this result · a result of 3 bytes of text |
//! | `"stderr": "text"` | writes a line of text to stderr |
//! | `"never": true` · `"exit": 3` | ends without an answer · ends this process |
//!
//! Environment: `FIXTURE_LOG` begins the name of a file that gets each line read, `FIXTURE_BANNER` is written
//! at the start, `FIXTURE_STDERR` to stderr, `FIXTURE_VERSION` is answered to `initialize`, `FIXTURE_MUTE` answers it never, `FIXTURE_DEAF`
//! ignores the end of the input.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    env,
    fs::{self, File},
    io::{self, BufRead as _, BufWriter, StdoutLock, Write as _},
    process::{self, ExitCode},
    string::FromUtf8Error,
    thread,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    notifications: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(borrow)]
    progress_token: Option<&'a RawValue>,
}

/// A call of `run` that is not over.
struct Call {
    /// As it came, like all ids and tokens here.
    id: String,
    token: Option<String>,
    steps: VecDeque<Value>,
    wait: Wait,
    /// What the client said to the last question.
    answer: Option<String>,
}

enum Wait {
    Nothing,
    Gate(String),
    Cancel,
    Cancels(u64),
    Answers(u64),
    Answer(String),
}

struct Server {
    out: BufWriter<StdoutLock<'static>>,
    log: Option<File>,
    calls: Vec<Call>,
    gates: HashSet<String>,
    /// Ids of subscriptions.
    listens: Vec<String>,
    /// Answers to the batch that is being read.
    batch: Option<Vec<String>>,
    questions: u64,
    cancels: u64,
    stray_answers: u64,
    exit: Option<u8>,
}

fn main() -> io::Result<ExitCode> {
    let mut server = Server::new()?;
    if let Ok(complaint) = env::var("FIXTURE_STDERR") {
        complain(&complaint)?;
    }
    if let Ok(banner) = env::var("FIXTURE_BANNER") {
        server.write(&banner)?;
    }
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        server.read(&line)?;
        if let Some(code) = server.exit {
            return Ok(ExitCode::from(code));
        }
        line.clear();
    }
    while env::var_os("FIXTURE_DEAF").is_some() {
        thread::park();
    }
    Ok(ExitCode::SUCCESS)
}

/// Says something on stderr.
fn complain(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}

impl Server {
    fn new() -> io::Result<Self> {
        let log = env::var("FIXTURE_LOG").ok().map(|name| File::create(format!("{name}.{}", process::id())));
        Ok(Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            log: log.transpose()?,
            calls: Vec::new(),
            gates: HashSet::new(),
            listens: Vec::new(),
            batch: None,
            questions: 0,
            cancels: 0,
            stray_answers: 0,
            exit: None,
        })
    }

    fn read(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            log.write_all(&[line, b"\n"].concat())?;
        }
        if line.trim_ascii_start().first() == Some(&b'[') {
            let Ok(messages) = serde_json::from_slice::<Vec<&RawValue>>(line) else { return Ok(()) };
            self.batch = Some(Vec::new());
            for message in messages {
                self.take(message.get().as_bytes())?;
            }
            match self.batch.take() {
                Some(answers) if !answers.is_empty() => self.write(&format!("[{}]", answers.join(",")))?,
                _ => {}
            }
        } else {
            self.take(line)?;
        }
        self.advance()
    }

    fn take(&mut self, message: &[u8]) -> io::Result<()> {
        let Ok(Message { id, method, params, result, error }) = serde_json::from_slice(message) else { return Ok(()) };
        let raw_params = params.map_or("{}", RawValue::get);
        let params: Params<'_> = serde_json::from_str(raw_params).unwrap_or_default();
        match (id.map(RawValue::get), method.as_deref()) {
            (Some(id), Some(method)) => self.request(id, method, &params),
            (Some(id), None) => {
                self.answered(id, result.or(error).map_or("null", RawValue::get));
                Ok(())
            }
            (None, Some("notifications/cancelled")) => {
                self.cancelled(params.request_id.map_or("null", RawValue::get));
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn request(&mut self, id: &str, method: &str, params: &Params<'_>) -> io::Result<()> {
        match method {
            "initialize" if env::var_os("FIXTURE_MUTE").is_some() => Ok(()),
            "initialize" => {
                let asked = params.protocol_version.map_or("null", RawValue::get);
                let version = env::var("FIXTURE_VERSION").map_or_else(|_| asked.to_owned(), |text| format!("{text:?}"));
                self.answer(id, &format!(r#"{{"protocolVersion":{version},{SELF}}}"#))
            }
            "server/discover" => {
                let cached = r#""ttlMs":0,"cacheScope":"private","resultType":"complete""#;
                self.answer(id, &format!(r#"{{"supportedVersions":["2026-07-28"],{SELF},{cached}}}"#))
            }
            "ping" => self.answer(id, "{}"),
            "tools/list" => self.answer(id, TOOLS),
            "subscriptions/listen" => {
                self.listens.push(id.to_owned());
                let granted = params.notifications.map_or("{}", RawValue::get);
                let members = format!(r#""notifications":{granted},"_meta":{{"{SUBSCRIPTION}":{id}}}"#);
                self.notify("notifications/subscriptions/acknowledged", &members)
            }
            "tools/call" => self.call(id, params),
            _ => self.fail(id, &format!(r#"{{"code":-32601,"message":"no method {method}"}}"#)),
        }
    }

    fn call(&mut self, id: &str, params: &Params<'_>) -> io::Result<()> {
        let arguments = params.arguments.map_or("null", RawValue::get);
        match params.name.as_deref() {
            Some("echo") => self.answer(id, &format!(r#"{{"content":[],"echo":{arguments},"resultType":"complete"}}"#)),
            Some("pid") => self.answer(id, &format!(r#"{{"content":[],"pid":{},{COMPLETE}}}"#, process::id())),
            Some("run") => {
                let steps: Value = serde_json::from_str(arguments).unwrap_or_default();
                let steps = steps.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
                let token = params.meta.as_ref().and_then(|meta| meta.progress_token);
                let token = token.map(|token| token.get().to_owned());
                let (id, steps) = (id.to_owned(), steps.into());
                self.calls.push(Call { id, token, steps, wait: Wait::Nothing, answer: None });
                Ok(())
            }
            name => self.fail(id, &format!(r#"{{"code":-32602,"message":"no tool {name:?}"}}"#)),
        }
    }

    fn answered(&mut self, id: &str, answer: &str) {
        let asks = |call: &&mut Call| matches!(&call.wait, Wait::Answer(asked) if asked == id);
        match self.calls.iter_mut().find(asks) {
            Some(call) => (call.wait, call.answer) = (Wait::Nothing, Some(answer.to_owned())),
            None => self.stray_answers += 1,
        }
    }

    fn cancelled(&mut self, id: &str) {
        self.cancels += 1;
        self.listens.retain(|listen| listen != id);
        for call in self.calls.iter_mut().filter(|call| call.id == id) {
            match call.wait {
                Wait::Cancel => call.wait = Wait::Nothing,
                // Whoever does not ask for it hears nothing of it: Rule C3.
                _ => call.steps = [json!({"never": true})].into(),
            }
        }
    }

    /// Goes on with every call that has nothing more to wait for.
    fn advance(&mut self) -> io::Result<()> {
        let mut at = 0;
        while at < self.calls.len() && self.exit.is_none() {
            let may_go_on = match &self.calls[at].wait {
                Wait::Nothing => true,
                Wait::Gate(gate) => self.gates.contains(gate),
                Wait::Cancels(count) => self.cancels >= *count,
                Wait::Answers(count) => self.stray_answers >= *count,
                Wait::Cancel | Wait::Answer(_) => false,
            };
            if !may_go_on {
                at += 1;
                continue;
            }
            let mut call = self.calls.remove(at);
            call.wait = Wait::Nothing;
            if self.run(&mut call)? {
                self.calls.insert(at, call);
            }
            // It may have opened a gate for one before it.
            at = 0;
        }
        Ok(())
    }

    /// Does what the call says until it waits for something. `false`: it is over.
    fn run(&mut self, call: &mut Call) -> io::Result<bool> {
        while let Some(step) = call.steps.pop_front() {
            let Some((name, value)) = step.as_object().and_then(|step| step.iter().next()) else { continue };
            let (text, number) = (value.as_str().unwrap_or_default(), value.as_u64().unwrap_or_default());
            match name.as_str() {
                "wait" => call.wait = Wait::Gate(text.to_owned()),
                "wait_cancel" => call.wait = Wait::Cancel,
                "wait_cancels" => call.wait = Wait::Cancels(number),
                "wait_answers" => call.wait = Wait::Answers(number),
                "ask" => call.wait = Wait::Answer(self.ask(text)?),
                "error" => return self.fail(&call.id, &value.to_string()).map(|()| false),
                "result" => return self.answer(&call.id, &value.to_string()).map(|()| false),
                "big" => {
                    let text = "x".repeat(usize::try_from(number).unwrap_or_default());
                    let result = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}],{COMPLETE}}}"#);
                    return self.answer(&call.id, &result).map(|()| false);
                }
                "never" => return Ok(false),
                "exit" => {
                    self.exit = Some(u8::try_from(number).unwrap_or(u8::MAX));
                    return Ok(false);
                }
                _ => self.say(call, name, value)?,
            }
            if !matches!(call.wait, Wait::Nothing) {
                return Ok(true);
            }
        }
        let answer = call.answer.as_deref().unwrap_or("null");
        self.answer(&call.id, &format!(r#"{{"content":[],"answer":{answer},"resultType":"complete"}}"#))?;
        Ok(false)
    }

    /// A step that neither waits nor ends a call.
    fn say(&mut self, call: &Call, name: &str, value: &Value) -> io::Result<()> {
        let text = value.as_str().unwrap_or_default();
        match name {
            "progress" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .try_for_each(|(at, text)| self.progress(call, at, text)),
            "flood" => {
                let text = Value::from("x".repeat(64 << 10));
                let count = usize::try_from(value.as_u64().unwrap_or_default()).unwrap_or_default();
                (0..count).try_for_each(|at| self.progress(call, at, &text))
            }
            "log" => self.notify("notifications/message", &format!(r#""level":"info","data":{value}"#)),
            "notify" if self.listens.is_empty() => self.notify(text, ""),
            "notify" => {
                let listens = self.listens.clone();
                listens.iter().try_for_each(|id| self.notify(text, &format!(r#""_meta":{{"{SUBSCRIPTION}":{id}}}"#)))
            }
            "end_listens" => std::mem::take(&mut self.listens)
                .iter()
                .try_for_each(|id| self.answer(id, &format!(r#"{{{COMPLETE},"_meta":{{"{SUBSCRIPTION}":{id}}}}}"#))),
            "open" => {
                self.gates.insert(text.to_owned());
                Ok(())
            }
            "tell" => self.ask(text).map(drop),
            "line" => self.write(&spelled(call, text)),
            "stderr" => complain(text),
            "part" => {
                self.out.write_all(spelled(call, text).as_bytes())?;
                self.out.flush()
            }
            "file" => {
                // What is no text has no names in it either.
                let bytes = String::from_utf8(fs::read(text)?);
                let bytes = bytes.map_or_else(FromUtf8Error::into_bytes, |text| spelled(call, &text).into_bytes());
                self.out.write_all(&bytes)?;
                self.out.flush()
            }
            _ => Ok(()),
        }
    }

    fn progress(&mut self, call: &Call, at: usize, text: &Value) -> io::Result<()> {
        let Some(token) = &call.token else { return Ok(()) };
        self.notify("notifications/progress", &format!(r#""progressToken":{token},"progress":{at},"message":{text}"#))
    }

    /// Asks the client; returns the id of the question.
    fn ask(&mut self, method: &str) -> io::Result<String> {
        self.questions += 1;
        let id = format!("\"question {}\"", self.questions);
        self.write(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"messages":[]}}}}"#))?;
        Ok(id)
    }

    fn answer(&mut self, id: &str, result: &str) -> io::Result<()> {
        self.reply(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
    }

    fn fail(&mut self, id: &str, error: &str) -> io::Result<()> {
        self.reply(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
    }

    fn reply(&mut self, message: String) -> io::Result<()> {
        if let Some(answers) = &mut self.batch {
            answers.push(message);
            return Ok(());
        }
        self.write(&message)
    }

    fn notify(&mut self, method: &str, members: &str) -> io::Result<()> {
        self.write(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{members}}}}}"#))
    }

    fn write(&mut self, message: &str) -> io::Result<()> {
        self.out.write_all(message.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }
}

fn spelled(call: &Call, text: &str) -> String {
    text.replace("$ID", &call.id).replace("$TOKEN", call.token.as_deref().unwrap_or("null"))
}

const SELF: &str =
    r#""capabilities":{"tools":{"listChanged":true},"logging":{}},"serverInfo":{"name":"fixture","version":"1"}"#;

const COMPLETE: &str = r#""resultType":"complete""#;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// `region` has a parameter that is mirrored in a header.
const TOOLS: &str = r#"{"tools":[{"name":"echo","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},{"name":"run","inputSchema":{"type":"object"}},{"name":"pid","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private","resultType":"complete"}"#;
