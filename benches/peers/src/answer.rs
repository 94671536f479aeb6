//! What the mock server answers. Knows messages, not how they travel.
//!
//! Tools: `echo` gives its text back; `notify` sends `count` progress notifications, then answers. Nothing is parsed
//! beyond what is asked for, and what is echoed is copied as it was spelled.

use crate::json::{member, unquoted};

/// What is to be sent for one message.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was a notification or an answer.
    Nothing,
    /// One message, in `out`.
    One,
    /// The same, and it opened a session.
    Opened,
    /// `count` notifications (see `notification`) before the message in `out`.
    Many { count: usize, token: Vec<u8> },
}

/// Appends the answer to `message` to `out`, without any framing.
pub fn answer(message: &[u8], out: &mut Vec<u8>) -> Reply {
    let (Some(id), Some(method)) = (member(message, "id"), member(message, "method").and_then(unquoted)) else {
        return Reply::Nothing;
    };
    let params = member(message, "params").unwrap_or(b"{}");
    let mut put = |parts: &[&[u8]]| {
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        out.extend_from_slice(id);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'}');
    };
    match method {
        b"initialize" => {
            let version = member(params, "protocolVersion").unwrap_or(b"\"2025-11-25\"");
            put(&[b",\"result\":{\"protocolVersion\":", version, SERVER]);
            return Reply::Opened;
        }
        b"ping" => put(&[b",\"result\":{}"]),
        b"tools/list" => put(&[TOOLS]),
        b"tools/call" => return call(params, &mut put),
        _ => put(&[b",\"error\":{\"code\":-32601,\"message\":\"no such method\"}"]),
    }
    Reply::One
}

/// `put` appends the answer's id and these parts.
fn call(params: &[u8], put: &mut dyn FnMut(&[&[u8]])) -> Reply {
    let arguments = member(params, "arguments").unwrap_or(b"{}");
    match member(params, "name").and_then(unquoted) {
        Some(b"echo") => {
            let text = member(arguments, "t").unwrap_or(b"\"\"");
            put(&[b",\"result\":{\"content\":[{\"type\":\"text\",\"text\":", text, b"}]}"]);
            Reply::One
        }
        Some(b"notify") => {
            put(&[b",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"done\"}]}"]);
            let count = member(arguments, "count").and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
            let token = member(params, "_meta").and_then(|meta| member(meta, "progressToken"));
            match (count, token) {
                (Some(count), Some(token)) => Reply::Many { count, token: token.to_vec() },
                _ => Reply::One,
            }
        }
        _ => {
            put(&[b",\"error\":{\"code\":-32602,\"message\":\"no such tool\"}"]);
            Reply::One
        }
    }
}

/// Appends the `index`th progress notification, from 1.
pub fn notification(token: &[u8], index: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":");
    out.extend_from_slice(token);
    out.extend_from_slice(b",\"progress\":");
    out.extend_from_slice(index.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":\"reading the next part of the file\"}}");
}

const SERVER: &[u8] = br#","capabilities":{"tools":{}},"serverInfo":{"name":"mock","version":"1.0.0"}}"#;
const TOOLS: &[u8] = br#","result":{"tools":[{"name":"echo","description":"Says it again","inputSchema":{"type":"object","properties":{"t":{"type":"string"}}}},{"name":"notify","description":"Reports progress","inputSchema":{"type":"object","properties":{"count":{"type":"integer"}}}}]}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_texts_come_back_as_they_were_spelled() {
        let mut out = Vec::new();
        let call = br#"{"method":"tools/call","params":{"arguments":{"t":"a\u0041\n"},"name":"echo"},"id":1e2}"#;
        assert_eq!(answer(call, &mut out), Reply::One);
        let expected = br#"{"jsonrpc":"2.0","id":1e2,"result":{"content":[{"type":"text","text":"a\u0041\n"}]}}"#;
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(answer(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, &mut out), Reply::Nothing);
    }
}
