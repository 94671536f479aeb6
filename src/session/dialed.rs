//! What a client's side of HTTP has come to with one server: the handshake, the session, the version, the
//! tools; and so which headers a POST bears (rules G9, G10, V4, M1).
//!
//! Pure: requests are sent, and sent again, by the link. The handshake is kept, so that a session the
//! server has lost can be opened anew without the client's knowing (rule G11).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use shadowcat_codecs::envelope::{Envelope, IdClass, Kind, text};

use super::{
    Reason, RequestId,
    mirror::{self, LAST_EVENT_ID, MCP_PROTOCOL_VERSION, MCP_SESSION_ID},
    revision::{self, Class, Era, Facts},
    spelling::{means_same, respelled_copy},
    tools::{self, Learned, Tools},
};

pub mod back_off;
pub mod locate;

/// The state. See the [module](self).
#[derive(Debug, Default)]
pub struct Dialed {
    initialize: Option<Box<[u8]>>,
    initialized: Option<Box<[u8]>>,
    session: Option<HeaderValue>,
    /// What the latest `initialize` was answered.
    version: Option<HeaderValue>,
    /// How often a handshake succeeded.
    generation: u32,
    /// The version of the latest request of the modern era.
    modern: Option<HeaderValue>,
    tools: Tools,
}

impl Dialed {
    /// The era a message belongs to. What says nothing of itself is taken for a part of the conversation.
    #[must_use]
    pub fn era_of(&self, envelope: &Envelope, frame: &[u8]) -> Era {
        match revision::classify(&Facts::default(), envelope, frame) {
            Ok(Class::LegacyBare) | Err(_) if self.initialize.is_none() && self.modern.is_some() => Era::Modern,
            Ok(class) => class.era(),
            Err(_) => Era::Legacy,
        }
    }

    /// The headers a message is posted with, beside those that say what a body is.
    #[must_use]
    pub fn headers(&mut self, era: Era, envelope: &Envelope, frame: &[u8]) -> HeaderMap {
        if era == Era::Legacy {
            return if is_initialize(envelope, frame) { HeaderMap::new() } else { self.session_headers() };
        }
        let mut headers: HeaderMap = mirror::headers_for(frame, envelope, Some(&self.tools)).into_iter().collect();
        match headers.get(MCP_PROTOCOL_VERSION) {
            Some(version) => self.modern = Some(version.clone()),
            // A notification need not repeat the version, but every POST has to.
            None if envelope.kind() == Kind::Notification => {
                headers.extend(self.modern.clone().map(|version| (MCP_PROTOCOL_VERSION, version)));
            }
            None => {}
        }
        headers
    }

    /// The headers of every legacy request behind the handshake.
    #[must_use]
    pub fn session_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(self.session.clone().map(|session| (MCP_SESSION_ID, session)));
        headers.extend(self.version.clone().map(|version| (MCP_PROTOCOL_VERSION, version)));
        headers
    }

    /// As [`session_headers`](Self::session_headers), for a stream that goes on behind the event `last_id`.
    #[must_use]
    pub fn resume_headers(&self, last_id: Option<&[u8]>) -> HeaderMap {
        let mut headers = self.session_headers();
        // An empty id takes back the ids before it.
        let last_id = last_id.filter(|id| !id.is_empty()).and_then(|id| HeaderValue::from_bytes(id).ok());
        headers.extend(last_id.map(|id| (LAST_EVENT_ID, id)));
        headers
    }

    /// A client begins, or goes on with, a handshake: keeps a copy, unless it is unreasonably long.
    pub fn remember(&mut self, envelope: &Envelope, frame: &[u8]) {
        let copied = || (frame.len() <= MAX_REMEMBERED).then(|| Box::from(frame));
        if is_initialize(envelope, frame) {
            (self.initialize, self.initialized) = (copied(), None);
        } else if is_initialized(envelope, frame) {
            self.initialized = copied();
        }
    }

    /// A handshake succeeded: the server's answer bore this session, and named this version.
    pub fn negotiated(&mut self, session: Option<HeaderValue>, version: Option<&str>) {
        self.generation += 1;
        self.session = session.map(|mut session| {
            session.set_sensitive(true);
            session
        });
        self.version = version.and_then(|version| HeaderValue::from_str(version).ok());
    }

    /// The version of the session.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_ref()?.to_str().ok()
    }

    /// Whether there is a session at the server that has to be ended.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Which session, of all there were, a request belongs to.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The remembered handshake, if it can be replayed.
    #[must_use]
    pub fn handshake(&self) -> Option<(&[u8], &[u8])> {
        Some((self.initialize.as_deref()?, self.initialized.as_deref()?))
    }

    /// Why a message may not be posted: it calls a tool whose marks break the rules, which a client over HTTP
    /// must reject (MCP 2026-07-28, Streamable HTTP, "Schema Extension"). The client in front of us speaks no
    /// HTTP and may ignore the marks; so the list stays as it is, and the rule is kept here.
    #[must_use]
    pub fn refusal(&self, era: Era, envelope: &Envelope, frame: &[u8]) -> Option<Reason> {
        if era != Era::Modern || envelope.kind() != Kind::Request || !is_method(envelope, frame, "tools/call") {
            return None;
        }
        let tool = envelope.name().and_then(|span| text(span, frame))?;
        let what = self.tools.broken_rule_of(&tool)?;
        Some(Reason::InvalidTool { tool: tool.chars().take(tools::MAX_SHOWN).collect(), what })
    }

    /// A server's answer to `tools/list` came by.
    pub fn learn(&mut self, frame: &[u8]) -> Learned {
        self.tools.learn(frame)
    }
}

