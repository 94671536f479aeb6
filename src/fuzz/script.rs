//! An input as a script: bytes that choose what happens next.

use bytes::Bytes;
use shadowcat_codecs::{
    Limits,
    envelope::{BatchElement, Envelope, EnvelopeParser},
};

/// What is left of the input.
pub(super) struct Script<'a>(&'a [u8]);

/// A message, parsed.
pub(super) struct Parsed {
    pub(super) frame: Bytes,
    pub(super) envelope: Envelope,
    pub(super) elements: Vec<BatchElement>,
}

impl<'a> Script<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next choice; `None` at the end.
    pub(super) fn next(&mut self) -> Option<usize> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(first))
    }

    /// A choice below `count`; the first at the end.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.next().unwrap_or_default() % count.max(1)
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A text of the input's own, up to the next 0.
    pub(super) fn text(&mut self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// `None` for what no link would hand to a session.
#[expect(clippy::disallowed_methods, reason = "this is no path of a peer's")]
pub(super) fn parsed(text: String) -> Option<Parsed> {
    let frame = Bytes::from(text);
    let mut parser = EnvelopeParser::new(Limits::default());
    let envelope = parser.parse(&frame).ok()?;
    let elements = parser.elements().to_vec();
    Some(Parsed { frame, envelope, elements })
}

/// Ids and tokens that are easily taken for one another.
pub(super) const IDS: [&str; 12] = [
    "1",
    "2",
    "1.0",
    "10e-1",
    "\"1\"",
    "\"\"",
    "\"a/b\"",
    r#""a\/b""#,
    r#""\u0061""#,
    "9007199254740993",
    "-1",
    "\"a very long id, so long that it is not kept in line but on the heap, wherever that may be\"",
];
