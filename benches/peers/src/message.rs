//! The calls that are sent and what is expected for them, byte by byte. Does no input or output.

use crate::answer;

/// The first id; all have as many digits.
pub const FIRST_ID: u64 = 100_000_000;
const ID_LEN: usize = 9;

/// Calls of one size, and their answers: made once, with the id exchanged in place.
#[derive(Debug)]
pub struct Template {
    call: Vec<u8>,
    answer: Vec<u8>,
    /// Where the digits of the id stand: as the id, and at the head of the text.
    call_ids: [usize; 2],
    answer_ids: [usize; 2],
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Byte for byte what the server sent.
    Exact,
    /// The same id and text, spelled differently.
    Altered,
    /// A JSON-RPC error.
    Error,
    /// Something else.
    Wrong,
}

impl Template {
    /// A call of `len` bytes; the shortest has 109.
    pub fn new(len: usize) -> Self {
        let id = FIRST_ID.to_string();
        let shell = |text: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"t":"{text}"}}}}}}"#
            )
        };
        let filling = len.saturating_sub(shell(&id).len());
        let text: String = id.chars().chain(LETTERS.chars().cycle().take(filling)).collect();
        let call = shell(&text).into_bytes();
        let mut answer = Vec::new();
        answer::answer(&call, &mut answer);
        let places = |message: &[u8]| {
            let mut found = memchr::memmem::find_iter(message, &id);
            [found.next().unwrap_or(0), found.next().unwrap_or(0)]
        };
        Self { call_ids: places(&call), answer_ids: places(&answer), call, answer }
    }

    pub fn call(&mut self, id: u64) -> &[u8] {
        patch(&mut self.call, self.call_ids, id);
        &self.call
    }

    /// Whether `message` is the answer to the call `id`.
    pub fn check(&mut self, message: &[u8], id: u64) -> Verdict {
        patch(&mut self.answer, self.answer_ids, id);
        if message == self.answer {
            return Verdict::Exact;
        }
        let (Ok(got), Ok(want)) = (
            serde_json::from_slice::<serde_json::Value>(message),
            serde_json::from_slice::<serde_json::Value>(&self.answer),
        ) else {
            return Verdict::Wrong;
        };
        let text = |value: &serde_json::Value| value.pointer("/result/content/0/text").cloned();
        if got.get("id") == want.get("id") && got.get("error").is_some() {
            Verdict::Error
        } else if got.get("id") == want.get("id") && text(&got) == text(&want) {
            Verdict::Altered
        } else {
            Verdict::Wrong
        }
    }
}

/// Nothing that a peer would spell differently, and no two neighbours alike: what is exchanged is seen.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ .,:;!?#@~^*()+=<>|%&";

fn patch(message: &mut [u8], places: [usize; 2], id: u64) {
    let digits = id.to_string();
    for place in places {
        message[place..place + ID_LEN].copy_from_slice(digits.as_bytes());
    }
}

/// The id of an answer, if it is one.
pub fn id_of(message: &[u8]) -> Option<u64> {
    const HEAD: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";
    let digits = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    if let Some(id) = message.strip_prefix(HEAD).and_then(|rest| digits(rest.get(..ID_LEN)?)) {
        return Some(id);
    }
    match crate::json::member(message, "method") {
        Some(_) => None,
        None => digits(crate::json::member(message, "id")?),
    }
}

/// A call that is answered by `count` notifications first.
pub fn notify_call(id: u64, count: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"notify","arguments":{{"count":{count}}},"_meta":{{"progressToken":{id}}}}}}}"#
    )
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"peers","version":"0"}}}"#;
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let mut template = Template::new(1024);
        let call = template.call(FIRST_ID + 7).to_vec();
        assert_eq!(call.len(), 1024);
        let mut answer = Vec::new();
        answer::answer(&call, &mut answer);
        assert_eq!(id_of(&answer), Some(FIRST_ID + 7));
        assert_eq!(template.check(&answer, FIRST_ID + 7), Verdict::Exact);
        assert_eq!(template.check(&answer, FIRST_ID + 8), Verdict::Wrong);
        let spaced = String::from_utf8(answer.clone()).unwrap().replace(":{", ": {");
        assert_eq!(template.check(spaced.as_bytes(), FIRST_ID + 7), Verdict::Altered);
        let cut = String::from_utf8(answer).unwrap().replace("xyz", "xyy");
        assert_eq!(template.check(cut.as_bytes(), FIRST_ID + 7), Verdict::Wrong);
        let error = format!(r#"{{"jsonrpc":"2.0","id":{FIRST_ID},"error":{{"code":-32603,"message":"no"}}}}"#);
        assert_eq!(template.check(error.as_bytes(), FIRST_ID), Verdict::Error);
        assert_eq!(id_of(br#"{"result":{},"id":123456789}"#), Some(123_456_789));
        assert_eq!(id_of(br#"{"method":"x","id":123456789}"#), None);
    }
}
