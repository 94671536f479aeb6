//! The grammar of event streams as cases, each named after the rule it shows. Used by `sse_grammar.rs` here
//! and by `benches/sse_differences.rs`, which shows the same cases to other crates.
//!
//! Rules: WHATWG HTML, "Parsing an event stream" (BOM, lines) and "Interpreting an event stream" (the rest).

/// A stream, and what has to come of it.
pub(crate) struct Case {
    /// The rule it shows.
    pub(crate) rule: Rule,
    pub(crate) stream: &'static [u8],
    pub(crate) events: &'static [Event],
    /// The reconnection time in the end.
    pub(crate) retry: Option<u64>,
}

/// Type, data, and last event id (empty if there is none).
pub(crate) type Event = (&'static str, &'static [u8], &'static str);

/// The sentences of the specification, shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// "one leading U+FEFF BYTE ORDER MARK character must be ignored if any are present"
    ByteOrderMark,
    /// "lines must be separated by either a CRLF pair, a single LF character, or a single CR character"
    LineEnds,
    /// "if the line starts with a colon, ignore the line"
    Comments,
    /// "if value starts with a space, remove it"; names are compared "with no case folding"
    Fields,
    /// "append the field value to the data buffer, then append a single LF"
    Data,
    /// "if the data buffer is an empty string, … return"; "if the data buffer's last character is an LF, remove it"
    Dispatch,
    /// "set the event type buffer to the field value"; it is reset with each event
    EventType,
    /// "if the field value does not contain NULL, set the last event ID buffer"; it is kept
    Id,
    /// "if the field value consists of only ASCII digits"
    Retry,
    /// "once the end of the file is reached, any pending data must be discarded"
    EndOfStream,
    /// "streams must be decoded using the UTF-8 decode algorithm", which replaces what is none
    Utf8,
}

const M: &str = "message";

const fn case(rule: Rule, stream: &'static [u8], events: &'static [Event]) -> Case {
    Case { rule, stream, events, retry: None }
}

const fn retry(stream: &'static [u8], events: &'static [Event], retry: Option<u64>) -> Case {
    Case { rule: Rule::Retry, stream, events, retry }
}

