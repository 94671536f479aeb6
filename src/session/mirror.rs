//! The headers of 2026-07-28 that repeat what the body says, so that those on the way need not parse it:
//! written for a POST of ours, or checked against the body of one that came (rules M1 and M2).
//!
//! Only for messages of the modern era ([`classify`](super::revision::classify)); legacy sessions write
//! [`MCP_PROTOCOL_VERSION`] and [`MCP_SESSION_ID`] from what was negotiated. Nothing is guessed: what the
//! body lacks, the headers lack, and the server decides (rule M4).

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use shadowcat_codecs::{
    Span,
    envelope::{Envelope, Kind, text},
};

use super::{
    Reason,
    tools::{Argument, Arguments, Tools},
};

mod number;
pub mod sentinel;

/// The revision of a message (rules V4, V7).
pub const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of a message.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The name, URI or task a request is about.
pub const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
/// What the header of a tool's parameter begins with. Lower case, as header names are kept.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
/// The legacy session (rules G9 to G14).
pub const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// Where a legacy stream resumes (rule G6).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A mirrored header that does not say what the body says. Answered with 400 and −32020 (rule M2).
///
/// `Display` shows the values, shortened, for whoever sent them; a log gets [`header`](Self::header) and
/// [`what`](Self::what), because values are payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    header: HeaderName,
    what: &'static str,
    expected: Option<Box<str>>,
    found: Option<Box<str>>,
}

/// What the body says in the place a header mirrors.
enum Body<'a> {
    /// Nothing, or nothing that can be mirrored.
    Absent,
    Text(Cow<'a, str>),
    /// Something that cannot be compared: a lone surrogate, or the place is there twice.
    Unreadable,
}

/// Where the value of [`MCP_NAME`] stands.
#[derive(Clone, Copy)]
enum Named {
    Name,
    Uri,
    TaskId,
}

/// The mirrored headers of a request or notification, for a POST of ours.
///
/// Left out is what the body lacks or a header cannot carry: a version or method with characters outside
/// visible ASCII (they may not be encoded), a text with a lone surrogate. With `tools`, a `tools/call` gets
/// the headers of its parameters; the frame is parsed for them only if the tool has some.
#[must_use]
pub fn headers_for(frame: &[u8], envelope: &Envelope, tools: Option<&Tools>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if !matches!(envelope.kind(), Kind::Request | Kind::Notification) {
        return headers;
    }
    let mut plain = |name: HeaderName, body: &Body<'_>| {
        if let Body::Text(text) = body
            && sentinel::is_plain(text)
            && let Ok(value) = HeaderValue::from_str(text)
        {
            headers.push((name, value));
        }
    };
    plain(MCP_PROTOCOL_VERSION, &Body::at(envelope.protocol_version(), frame));
    let method = Body::at(envelope.method(), frame);
    plain(MCP_METHOD, &method);
    let Body::Text(method) = method else { return headers };
    if envelope.kind() != Kind::Request {
        return headers;
    }
    let name = Named::by(&method).map_or(Body::Absent, |named| named.read(frame, envelope));
    if let Body::Text(text) = &name {
        headers.push((MCP_NAME, sentinel::encode(text)));
    }
    for (header, argument) in arguments(&method, &name, frame, tools).ok().into_iter().flatten() {
        headers.extend(argument.map(|argument| (header.clone(), argument_value(&argument))));
    }
    headers
}

/// Whether the mirrored headers of a message of the modern era say what its body says.
///
/// For a request, version, method and name (where the method has one) must be there; parameters only if
/// `tools` knows them. A notification may lack its headers, but they may not lie (rule Q2).
/// Responses and batches are not looked at. Headers of parameters nobody declared are ignored.
///
/// # Errors
///
/// The first header that is missing, repeated, malformed or says something else.
pub fn check(headers: &HeaderMap, frame: &[u8], envelope: &Envelope, tools: Option<&Tools>) -> Result<(), Mismatch> {
    let is_request = match envelope.kind() {
        Kind::Request => true,
        Kind::Notification => false,
        Kind::Response | Kind::Error | Kind::Batch | Kind::Other => return Ok(()),
    };
    let method = Body::at(envelope.method(), frame);
    for (header, body) in [(MCP_PROTOCOL_VERSION, &Body::at(envelope.protocol_version(), frame)), (MCP_METHOD, &method)]
    {
        let found = plain(headers, &header)?.map(Cow::Borrowed);
        if is_request || found.is_some() && !matches!(body, Body::Absent) {
            compare(header, found, body)?;
        }
    }
    let (true, Body::Text(method)) = (is_request, method) else { return Ok(()) };
    let Some(named) = Named::by(&method) else { return Ok(()) };
    let name = named.read(frame, envelope);
    compare(MCP_NAME, decoded(headers, &MCP_NAME)?, &name)?;
    let arguments = arguments(&method, &name, frame, tools).map_err(|header| Mismatch::unreadable(header.clone()))?;
    for (header, argument) in arguments {
        let found = decoded(headers, header)?;
        if let (Some(Argument::Number(number)), Some(found)) = (&argument, &found)
            && let Some(number) = number::safe_integer(number)
            && number::safe_integer(found) == Some(number)
        {
            continue;
        }
        compare(header.clone(), found, &argument.map_or(Body::Absent, |argument| Body::Text(argument.into_text())))?;
    }
    Ok(())
}

