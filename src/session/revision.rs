//! Which revision of MCP a message speaks, and so by which rules it is treated. Decided for each message
//! from its own bytes and headers, never for a connection: a server of both eras may serve both at a time
//! (rules E29 and V13).
//!
//! Nothing here negotiates. A version nobody knows is passed on as text; the peers decide about it.

use std::{borrow::Cow, cmp::Ordering, fmt};

use http::HeaderMap;
use shadowcat_codecs::envelope::{BatchElement, Envelope, Kind, text};

use super::{
    Reason,
    mirror::{self, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, Mismatch},
};

/// A revision of MCP, by the date it is known under.
///
/// Ordered by date; a text that is no date has no order, but equals itself (rule V14).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what is added here changes what a link must do")]
pub enum Revision<'a> {
    /// HTTP+SSE with two endpoints.
    V2024_11_05,
    /// Streamable HTTP, and the only one with batches.
    V2025_03_26,
    /// Adds the version header.
    V2025_06_18,
    /// Adds streams that are polled.
    V2025_11_25,
    /// No sessions, mirrored headers: the first of the modern ones.
    V2026_07_28,
    /// Any other text, as it came.
    Other(Cow<'a, str>),
}

/// Which of the two shapes of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a link must say what it does in each")]
pub enum Era {
    /// Up to 2025-11-25: a handshake, and on HTTP usually a session.
    Legacy,
    /// From 2026-07-28: each request says everything.
    Modern,
}

/// What the headers of a request say about its revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    version: Option<Revision<'a>>,
    has_session: bool,
}

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a link must say what it does with each")]
pub enum Class<'a> {
    /// A message of the modern era.
    Modern {
        /// What its `_meta` says, or for a notification without it, what the header says.
        revision: Revision<'a>,
    },
    /// `initialize`: a legacy session begins.
    LegacyStart {
        /// What the client asks for. The session has the revision the *result* names (rule V14).
        offered: Option<Revision<'a>>,
    },
    /// A message inside a legacy session, by its session header or version header.
    LegacyRunning {
        /// What the version header says, if there is one.
        revision: Option<Revision<'a>>,
    },
    /// A legacy message without either header: taken for 2025-03-26 (rule V5).
    LegacyBare,
}

impl<'a> Revision<'a> {
    /// The revision called `text`.
    #[must_use]
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        KNOWN.into_iter().find(|known| known.as_str() == text).unwrap_or(Self::Other(text))
    }

    /// Its text, as it stands in messages and headers.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
            Self::Other(text) => text,
        }
    }

    /// Its era; `None` for a text that is no date.
    #[must_use]
    pub fn era(&self) -> Option<Era> {
        let order = self.partial_cmp(&Revision::V2026_07_28)?;
        Some(if order.is_lt() { Era::Legacy } else { Era::Modern })
    }

    /// Whether an array of messages is a message (rule F8: 2025-03-26 only).
    #[must_use]
    pub fn has_batches(&self) -> bool {
        *self == Revision::V2025_03_26
    }

    /// One that may be kept: owns its text.
    #[must_use]
    pub fn into_owned(self) -> Revision<'static> {
        match self {
            Self::V2024_11_05 => Revision::V2024_11_05,
            Self::V2025_03_26 => Revision::V2025_03_26,
            Self::V2025_06_18 => Revision::V2025_06_18,
            Self::V2025_11_25 => Revision::V2025_11_25,
            Self::V2026_07_28 => Revision::V2026_07_28,
            Self::Other(text) => Revision::Other(Cow::Owned(text.into_owned())),
        }
    }
}

impl PartialOrd for Revision<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let (one, two) = (self.as_str(), other.as_str());
        // Dates of this form are in the order of their text.
        (one == two || (is_date(one) && is_date(two))).then(|| one.cmp(two))
    }
}

impl fmt::Display for Revision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Facts<'a> {
    /// What `headers` say. For a message that came without headers (stdio), use [`Facts::default`].
    ///
    /// # Errors
    ///
    /// The version header is there more than once, or is not text (rule V6: 400).
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Mismatch> {
        let version = mirror::plain(headers, &MCP_PROTOCOL_VERSION)?.map(Revision::new);
        Ok(Self { version, has_session: headers.contains_key(MCP_SESSION_ID) })
    }

    /// The version header.
    #[must_use]
    pub fn version(&self) -> Option<&Revision<'a>> {
        self.version.as_ref()
    }

    /// Whether there is a session header.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.has_session
    }
}

impl Class<'_> {
    /// The era of the message.
    #[must_use]
    pub fn era(&self) -> Era {
        match self {
            Self::Modern { .. } => Era::Modern,
            Self::LegacyStart { .. } | Self::LegacyRunning { .. } | Self::LegacyBare => Era::Legacy,
        }
    }
}

