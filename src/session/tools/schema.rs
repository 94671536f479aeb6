//! The marks in one tool's `inputSchema`, and the values they point at in a call.
//!
//! The rules are syntactic (MCP 2026-07-28, Streamable HTTP, "Schema Extension"): no reference is followed,
//! nothing is validated but the marks.

use std::{borrow::Cow, ops::ControlFlow};

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Argument, Arguments, Fault, Unreadable, each_member};
use crate::session::mirror::MCP_PARAM_PREFIX;

/// The parameters of a tool that are mirrored in headers. Never empty.
#[derive(Debug)]
pub struct Params {
    headers: Vec<HeaderName>,
    root: Node,
    cost: usize,
}

/// A property on the way to marked ones, or a marked one.
#[derive(Debug, Default)]
struct Node {
    /// Index into `headers`, if it is marked.
    header: Option<usize>,
    properties: Vec<(Box<str>, Self)>,
}

/// The marked parameters of an `inputSchema`, if there are any.
pub(super) fn params(schema: &str) -> Result<Option<Params>, Fault> {
    // Nearly all tools have none. With a backslash about, the mark may be spelled with an escape.
    if !schema.contains(MARK) && !schema.contains('\\') {
        return Ok(None);
    }
    if schema.len() > MAX_SCHEMA_LEN {
        return Err(Fault::Limit("its schema is too long to be searched for x-mcp-header"));
    }
    let schema: Value = serde_json::from_str(schema).map_err(|_| Fault::Limit("its schema cannot be read"))?;
    let mut params = Params { headers: Vec::new(), root: Node::default(), cost: 0 };
    let mut root = Node::default();
    params.walk(&schema, Place::Root, &mut root)?;
    params.root = root;
    Ok((!params.headers.is_empty()).then_some(params))
}

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Reached from the root through `properties` alone.
    Property,
    /// Anywhere else, where no mark may be.
    Elsewhere,
}

impl Params {
    /// The mirrored values of a `tools/call` frame, one for each header. `None` stands for what gets no header:
    /// absent, null, or a container.
    ///
    /// # Errors
    ///
    /// One of the headers, if the arguments cannot be read: a key is there twice, or is not text.
    pub fn read<'t, 'f>(&'t self, frame: &'f [u8]) -> Result<Arguments<'t, 'f>, &'t HeaderName> {
        let mut arguments: Arguments<'t, 'f> = self.headers.iter().map(|header| (header, None)).collect();
        match call_arguments(frame).and_then(|raw| raw.map_or(Ok(()), |raw| self.root.read(raw.get(), &mut arguments)))
        {
            Ok(()) => Ok(arguments),
            Err(Unreadable) => self.headers.first().map_or_else(|| Ok(Vec::new()), Err),
        }
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    fn walk(&mut self, schema: &Value, place: Place, node: &mut Node) -> Result<(), Fault> {
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Array(schemas) => {
                return schemas.iter().try_for_each(|schema| self.walk(schema, Place::Elsewhere, &mut Node::default()));
            }
            _ => return Ok(()),
        };
        if let Some(mark) = schema.get(MARK) {
            if place != Place::Property {
                return Err(Fault::Rule("x-mcp-header on what is not a property reached through properties alone"));
            }
            node.header = Some(self.mark(mark, schema)?);
        }
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                // Data, not schemas.
                (MARK | "default" | "const" | "enum" | "examples", _) => {}
                ("properties", Value::Object(properties)) if place != Place::Elsewhere => {
                    for (name, schema) in properties {
                        let mut property = Node::default();
                        self.walk(schema, Place::Property, &mut property)?;
                        if property.header.is_some() || !property.properties.is_empty() {
                            self.cost += NODE_COST + name.len();
                            node.properties.push((name.as_str().into(), property));
                        }
                    }
                }
                // Maps whose keys are names, not keywords.
                (
                    "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                    Value::Object(schemas),
                ) => {
                    for schema in schemas.values() {
                        self.walk(schema, Place::Elsewhere, &mut Node::default())?;
                    }
                }
                (_, value) => self.walk(value, Place::Elsewhere, &mut Node::default())?,
            }
        }
        Ok(())
    }

    /// The index of the header a mark names.
    fn mark(&mut self, mark: &Value, schema: &Map<String, Value>) -> Result<usize, Fault> {
        let name = mark.as_str().ok_or(Fault::Rule("x-mcp-header is not text"))?;
        if name.is_empty() {
            return Err(Fault::Rule("x-mcp-header is empty"));
        }
        if !name.bytes().all(is_token) {
            return Err(Fault::Rule("x-mcp-header is no token of RFC 9110"));
        }
        if !matches!(schema.get("type").and_then(Value::as_str), Some("integer" | "string" | "boolean")) {
            return Err(Fault::Rule("x-mcp-header on what is neither an integer, a string nor a boolean"));
        }
        let header = HeaderName::try_from(format!("{MCP_PARAM_PREFIX}{name}"))
            .map_err(|_| Fault::Limit("x-mcp-header is too long for the name of a header"))?;
        if self.headers.contains(&header) {
            return Err(Fault::Rule("x-mcp-header is there twice, upper and lower case being equal"));
        }
        if self.headers.len() >= MAX_PARAMS {
            return Err(Fault::Limit("x-mcp-header on more parameters than can be remembered"));
        }
        self.cost += NODE_COST + header.as_str().len();
        self.headers.push(header);
        Ok(self.headers.len() - 1)
    }
}

