//! Which parameters of which tools are mirrored in headers, learnt from the `tools/list` results that pass
//! by, and their values in a call (rule M1, `x-mcp-header`).
//!
//! Only tools with such parameters are remembered, and those whose marks break the rules; both bounded. A
//! tool nobody remembers is called without parameter headers, and a server that wants them says so with
//! −32020.

use std::{borrow::Cow, collections::HashMap, fmt, ops::ControlFlow};

use http::HeaderName;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

mod schema;

pub use schema::Params;

/// What is known of a server's tools. See the [module](self).
#[derive(Debug, Default)]
pub struct Tools {
    by_name: HashMap<Box<str>, Known>,
    /// What `by_name` costs, as counted by `cost`. Invariant: `bytes <= MAX_BYTES`.
    bytes: usize,
}

/// What one answer taught.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Learned {
    /// Tools in the answer.
    pub tools: usize,
    /// Those of them with parameters in headers.
    pub with_params: usize,
    /// Those whose marks cannot be followed, at most [`MAX_REPORTED`] of them: to be logged once. They stay in
    /// the list.
    pub invalid: Vec<Invalid>,
    /// Those that found no room.
    pub dropped: usize,
}

/// A tool whose marks cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The tool's name, shortened.
    pub tool: String,
    /// Why.
    pub fault: Fault,
}

/// Why the marks of a tool cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "either they are to blame or we are")]
pub enum Fault {
    /// They break this rule (MCP 2026-07-28, Streamable HTTP, "Schema Extension").
    Rule(&'static str),
    /// They may be as they should, but are beyond what we keep. Such a tool is called without their headers.
    Limit(&'static str),
}

/// A value of a call's arguments that a header can mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what JSON has, without null and containers")]
pub enum Argument<'a> {
    /// A string, its escapes decoded.
    Text(Cow<'a, str>),
    /// A number, as it is spelled.
    Number(&'a str),
    /// A boolean.
    Bool(bool),
}

#[derive(Debug)]
enum Known {
    Params(Params),
    /// Which rule its marks break.
    Invalid(&'static str),
}

impl Tools {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the answer to a `tools/list` request; that it is one, the caller knows from its id. What it says of
    /// a tool replaces what was known; a page that lacks a tool says nothing of it.
    ///
    /// An error, or a result that is no list, teaches nothing.
    pub fn learn(&mut self, frame: &[u8]) -> Learned {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            result: Option<Listed<'a>>,
        }
        #[derive(Deserialize)]
        struct Listed<'a> {
            #[serde(borrow)]
            tools: Option<&'a RawValue>,
        }
        let mut learned = Learned::default();
        if let Ok(Answer { result: Some(Listed { tools: Some(list) }) }) = serde_json::from_slice(frame) {
            // Tool by tool: a list of many million zeros is not first held as one.
            let each = EachTool { tools: self, learned: &mut learned };
            // What came before a fault stays learnt; the fault itself is for the client to find.
            let _ = serde_json::Deserializer::from_str(list.get()).deserialize_seq(each);
        }
        learned
    }

    /// The parameters of `tool` that are mirrored in headers, if there are any and their marks are valid.
    #[must_use]
    pub fn params_of(&self, tool: &str) -> Option<&Params> {
        match self.by_name.get(tool)? {
            Known::Params(params) => Some(params),
            Known::Invalid(_) => None,
        }
    }

    /// The rule that the marks of `tool` break, if they do.
    #[must_use]
    pub fn broken_rule_of(&self, tool: &str) -> Option<&'static str> {
        match self.by_name.get(tool)? {
            Known::Params(_) => None,
            Known::Invalid(rule) => Some(rule),
        }
    }

    fn learn_one(&mut self, tool: &str, input_schema: Option<&RawValue>, learned: &mut Learned) {
        let found = input_schema.map_or(Ok(None), |schema| schema::params(schema.get()));
        let known = match found {
            Ok(None) => {
                self.forget(tool);
                return;
            }
            Ok(Some(params)) => Known::Params(params),
            Err(fault) => {
                if learned.invalid.len() < MAX_REPORTED {
                    learned.invalid.push(Invalid { tool: tool.chars().take(MAX_SHOWN).collect(), fault });
                }
                match fault {
                    Fault::Rule(rule) => Known::Invalid(rule),
                    Fault::Limit(_) => {
                        self.forget(tool);
                        return;
                    }
                }
            }
        };
        self.forget(tool);
        let cost = known.cost(tool);
        if self.by_name.len() >= MAX_TOOLS || cost > MAX_BYTES - self.bytes {
            learned.dropped += 1;
            return;
        }
        learned.with_params += usize::from(matches!(known, Known::Params(_)));
        self.bytes += cost;
        self.by_name.insert(tool.into(), known);
    }

    fn forget(&mut self, tool: &str) {
        if let Some(known) = self.by_name.remove(tool) {
            self.bytes -= known.cost(tool);
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Rule(what) | Self::Limit(what)) = self;
        f.write_str(what)
    }
}

impl Known {
    fn cost(&self, tool: &str) -> usize {
        TOOL_COST
            + tool.len()
            + match self {
                Self::Params(params) => params.cost(),
                Self::Invalid(_) => 0,
            }
    }
}

impl Argument<'_> {
    /// The text a header shows: a number as it is spelled here.
    #[must_use]
    pub fn into_text(self) -> Cow<'static, str> {
        match self {
            Self::Text(text) => Cow::Owned(text.into_owned()),
            Self::Number(number) => Cow::Owned(number.to_owned()),
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        }
    }
}