/// Where a message belongs, by its headers and its own bytes (rule V13).
///
/// That the headers and the body *agree* is for [`mirror::check`]; that a batch may be one, for
/// [`check_batch`].
///
/// # Errors
///
/// A message of the modern era, by its header, that cannot be one: a request without a version in `_meta`
/// ([`Reason::MissingMeta`], rule M2), or a response or a batch ([`Reason::InvalidRequest`], rules H4
/// and F8).
pub fn classify<'a>(facts: &Facts<'a>, envelope: &Envelope, frame: &'a [u8]) -> Result<Class<'a>, Reason> {
    if let Some(span) = envelope.protocol_version() {
        let Some(version) = text(span, frame) else {
            return Err(Reason::InvalidRequest { what: "the version in _meta is not text".into() });
        };
        return Ok(Class::Modern { revision: Revision::new(version) });
    }
    if let Some(revision) = facts.version().filter(|version| version.era() == Some(Era::Modern)) {
        let refused = |what: &str| Err(Reason::InvalidRequest { what: format!("{what} in revision {revision}") });
        return match envelope.kind() {
            Kind::Request => Err(Reason::MissingMeta { field: META_VERSION }),
            // A notification need not have `_meta` (rule V7 is about requests).
            Kind::Notification => Ok(Class::Modern { revision: revision.clone() }),
            Kind::Response | Kind::Error => refused("a client sends no responses"),
            Kind::Batch => refused("there are no batches"),
            Kind::Other => refused("neither a request nor a notification"),
        };
    }
    if envelope.kind() == Kind::Request && is_initialize(envelope, frame) {
        let offered = envelope.initialize_protocol_version().and_then(|span| text(span, frame));
        return Ok(Class::LegacyStart { offered: offered.map(Revision::new) });
    }
    if facts.has_session || facts.version.is_some() {
        return Ok(Class::LegacyRunning { revision: facts.version.clone() });
    }
    Ok(Class::LegacyBare)
}

/// Whether an array with these elements may be a message of `revision` (rule F8).
///
/// # Errors
///
/// [`Reason::InvalidRequest`]: another revision than 2025-03-26, an empty array, `initialize` or a message of
/// the modern era inside, or answers beside requests.
pub fn check_batch(elements: &[BatchElement], frame: &[u8], revision: &Revision<'_>) -> Result<(), Reason> {
    let refused = |what: String| Err(Reason::InvalidRequest { what });
    if !revision.has_batches() {
        return refused(format!("a batch, which revision {revision} does not have"));
    }
    if elements.is_empty() {
        return refused("an empty batch".into());
    }
    let (mut asks, mut answers) = (false, false);
    for envelope in elements.iter().map(BatchElement::envelope) {
        if is_initialize(envelope, frame) {
            return refused("initialize inside a batch".into());
        }
        if envelope.protocol_version().is_some() {
            return refused("a message of the modern era inside a batch".into());
        }
        match envelope.kind() {
            Kind::Request | Kind::Notification => asks = true,
            Kind::Response | Kind::Error => answers = true,
            Kind::Batch | Kind::Other => {}
        }
    }
    if asks && answers {
        return refused("requests and responses in one batch".into());
    }
    Ok(())
}

/// Whether a request of the modern era certainly says nothing of its client's capabilities, as it must
/// (rule M2). Its version, the other thing it must say, is for [`classify`].
///
/// A search of bytes, and so no reason to refuse anything: where the key may be spelled with an escape, or stands
/// in another place, this is `false`.
#[must_use]
pub fn lacks_capabilities(frame: &[u8]) -> bool {
    memchr::memmem::find(frame, META_CAPABILITIES.as_bytes()).is_none() && memchr::memchr(b'\\', frame).is_none()
}

fn is_initialize(envelope: &Envelope, frame: &[u8]) -> bool {
    envelope.method().and_then(|span| text(span, frame)).is_some_and(|method| method == "initialize")
}

/// `YYYY-MM-DD`, with a month and a day that can be.
fn is_date(text: &str) -> bool {
    let number = |digits: &[u8]| {
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else { return false };
    number(&[y1, y2, y3, y4]).is_some()
        && number(&[m1, m2]).is_some_and(|month| (1..=12).contains(&month))
        && number(&[d1, d2]).is_some_and(|day| (1..=31).contains(&day))
}

const KNOWN: [Revision<'static>; 5] =
    [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25, Revision::V2026_07_28];

/// The member of `params._meta` that makes a request modern.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The other member that each request must have.
const META_CAPABILITIES: &str = "\"io.modelcontextprotocol/clientCapabilities\"";

#[cfg(test)]
mod tests;
