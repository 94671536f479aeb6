//! A server of MCP 2025-11-25 over a raw socket, which does one thing wrong.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// The listening stream is held back to its end, which does not come.
    HoldsStreamsBack,
    /// Bodies of 1 MiB get a page in HTML.
    HasAProxyWithALimit,
    /// Whoever asks is answered, under any name.
    ChecksNobody,
    /// The session is unknown to the next request.
    LosesSessions,
    /// Every answer is the last one on its connection.
    ClosesConnections,
    /// Nobody is served without a token.
    WantsAToken,
    /// Every answer says that it is compressed.
    Compresses,
    /// It speaks as 2024-11-05 does.
    HasTwoEndpoints,
    /// It speaks 2026-07-28 alone.
    IsModern,
    /// The listening stream is closed at once.
    EndsStreams,
}

pub(crate) struct Faulty {
    pub(crate) url: String,
    /// Request lines and lengths of bodies, in the order in which they came.
    seen: Arc<Mutex<Vec<String>>>,
    /// Told of each GET.
    pub(crate) listened: mpsc::Receiver<()>,
}

impl Faulty {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, listened) = mpsc::channel();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (lines, told, host) = (Arc::clone(&lines), told.clone(), address.to_string());
                thread::spawn(move || serve(stream, fault, &host, &lines, &told));
            }
        });
        Self { url: format!("http://{address}/mcp"), seen, listened }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

struct Request {
    line: String,
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let line = head.lines().next().unwrap_or_default().to_owned();
        let head = head.to_ascii_lowercase();
        let mut request = Self { line, head, body: Vec::new() };
        let len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        request.body.resize(len, 0);
        stream.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn serve(stream: TcpStream, fault: Fault, host: &str, seen: &Mutex<Vec<String>>, told: &mpsc::Sender<()>) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = Request::read(&mut stream) {
        seen.lock().unwrap().push(format!("{} {}", request.line, request.body.len()));
        let is_listening = request.line.starts_with("GET");
        if is_listening {
            let _ = told.send(());
        }
        if is_listening && fault == Fault::HoldsStreamsBack {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
        let answer = answer(&request, fault, host);
        if out.write_all(answer.as_bytes()).is_err() || answer.contains("connection: close") {
            return;
        }
    }
}

fn answer(request: &Request, fault: Fault, host: &str) -> String {
    let answer = |status: &str, headers: &str, body: &str| {
        let close = if fault == Fault::ClosesConnections { "connection: close\r\n" } else { "" };
        let len = body.len();
        format!("HTTP/1.1 {status}\r\n{headers}{close}content-length: {len}\r\n\r\n{body}")
    };
    let is_foreign = request.header("host") != Some(host) || request.header("origin").is_some();
    if is_foreign && fault != Fault::ChecksNobody {
        return answer("403 Forbidden", "", "");
    }
    if fault == Fault::WantsAToken && request.header("authorization") != Some("bearer t0ken") {
        let metadata = "https://a.example/.well-known/oauth-protected-resource";
        let challenge = format!("www-authenticate: Bearer resource_metadata=\"{metadata}\"\r\n");
        return answer("401 Unauthorized", &challenge, "");
    }
    if fault == Fault::HasAProxyWithALimit && request.body.len() >= 1 << 20 {
        let headers = "server: nginx/1.26\r\ncontent-type: text/html\r\n";
        return answer("413 Request Entity Too Large", headers, "<html>413</html>");
    }
    let text = String::from_utf8_lossy(&request.body);
    let has_method = |method: &str| text.contains(&format!("\"method\":\"{method}\""));
    let is_post = request.line.starts_with("POST");
    let json = "content-type: application/json\r\n";
    match fault {
        Fault::HasTwoEndpoints if is_post => return answer("405 Method Not Allowed", "", ""),
        Fault::IsModern if has_method("subscriptions/listen") => {
            return "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n".to_owned();
        }
        Fault::HasTwoEndpoints | Fault::EndsStreams if request.line.starts_with("GET") => {
            let stream = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
            return format!("{stream}event: endpoint\ndata: /messages\n\n");
        }
        Fault::IsModern if has_method("server/discover") && request.header("mcp-protocol-version").is_some() => {
            return answer("200 OK", json, &result(&text, "{}"));
        }
        Fault::IsModern if is_post => {
            return answer("400 Bad Request", json, r#"{"jsonrpc":"2.0","error":{"code":-32022,"message":"no"}}"#);
        }
        _ => {}
    }
    if has_method("initialize") {
        let encoding = if fault == Fault::Compresses { "content-encoding: identity\r\nvia: 1.1 gate\r\n" } else { "" };
        let headers = format!("{json}{encoding}mcp-session-id: s1\r\n");
        return answer("200 OK", &headers, &result(&text, r#"{"protocolVersion":"2025-11-25"}"#));
    }
    if request.header("mcp-session-id") != Some("s1") || fault == Fault::LosesSessions && has_method("ping") {
        return answer("404 Not Found", "", "");
    }
    match request.line.split(' ').next() {
        Some("DELETE") => answer("200 OK", "", ""),
        Some("POST") if has_method("ping") => answer("200 OK", json, &result(&text, "{}")),
        Some("POST") => answer("202 Accepted", "", ""),
        _ => answer("405 Method Not Allowed", "", ""),
    }
}

/// The result to the request in `text`, whose id is a number.
fn result(text: &str, result: &str) -> String {
    let id = text.split("\"id\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap_or("null");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}