/// An answer that bears the id of one of `asked` in another spelling, `1` for `1.0`: a copy with the asker's
/// (rule E1). `None` for what is no such answer.
#[must_use]
pub fn respelled<'a>(
    envelope: &Envelope,
    frame: &[u8],
    mut asked: impl Iterator<Item = &'a RequestId> + Clone,
) -> Option<Bytes> {
    let is_answer = matches!(envelope.kind(), Kind::Response | Kind::Error);
    let span = envelope.id().filter(|_| matches!(envelope.id_class(), IdClass::Number | IdClass::String))?;
    let id = span.of(frame);
    if !is_answer || asked.clone().any(|own| own.as_bytes() == id) {
        return None;
    }
    let own = asked.find(|own| means_same(own.as_bytes(), id))?;
    Some(respelled_copy(frame, 0, span, own.as_bytes()))
}

/// Whether the message is this request or notification.
#[must_use]
pub fn is_method(envelope: &Envelope, frame: &[u8], method: &str) -> bool {
    envelope.method().and_then(|span| text(span, frame)).is_some_and(|found| found == method)
}

/// Whether the message begins a handshake.
#[must_use]
pub fn is_initialize(envelope: &Envelope, frame: &[u8]) -> bool {
    envelope.kind() == Kind::Request && is_method(envelope, frame, "initialize")
}

/// Whether the message ends a handshake.
#[must_use]
pub fn is_initialized(envelope: &Envelope, frame: &[u8]) -> bool {
    envelope.kind() == Kind::Notification && is_method(envelope, frame, "notifications/initialized")
}

/// Longest part of a handshake that is kept for a replay.
const MAX_REMEMBERED: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

    use super::*;

    fn parsed(frame: &str) -> Envelope {
        EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap()
    }

    #[test]
    fn legacy_messages_bear_the_session_and_initialize_does_not() {
        let mut dialed = Dialed::default();
        let (initialize, initialized, call) = (
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
        );
        dialed.remember(&parsed(initialize), initialize.as_bytes());
        dialed.negotiated(Some(HeaderValue::from_static("s1")), Some("2025-11-25"));
        assert!(dialed.handshake().is_none());
        dialed.remember(&parsed(initialized), initialized.as_bytes());
        assert_eq!(dialed.handshake(), Some((initialize.as_bytes(), initialized.as_bytes())));
        assert!(dialed.headers(Era::Legacy, &parsed(initialize), initialize.as_bytes()).is_empty());
        let headers = dialed.headers(Era::Legacy, &parsed(call), call.as_bytes());
        assert_eq!(headers[MCP_SESSION_ID], "s1");
        assert_eq!(headers[MCP_PROTOCOL_VERSION], "2025-11-25");
        assert_eq!(dialed.resume_headers(Some(b"7"))[LAST_EVENT_ID], "7");
        assert!(!dialed.resume_headers(Some(b"")).contains_key(LAST_EVENT_ID));
    }

    #[test]
    fn a_modern_notification_without_version_gets_that_of_the_requests() {
        let mut dialed = Dialed::default();
        let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"é","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        assert_eq!(dialed.era_of(&parsed(note), note.as_bytes()), Era::Legacy);
        let headers = dialed.headers(Era::Modern, &parsed(call), call.as_bytes());
        assert_eq!(headers["mcp-name"], "=?base64?w6k=?=");
        assert_eq!(dialed.era_of(&parsed(note), note.as_bytes()), Era::Modern);
        let headers = dialed.headers(Era::Modern, &parsed(note), note.as_bytes());
        assert_eq!(headers[MCP_PROTOCOL_VERSION], "2026-07-28");
        assert_eq!(headers["mcp-method"], "notifications/x");
    }
}