/// Learns from the tools of a list, one after the other.
struct EachTool<'t> {
    tools: &'t mut Tools,
    learned: &'t mut Learned,
}

impl<'de> Visitor<'de> for EachTool<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tools")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Tool<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
            #[serde(borrow, rename = "inputSchema")]
            input_schema: Option<&'a RawValue>,
        }
        while let Some(raw) = list.next_element::<&RawValue>()? {
            self.learned.tools += 1;
            // An element that is no tool is skipped: the next one may be.
            if let Ok(tool) = serde_json::from_str::<Tool<'_>>(raw.get()) {
                self.tools.learn_one(&tool.name, tool.input_schema, self.learned);
            }
        }
        Ok(())
    }
}

/// Calls a function with each member of a JSON object; anything else has no members.
fn each_member<'a>(
    raw: &'a str,
    visit: impl FnMut(Cow<'a, str>, &'a RawValue) -> ControlFlow<()>,
) -> Result<(), Unreadable> {
    struct Members<F>(F);
    impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue) -> ControlFlow<()>> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Key(key)) = map.next_key()? {
                if (self.0)(key, map.next_value()?).is_break() {
                    return Err(serde::de::Error::custom("a member is there twice"));
                }
            }
            Ok(())
        }
    }
    if !raw.starts_with('{') {
        return Ok(());
    }
    serde_json::Deserializer::from_str(raw).deserialize_map(Members(visit)).map_err(|_| Unreadable)
}

/// A key, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The arguments cannot be read: a key is there twice, or is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

/// Mirrored arguments by header, as [`Params::read`] gives them; `None` where the call has no value.
pub type Arguments<'t, 'f> = Vec<(&'t HeaderName, Option<Argument<'f>>)>;

/// Most tools remembered.
pub const MAX_TOOLS: usize = 4096;
/// Most bytes their names, paths and headers may take.
pub const MAX_BYTES: usize = 1 << 20;
/// Most invalid tools named in one [`Learned`].
pub const MAX_REPORTED: usize = 16;
/// What a tool costs beside its texts: its place in the table.
const TOOL_COST: usize = 128;
/// Most characters of a tool's name in a report.
pub(super) const MAX_SHOWN: usize = 128;

#[cfg(test)]
mod tests;