/// The one value of a header that is never encoded.
pub(super) fn plain<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Mismatch> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    sentinel::trimmed(value).map(Some).map_err(|what| Mismatch::malformed(name, what, value))
}

/// The one value of a header that may be encoded.
fn decoded<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Mismatch> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    sentinel::decode(value).map(Some).map_err(|what| Mismatch::malformed(name, what, value))
}

/// A header may be there once: who reads the first and who reads the last would disagree.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Mismatch> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Mismatch::new(name.clone(), "is there more than once", None, None)),
    }
}

fn compare(header: HeaderName, found: Option<Cow<'_, str>>, body: &Body<'_>) -> Result<(), Mismatch> {
    match (found, body) {
        (None, Body::Absent) => Ok(()),
        (Some(found), Body::Text(text)) if found == *text => Ok(()),
        (Some(found), Body::Text(text)) => {
            Err(Mismatch::new(header, "differs from the body", Some(text), Some(&found)))
        }
        (None, Body::Text(text)) => Err(Mismatch::new(header, "is missing", Some(text), None)),
        (Some(found), Body::Absent) => Err(Mismatch::new(header, "mirrors nothing in the body", None, Some(&found))),
        (_, Body::Unreadable) => Err(Mismatch::unreadable(header)),
    }
}

/// The mirrored arguments of a `tools/call`. `Err` holds a header of the tool, if the frame cannot be read.
fn arguments<'t, 'f>(
    method: &str,
    name: &Body<'_>,
    frame: &'f [u8],
    tools: Option<&'t Tools>,
) -> Result<Arguments<'t, 'f>, &'t HeaderName> {
    let (TOOLS_CALL, Body::Text(name), Some(tools)) = (method, name, tools) else { return Ok(Vec::new()) };
    tools.params_of(name).map_or_else(|| Ok(Vec::new()), |params| params.read(frame))
}

fn argument_value(argument: &Argument<'_>) -> HeaderValue {
    match argument {
        Argument::Number(number) => {
            number::safe_integer(number).map_or_else(|| sentinel::encode(number), HeaderValue::from)
        }
        Argument::Text(text) => sentinel::encode(text),
        Argument::Bool(value) => HeaderValue::from_static(if *value { "true" } else { "false" }),
    }
}

impl<'a> Body<'a> {
    fn at(span: Option<Span>, frame: &'a [u8]) -> Self {
        span.map_or(Self::Absent, |span| text(span, frame).map_or(Self::Unreadable, Self::Text))
    }
}

impl Named {
    /// Rule M1; the last line is of the tasks extension.
    fn by(method: &str) -> Option<Self> {
        match method {
            TOOLS_CALL | "prompts/get" => Some(Self::Name),
            "resources/read" => Some(Self::Uri),
            "tasks/get" | "tasks/update" | "tasks/cancel" => Some(Self::TaskId),
            _ => None,
        }
    }

    fn read<'a>(self, frame: &'a [u8], envelope: &Envelope) -> Body<'a> {
        match self {
            Self::Name => Body::at(envelope.name(), frame),
            Self::Uri => Body::at(envelope.uri(), frame),
            Self::TaskId => task_id(frame),
        }
    }
}

/// `params.taskId`, which no envelope has: only extensions route on it, so only here is it paid for.
fn task_id(frame: &[u8]) -> Body<'_> {
    #[derive(Deserialize)]
    struct Frame<'a> {
        #[serde(borrow)]
        params: Option<Params<'a>>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "taskId")]
        task_id: Option<Cow<'a, str>>,
    }
    // A key that is there twice is an error too, and has to be: two readers may take either.
    match serde_json::from_slice::<Frame<'_>>(frame) {
        Ok(Frame { params: Some(Params { task_id: Some(id) }) }) => Body::Text(id),
        Ok(_) => Body::Absent,
        Err(_) => Body::Unreadable,
    }
}

impl Mismatch {
    fn new(header: HeaderName, what: &'static str, expected: Option<&str>, found: Option<&str>) -> Self {
        Self { header, what, expected: expected.map(shown), found: found.map(shown) }
    }

    fn malformed(header: &HeaderName, what: &'static str, found: &HeaderValue) -> Self {
        Self::new(header.clone(), what, None, Some(&String::from_utf8_lossy(found.as_bytes())))
    }

    fn unreadable(header: HeaderName) -> Self {
        Self::new(header, "cannot be compared with the body", None, None)
    }

    /// Which header.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What is wrong with it, without any value.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// What the body says, shortened, if that is what it should have been.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// What it says, shortened, if it is there.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header {} {}", self.header, self.what)?;
        match (&self.found, &self.expected) {
            (Some(found), Some(expected)) => write!(f, ": it says {found:?}, the body says {expected:?}"),
            (Some(found), None) => write!(f, ": it says {found:?}"),
            (None, Some(expected)) => write!(f, ": the body says {expected:?}"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Mismatch {}

impl From<Mismatch> for Reason {
    fn from(mismatch: Mismatch) -> Self {
        Self::HeaderMismatch(Box::new(mismatch))
    }
}

/// As much of a value as an error shows.
fn shown(text: &str) -> Box<str> {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => text.get(..end).unwrap_or_default().chars().chain(['…']).collect(),
        None => text.into(),
    }
}

const TOOLS_CALL: &str = "tools/call";
/// The longest value in an error, in characters: a URI may be megabytes long.
const MAX_SHOWN: usize = 128;

#[cfg(test)]
mod tests;
