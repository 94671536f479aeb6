//! A client's side of HTTP: what it remembers of one server never leaves anything out of a legacy request, and
//! puts an id back only where it belongs.

use http::HeaderValue;

use super::script::{IDS, Parsed, Script, parsed};
use crate::session::{
    RequestId,
    dialed::{Dialed, is_initialize, respelled},
    mirror::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID},
    revision::Era,
};

/// The body of the target `session_dialed`: messages of a client, answers of a server.
pub fn session_dialed(input: &[u8]) {
    let mut script = Script::new(input);
    let mut dialed = Dialed::default();
    let (mut session, mut version, mut handshake) = (None, None, (None, None));
    while let Some(what) = script.next() {
        match what % 6 {
            0..=2 => {
                let text = message(&mut script);
                let Some(said) = parsed(text) else { continue };
                let era = dialed.era_of(&said.envelope, &said.frame);
                let _ = dialed.refusal(era, &said.envelope, &said.frame);
                dialed.remember(&said.envelope, &said.frame);
                let is_first = is_initialize(&said.envelope, &said.frame);
                if is_first {
                    handshake = (Some(said.frame.clone()), None);
                } else if said.frame.ends_with(INITIALIZED.as_bytes()) {
                    handshake.1 = Some(said.frame.clone());
                }
                let headers = dialed.headers(era, &said.envelope, &said.frame);
                if era == Era::Legacy {
                    // Rules G10, V4; `initialize` begins anew.
                    let due = |kept: &Option<HeaderValue>| kept.clone().filter(|_| !is_first);
                    assert_eq!(headers.get(MCP_SESSION_ID), due(&session).as_ref());
                    assert_eq!(headers.get(MCP_PROTOCOL_VERSION), due(&version).as_ref());
                } else {
                    assert!(!headers.contains_key(MCP_SESSION_ID), "there are no sessions in the modern era");
                }
            }
            3 => {
                session = script.pick(&[None, Some("s1"), Some("s2")]).map(HeaderValue::from_static);
                let agreed = script.pick(&[None, Some("2025-11-25"), Some("2025-03-26"), Some("a\nb")]);
                version = agreed.and_then(|version| HeaderValue::from_str(version).ok());
                dialed.negotiated(session.clone(), agreed);
                assert_eq!(dialed.has_session(), session.is_some());
            }
            4 => {
                let text = script.text();
                let _ = dialed.learn(text.as_bytes());
            }
            _ => answer(&mut script),
        }
        let kept = handshake.0.as_deref().zip(handshake.1.as_deref());
        assert_eq!(dialed.handshake(), kept, "the handshake is replayed as it was");
    }
}

fn message(script: &mut Script<'_>) -> String {
    let id = script.pick(&IDS);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    match script.below(7) {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{}}}}"#),
        1 => format!(" {INITIALIZED}"),
        2 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#),
        3 => format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t","arguments":{{"a":1}},{meta}}}}}"#
        ),
        4 => r#"{"jsonrpc":"2.0","method":"notifications/x"}"#.to_owned(),
        5 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        _ => script.text(),
    }
}

/// An answer in a spelling of the server's gets the asker's back, and nothing else changes.
fn answer(script: &mut Script<'_>) {
    let asked: Vec<&str> = (0..script.below(4)).map(|_| script.pick(&IDS)).collect();
    let ids: Vec<RequestId> = asked.iter().map(|id| RequestId::new(id.as_bytes())).collect();
    let id = script.pick(&IDS);
    let text = |id: &str| format!(r#"{{"result":{{"id":7}}, "id" : {id} }}"#);
    let Some(Parsed { frame, envelope, .. }) = parsed(text(id)) else { return };
    let found = respelled(&envelope, &frame, ids.iter());
    let Some(found) = found else { return };
    assert!(!asked.contains(&id), "there is nothing to put back");
    let is_theirs = asked.iter().any(|own| found == text(own));
    assert!(is_theirs, "{} of {asked:?}", String::from_utf8_lossy(&found));
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