pub(crate) const CASES: &[Case] = &[
    // A byte order mark.
    case(Rule::ByteOrderMark, b"\xEF\xBB\xBFdata: x\n\n", &[(M, b"x", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBB\xBF\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBB\xBF: c\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBB\xBF\xEF\xBB\xBFdata: x\n\n", &[]),
    case(Rule::ByteOrderMark, b"\n\xEF\xBB\xBFdata: x\n\n", &[]),
    case(Rule::ByteOrderMark, b"data: x\n\n\xEF\xBB\xBFdata: y\n\n", &[(M, b"x", "")]),
    case(Rule::ByteOrderMark, b"data: \xEF\xBB\xBFx\n\n", &[(M, b"\xEF\xBB\xBFx", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBBdata: x\n\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::ByteOrderMark, b"\xEFdata: x\n\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBB\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::ByteOrderMark, b"\xEF\xBB\xBF", &[]),
    case(Rule::ByteOrderMark, b"\xEF\xBB", &[]),
    case(Rule::ByteOrderMark, b"\xFE\xFFdata: x\n\ndata: y\n\n", &[(M, b"y", "")]),
    // Line ends.
    case(Rule::LineEnds, b"data: x\n\n", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\r\r", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\r\n\r\n", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\n\r", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\n\r\n", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\r\n\n", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\r\n\r", &[(M, b"x", "")]),
    case(Rule::LineEnds, b"data: x\r\n", &[]),
    case(Rule::LineEnds, b"data: a\rdata: b\ndata: c\r\ndata: d\n\n", &[(M, b"a\nb\nc\nd", "")]),
    case(Rule::LineEnds, b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", &[(M, b"a", ""), (M, b"b", ""), (M, b"c", "")]),
    case(Rule::LineEnds, b"data: a\r\r\ndata: b\r\r\n", &[(M, b"a", ""), (M, b"b", "")]),
    case(Rule::LineEnds, b"\r\r\n\n\rdata: a\n\n", &[(M, b"a", "")]),
    case(Rule::LineEnds, b"data: a\x0bb\x0c\n\n", &[(M, b"a\x0bb\x0c", "")]),
    case(Rule::LineEnds, b"data: a\xC2\x85b\xE2\x80\xA8c\n\n", &[(M, b"a\xC2\x85b\xE2\x80\xA8c", "")]),
    case(Rule::LineEnds, b"\n\n\n\n\n", &[]),
    // Comments.
    case(Rule::Comments, b": x\n\n", &[]),
    case(Rule::Comments, b":\n\n", &[]),
    case(Rule::Comments, b":data: x\n\n", &[]),
    case(Rule::Comments, b":\ndata: x\n:\n\n", &[(M, b"x", "")]),
    case(Rule::Comments, b"data: a\n: between\ndata: b\n\n", &[(M, b"a\nb", "")]),
    case(Rule::Comments, b": 1\n\n: 2\r\n\r\n: 3\r\rdata: x\n\n: 4\n\n", &[(M, b"x", "")]),
    case(Rule::Comments, b": \xFF\xFE\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::Comments, b"id: 1\n: c\n\ndata: x\n\n", &[(M, b"x", "1")]),
    // Fields.
    case(Rule::Fields, b"data:x\n\n", &[(M, b"x", "")]),
    case(Rule::Fields, b"data:  x\n\n", &[(M, b" x", "")]),
    case(Rule::Fields, b"data:\tx\n\n", &[(M, b"\tx", "")]),
    case(Rule::Fields, b"data: x \n\n", &[(M, b"x ", "")]),
    case(Rule::Fields, b"data::x\n\n", &[(M, b":x", "")]),
    case(Rule::Fields, b"data: a: b\n\n", &[(M, b"a: b", "")]),
    case(Rule::Fields, b" data: x\n\n", &[]),
    case(Rule::Fields, b"data : x\n\n", &[]),
    case(Rule::Fields, b"Data: x\n\n", &[]),
    case(Rule::Fields, b"DATA: x\n\n", &[]),
    case(Rule::Fields, b"datas: x\n\n", &[]),
    case(Rule::Fields, b"dat: x\n\n", &[]),
    case(Rule::Fields, b"unknown: x\n\n", &[]),
    case(Rule::Fields, b"unknown\n\n", &[]),
    case(Rule::Fields, b"unknown: 1\ndata: x\nunknown: 2\n\n", &[(M, b"x", "")]),
    case(Rule::Fields, b"{\"data\": 1}\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::Fields, b"data\0: x\n\n", &[]),
    // Data.
    case(Rule::Data, b"data: a\ndata: b\n\n", &[(M, b"a\nb", "")]),
    case(Rule::Data, b"data: a\n\ndata: b\n\n", &[(M, b"a", ""), (M, b"b", "")]),
    case(Rule::Data, b"data: a\ndata\ndata: b\n\n", &[(M, b"a\n\nb", "")]),
    case(Rule::Data, b"data:\ndata: a\n\n", &[(M, b"\na", "")]),
    case(Rule::Data, b"data: a\ndata:\n\n", &[(M, b"a\n", "")]),
    case(Rule::Data, b"data: a\ndata: \ndata:\n\n", &[(M, b"a\n\n", "")]),
    case(Rule::Data, b"data: a\0b\n\n", &[(M, b"a\0b", "")]),
    case(Rule::Data, b"data: {\ndata:   \"a\": 1\ndata: }\n\n", &[(M, b"{\n  \"a\": 1\n}", "")]),
    case(Rule::Data, b"data: a\nevent: e\ndata: b\nid: 1\ndata: c\n\n", &[("e", b"a\nb\nc", "1")]),
    case(
        Rule::Data,
        b"data: 0123456789012345678901234567890123456789012345678901234567890123456789\ndata: x\n\n",
        &[(M, b"0123456789012345678901234567890123456789012345678901234567890123456789\nx", "")],
    ),
    case(
        Rule::Data,
        b"data: a\nevent: type\nid: identity\ndata: 012345678901234567890123456789\ndata: b\n\ndata: c\n\n",
        &[("type", b"a\n012345678901234567890123456789\nb", "identity"), (M, b"c", "identity")],
    ),
    // Dispatch.
    case(Rule::Dispatch, b"data\n\n", &[(M, b"", "")]),
    case(Rule::Dispatch, b"data:\n\n", &[(M, b"", "")]),
    case(Rule::Dispatch, b"data: \n\n", &[(M, b"", "")]),
    case(Rule::Dispatch, b"data\ndata\n\n", &[(M, b"\n", "")]),
    case(Rule::Dispatch, b"data\ndata\ndata\n\n", &[(M, b"\n\n", "")]),
    case(Rule::Dispatch, b"data\n\ndata\ndata\n\ndata:\n", &[(M, b"", ""), (M, b"\n", "")]),
    case(Rule::Dispatch, b"event: e\n\n", &[]),
    case(Rule::Dispatch, b"id: 1\n\n", &[]),
    case(Rule::Dispatch, b"event: e\nid: 1\n\n", &[]),
    case(Rule::Dispatch, b"data: x\n\n\n\n", &[(M, b"x", "")]),
    case(Rule::Dispatch, b"\n\ndata: x\n\n", &[(M, b"x", "")]),
    // The event type.
    case(Rule::EventType, b"event: e\ndata: x\n\n", &[("e", b"x", "")]),
    case(Rule::EventType, b"data: x\nevent: e\n\n", &[("e", b"x", "")]),
    case(Rule::EventType, b"event: e\ndata: x\n\ndata: y\n\n", &[("e", b"x", ""), (M, b"y", "")]),
    case(Rule::EventType, b"event: e\n\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::EventType, b"event: e\nevent: f\ndata: x\n\n", &[("f", b"x", "")]),
    case(Rule::EventType, b"event: e\nevent\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::EventType, b"event: e\nevent:\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::EventType, b"event:\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::EventType, b"event: message\ndata: x\n\n", &[(M, b"x", "")]),
    case(Rule::EventType, b"event:  e \ndata: x\n\n", &[(" e ", b"x", "")]),
    case(Rule::EventType, b"event: a:b\ndata: x\n\n", &[("a:b", b"x", "")]),
    case(Rule::EventType, b"event:e\r\ndata:x\r\n\r\n", &[("e", b"x", "")]),
    case(Rule::EventType, b"event: \xC3\xA9\ndata: x\n\n", &[("é", b"x", "")]),
    // Ids.
    case(Rule::Id, b"id: 1\ndata: x\n\n", &[(M, b"x", "1")]),
    case(Rule::Id, b"data: x\nid: 1\n\n", &[(M, b"x", "1")]),
    case(Rule::Id, b"id: 1\ndata: x\n\ndata: y\n\n", &[(M, b"x", "1"), (M, b"y", "1")]),
    case(Rule::Id, b"id: 1\n\ndata: y\n\n", &[(M, b"y", "1")]),
    case(Rule::Id, b"id: 1\ndata: x\n\nid\ndata: y\n\n", &[(M, b"x", "1"), (M, b"y", "")]),
    case(Rule::Id, b"id: 1\ndata: x\n\nid:\ndata: y\n\n", &[(M, b"x", "1"), (M, b"y", "")]),
    case(Rule::Id, b"id: 1\nid: 2\ndata: x\n\n", &[(M, b"x", "2")]),
    case(Rule::Id, b"id: 1\ndata: x\n\nid: 2\0\ndata: y\n\n", &[(M, b"x", "1"), (M, b"y", "1")]),
    case(Rule::Id, b"id: \0\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::Id, b"id: 123456789\x00123456789\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::Id, b"id: 1\ndata: x\n\nid: 2\n\ndata: y\n\n", &[(M, b"x", "1"), (M, b"y", "2")]),
    case(Rule::Id, b"id:  1 \ndata: x\n\n", &[(M, b"x", " 1 ")]),
    case(Rule::Id, b"id: a:b\ndata: x\n\n", &[(M, b"x", "a:b")]),
    case(Rule::Id, b"ID: 1\ndata: x\n\n", &[(M, b"x", "")]),
    case(
        Rule::Id,
        b"id: 0b5c9a2e-1f7d-4a1e-9c3b-5a2b7c8d9e0f_1732300000000_k3j2h1g0\ndata: x\n\ndata: y\n\n",
        &[
            (M, b"x", "0b5c9a2e-1f7d-4a1e-9c3b-5a2b7c8d9e0f_1732300000000_k3j2h1g0"),
            (M, b"y", "0b5c9a2e-1f7d-4a1e-9c3b-5a2b7c8d9e0f_1732300000000_k3j2h1g0"),
        ],
    ),
    // The reconnection time.
    retry(b"retry: 5\n\n", &[], Some(5)),
    retry(b"retry: 5\n", &[], Some(5)),
    retry(b"retry:5\ndata: x\n\n", &[(M, b"x", "")], Some(5)),
    retry(b"data: x\nretry: 5\n\n", &[(M, b"x", "")], Some(5)),
    retry(b"retry: 5\nretry: 6\n\n", &[], Some(6)),
    retry(b"retry: 5\nretry: x\n\n", &[], Some(5)),
    retry(b"retry: 5x\n\n", &[], None),
    retry(b"retry:  5\n\n", &[], None),
    retry(b"retry: 5 \n\n", &[], None),
    retry(b"retry: -5\n\n", &[], None),
    retry(b"retry: +5\n\n", &[], None),
    retry(b"retry: 5.0\n\n", &[], None),
    retry(b"retry: 0x5\n\n", &[], None),
    retry(b"retry: \xD9\xA5\n\n", &[], None),
    retry(b"retry\n\n", &[], None),
    retry(b"retry: 0\n\n", &[], Some(0)),
    retry(b"retry: 00012\n\n", &[], Some(12)),
    retry(b"retry: 4294967296\n\n", &[], Some(4_294_967_296)),
    retry(b"retry: 5", &[], None),
    // The end of the stream.
    case(Rule::EndOfStream, b"", &[]),
    case(Rule::EndOfStream, b"data: x", &[]),
    case(Rule::EndOfStream, b"data: x\n", &[]),
    case(Rule::EndOfStream, b"data: x\n\ndata: y\n", &[(M, b"x", "")]),
    case(Rule::EndOfStream, b"data: x\n\nid: 1\n", &[(M, b"x", "")]),
    case(Rule::EndOfStream, b"data: x\n\nevent: e\ndata: y", &[(M, b"x", "")]),
    case(Rule::EndOfStream, b"data: x\r", &[]),
    case(Rule::EndOfStream, b": c", &[]),
    // Not UTF-8: the bytes come through; a view replaces them.
    case(Rule::Utf8, b"data: \xFF\n\n", &[(M, b"\xFF", "")]),
    case(Rule::Utf8, b"data: \xC3\ndata: \xA9\n\n", &[(M, b"\xC3\n\xA9", "")]),
    case(Rule::Utf8, b"data: \xE2\x82\n\ndata: \xAC\n\n", &[(M, b"\xE2\x82", ""), (M, b"\xAC", "")]),
    case(Rule::Utf8, b"data: \xED\xA0\x80\n\ndata: y\n\n", &[(M, b"\xED\xA0\x80", ""), (M, b"y", "")]),
    case(Rule::Utf8, b"\xFF: x\ndata: y\n\n", &[(M, b"y", "")]),
    case(Rule::Utf8, "data: ⌛\u{1F980}\n\n".as_bytes(), &[(M, "⌛\u{1F980}".as_bytes(), "")]),
];