impl Node {
    /// Fills in the values found in the object `raw`. Each level is searched once, so the cost is the length of
    /// the arguments times the depth of the marks.
    fn read<'f>(&self, raw: &'f str, arguments: &mut Arguments<'_, 'f>) -> Result<(), Unreadable> {
        let mut seen = vec![false; self.properties.len()];
        let mut found = Ok(());
        each_member(raw, |key, value| {
            let Some(index) = self.properties.iter().position(|(name, _)| **name == *key) else {
                return ControlFlow::Continue(());
            };
            let is_repeated = seen.get_mut(index).is_none_or(|seen| std::mem::replace(seen, true));
            if is_repeated {
                return ControlFlow::Break(());
            }
            if let Some((_, property)) = self.properties.get(index) {
                found = found.and_then(|()| property.take(value.get(), arguments));
            }
            ControlFlow::Continue(())
        })?;
        found
    }

    fn take<'f>(&self, raw: &'f str, arguments: &mut Arguments<'_, 'f>) -> Result<(), Unreadable> {
        if let Some(argument) = self.header.and_then(|index| arguments.get_mut(index)) {
            argument.1 = argument_at(raw)?;
        }
        if self.properties.is_empty() { Ok(()) } else { self.read(raw, arguments) }
    }
}

/// `params.arguments` of a `tools/call` frame.
fn call_arguments(frame: &[u8]) -> Result<Option<&RawValue>, Unreadable> {
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        params: Option<CallParams<'a>>,
    }
    #[derive(Deserialize)]
    struct CallParams<'a> {
        #[serde(borrow)]
        arguments: Option<&'a RawValue>,
    }
    let call: Call<'_> = serde_json::from_slice(frame).map_err(|_| Unreadable)?;
    Ok(call.params.and_then(|params| params.arguments))
}

/// A JSON value as what a header shows.
fn argument_at(raw: &str) -> Result<Option<Argument<'_>>, Unreadable> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(match raw.as_bytes().first() {
        Some(b'"') => {
            let Text(text) = serde_json::from_str(raw).map_err(|_| Unreadable)?;
            Some(Argument::Text(text))
        }
        Some(b't') => Some(Argument::Bool(true)),
        Some(b'f') => Some(Argument::Bool(false)),
        Some(b'-' | b'0'..=b'9') => Some(Argument::Number(raw)),
        _ => None,
    })
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const MARK: &str = "x-mcp-header";
/// Longest schema that is searched: parsed whole, and only if it may hold a mark.
const MAX_SCHEMA_LEN: usize = 1 << 20;
/// Most marked parameters of one tool: a request's headers have to fit somewhere.
const MAX_PARAMS: usize = 64;
/// What a property on the path, or a header, costs beside its text.
const NODE_COST: usize = 64;
